"""One module for each revision; they are history, and change no more."""

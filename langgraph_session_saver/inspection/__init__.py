"""Looking into a thread: its history, and what differs between two of its checkpoints."""

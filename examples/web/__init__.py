"""What the web examples share, from the engine and its tables to who calls and what is refused."""

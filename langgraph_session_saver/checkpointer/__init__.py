"""The scripts behind the methods of `BaseCheckpointSaver`."""

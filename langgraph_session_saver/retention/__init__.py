"""Which checkpoints of a thread are kept, and the deletion of the others."""

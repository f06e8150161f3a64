"""Sessions without a graph: the repository of their rows, and the service of their state."""

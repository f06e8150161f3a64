"""Complete applications built on the package's public surface."""

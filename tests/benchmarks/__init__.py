"""Measurements beside the official savers: `python -m tests.benchmarks --help`."""

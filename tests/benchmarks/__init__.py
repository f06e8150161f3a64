"""Measurements beside the official savers."""

"""Statements on threads, checkpoints, blobs and writes."""

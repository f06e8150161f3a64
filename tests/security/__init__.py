"""Secrets, owners, hostile bytes and encryption."""

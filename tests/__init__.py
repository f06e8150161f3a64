"""Tests of langgraph-session-saver."""

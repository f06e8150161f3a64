"""A graph and a `langgraph.json` for the LangGraph server."""

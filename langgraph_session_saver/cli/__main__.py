"""`python -m langgraph_session_saver.cli`."""

from langgraph_session_saver.cli import main

main()

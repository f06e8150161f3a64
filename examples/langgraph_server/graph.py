"""A graph for the LangGraph server, whose threads are rows of your own database.

Install:  pip install 'langgraph-session-saver[cli]' 'langgraph-cli[inmem]'
Run:      langgraph dev          (in this directory; `langgraph.json` names the checkpointer)
Look:     langgraph-session-saver threads list --url sessions.db

It is compiled without a checkpointer: the server brings the one that `langgraph.json` names.
"""

from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt


class State(MessagesState):
    build_status: str


def ask(state: State) -> dict[str, object]:
    """Wait for a name; a run that resumes this thread brings it."""
    asked = state["messages"][-1].content
    name = interrupt(f"Who is {asked!r} for?")
    return {"messages": [("ai", f"For {name}: done.")], "build_status": "success"}


builder = StateGraph(State)
builder.add_node("ask", ask)
builder.add_edge(START, "ask")
graph = builder.compile()

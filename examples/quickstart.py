"""A graph that remembers, in a database whose rows plain SQL reads.

Install:  pip install langgraph-session-saver langgraph
Run:      python -m examples.quickstart [FILE]      (FILE keeps the database)
Prints:

    turn 1: Noted: bread.
    turn 2: Noted: bread and eggs.

    What it stored, read with sqlite3:
    session   build_status  owner_id
    shopping  success       ada

    role       content
    user       We need bread.
    assistant  Noted: bread.
    user       And eggs.
    assistant  Noted: bread and eggs.
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_session_saver import SessionSaver


class State(MessagesState):
    build_status: str


def answer(state: State) -> dict[str, object]:
    """A node in place of a model: it sees every turn, because the saver kept them."""
    asked = [str(m.content) for m in state["messages"] if m.type == "human"]
    items = " and ".join(text.rstrip(".").split()[-1] for text in asked)
    return {"messages": [("ai", f"Noted: {items}.")], "build_status": "success"}


def chat(database: Path) -> None:
    builder = StateGraph(State)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    config: RunnableConfig = {"configurable": {"thread_id": "shopping", "owner_id": "ada"}}
    with SessionSaver.from_conn_string(f"sqlite:///{database}") as saver:
        graph = builder.compile(checkpointer=saver)
        for turn, text in enumerate(["We need bread.", "And eggs."], start=1):
            given = State(messages=[HumanMessage(text)], build_status="building")
            state = graph.invoke(given, config)
            print(f"turn {turn}: {state['messages'][-1].content}")


def read(database: Path) -> None:
    """No LangGraph, no saver: any program that speaks SQL sees the same rows."""
    with closing(sqlite3.connect(database)) as connection:
        print("\nWhat it stored, read with sqlite3:\nsession   build_status  owner_id")
        for row in connection.execute("SELECT id, build_status, owner_id FROM sessions"):
            print("{:<8}  {:<12}  {}".format(*row))
        print("\nrole       content")
        for row in connection.execute("SELECT role, content FROM messages ORDER BY id"):
            print("{:<9}  {}".format(*row))


def main(database: Path) -> None:
    chat(database)
    read(database)


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        main(Path(*sys.argv[1:2] or [folder, "quickstart.db"]))

"""Graph state as rows of your own tables, written in the transaction of each graph step.

Install:  pip install langgraph-session-saver langgraph
Run:      python -m examples.custom_projection [FILE]      (FILE keeps the database)
Prints:

    The application's own table, joined to the session by the checkpoint of both:
      cups, 20
      cakes, 3
    The function's column, and the renamed projection's row:
      complex, user, 20 guests
    A value that is refused is recorded, and the run goes on:
      bob, channel 'guests' holds 0, which is not a value that its function accepts: ValueError:
      nobody comes
    Or the node's write is refused, and not stored:
      channel 'guests' holds 0, which is not a value that its function accepts: ValueError:
      nobody comes. The write was not stored: correct the node and run the thread again
    … so the node, once mended, runs again:
      ada, complex
      bob, None
      cyd, simple
"""

import logging
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill, indent
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.graph import START, StateGraph, add_messages
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, text

from langgraph_session_saver import Projection, ProjectionError, SessionSaver, Step

lines = Table(
    "order_lines", MetaData(),
    Column("thread_id", String(255), primary_key=True),
    Column("article", String(80), primary_key=True),
    Column("pieces", Integer, nullable=False),
    Column("checkpoint_id", String(36), nullable=False),
)  # fmt: skip


class OrderLines(Projection):
    """The channel `basket` as rows: the key comes from the state, so a replay adds no row."""

    table, channels = lines, ["basket"]

    def rows(self, step: Step) -> Iterable[Mapping[str, Any]]:
        for article, pieces in step.values["basket"].items():
            yield {"thread_id": step.thread_id, "article": article, "pieces": pieces,
                   "checkpoint_id": step.checkpoint_id}  # fmt: skip


def complexity(guests: int) -> dict[str, str]:
    if guests < 1:
        raise ValueError("nobody comes")
    return {"complexity": "simple" if guests < 10 else "complex"}


PROJECTIONS: dict[str, Any] = {
    "basket": OrderLines(),
    "guests": complexity,  # a function: its value becomes columns of `sessions`, or is refused
    "chat": "messages",  # the built-in projection named `messages` reads the channel `chat`
}


class Party(TypedDict, total=False):
    chat: Annotated[list[AnyMessage], add_messages]
    guests: int
    basket: dict[str, int]


def read(state: Party) -> Party:
    return {"guests": int(str(state["chat"][-1].content).split()[0])}


def shop(state: Party) -> Party:
    return {"basket": {"cups": state["guests"], "cakes": 1 + state["guests"] // 8}}


def main(database: Path) -> None:
    logging.getLogger("langgraph_session_saver").setLevel(logging.ERROR)  # not said twice
    engine = create_engine(f"sqlite:///{database}")
    lines.metadata.create_all(engine)

    def show(query: str) -> None:
        with engine.connect() as connection:
            for row in connection.execute(text(query)):
                print(indent(fill(", ".join(map(str, row)), 90), "  "))

    def run(who: str, given: Party | None, node: Any = read, **options: Any) -> None:
        saver = SessionSaver(engine, projections=PROJECTIONS, **options)
        builder = StateGraph(Party).add_node("read", node).add_node(shop)
        graph = builder.add_edge(START, "read").add_edge("read", "shop").compile(saver)
        graph.invoke(given, {"configurable": {"thread_id": who}})

    run("ada", {"chat": [HumanMessage("20 guests")]})
    print("The application's own table, joined to the session by the checkpoint of both:")
    show("SELECT article, pieces FROM order_lines JOIN sessions USING (checkpoint_id)")
    print("The function's column, and the renamed projection's row:")
    show("SELECT complexity, role, content FROM sessions s JOIN messages ON session_id = s.id")
    run("bob", {"chat": [HumanMessage("0 guests")]})
    print("A value that is refused is recorded, and the run goes on:")
    show("SELECT session_id, message FROM session_errors")
    print("Or the node's write is refused, and not stored:")
    try:
        run("cyd", {"chat": [HumanMessage("0 guests")]}, on_projection_error="raise")
    except ProjectionError as error:
        print(indent(fill(str(error), 90), "  "))
    run("cyd", None, lambda _: {"guests": 1}, on_projection_error="raise")
    print("… so the node, once mended, runs again:")
    show("SELECT id, complexity FROM sessions ORDER BY id")
    engine.dispose()


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        main(Path(*sys.argv[1:2] or [folder, "party.db"]))

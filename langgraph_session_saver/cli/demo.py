"""`demo`: a database with three threads in it, and what to look at there."""

from __future__ import annotations

import shlex
from pathlib import Path
from tempfile import mkdtemp

import typer
from rich.text import Text

from langgraph_session_saver.cli.calls import Call, command
from langgraph_session_saver.cli.exits import Exit, without_passwords
from langgraph_session_saver.cli.printing import cell, quantity, status_cell, table
from langgraph_session_saver.saver import SessionSaver

_NEXT = (
    ("threads list", "which threads there are"),
    ("history demo-bakery", "what one of them did"),
    ("show demo-bakery", "its state now"),
    ("errors", "what failed"),
    ("usage", "tokens and cost"),
    ("stats", "what takes the space"),
)


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "demo", example=["demo", "demo --url demo.db"])(demo)


def demo(call: Call) -> None:
    """Run a small graph in three threads, and say what one can look at.

    Into a new file in the temporary directory, or where --url says; threads that are there
    already stay as they are. Needs langgraph.
    """
    try:
        from langgraph_session_saver.cli import bakery  # noqa: PLC0415 - needs langgraph
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "langgraph":
            raise
        call.fail(
            "the demo runs a graph, and langgraph is not installed: pip install langgraph, or "
            "'langgraph-session-saver[examples]'",
            Exit.FAILED,
        )
    # Not where the environment says: that may be a database that people work with.
    where = call.place.url or str(Path(mkdtemp(prefix="session-saver-demo-")) / "demo.db")
    call.place = call.place.at(where)
    with call.place.writing(creates=True) as database:
        place = call.place
        saver = SessionSaver(
            database.engine,
            pricing=bakery.price,
            schema=place.schema,
            table_prefix=place.table_prefix,
        )
        saver.setup()
        there = database.read(
            lambda conn: database.overview.threads_starting_with(conn, "demo-", 1000)
        )
        made = [name for name in bakery.ASKS if name not in there]
        with call.busy("running a graph"):
            bakery.run_all(saver, made)
        _, rows = database.read(lambda conn: database.overview.threads(conn, limit=1000))
    found = {row.thread_id: row for row in rows if row.thread_id in bakery.ASKS}
    options = _options(call)
    commands = [f"langgraph-session-saver {line} {options}" for line, _ in _NEXT]
    shown = table("thread", "asked", "status")
    for name, asked in bakery.ASKS.items():
        doing = ": ".join(filter(None, (found[name].status, found[name].status_node)))
        shown.add_row(cell(name, "cyan"), cell(asked), status_cell(doing))
    following = [Text("\nLook at them:", "bold")]
    for line, (_, why) in zip(commands, _NEXT, strict=True):
        following.append(Text(f"  {line}", overflow="fold").append(f"   # {why}", "dim"))
    call.answer(
        {"url": without_passwords(where), "made": made, "next": commands},
        f"{quantity(len(made), 'thread')} made in {without_passwords(where)}\n",
        shown,
        *following,
    )


def _options(call: Call) -> str:
    place = call.place
    named = [("--url", without_passwords(place.url or "")), ("--schema", place.schema),
             ("--table-prefix", place.table_prefix)]  # fmt: skip
    return " ".join(f"{name} {shlex.quote(value)}" for name, value in named if value)

"""`demo`: a database with three threads in it, and what to look at there."""

from __future__ import annotations

import shlex
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import typer
from rich.text import Text

from langgraph_session_saver.cli.command import Call, command
from langgraph_session_saver.cli.exit_codes import Exit, without_passwords
from langgraph_session_saver.cli.output import cell, quantity, status_cell, table
from langgraph_session_saver.cli.target import Database
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
        made, status = _run(call, database, bakery)
    commands = [f"langgraph-session-saver {line} {_options(call)}" for line, _ in _NEXT]
    shown = table("thread", "asked", "status")
    for name, asked in bakery.ASKS.items():
        shown.add_row(cell(name, "cyan"), cell(asked), status_cell(status[name]))
    following = [Text("\nLook at them:", "bold")]
    width = max(map(len, commands))
    for line, (_, why) in zip(commands, _NEXT, strict=True):
        following.append(Text(f"  {line:<{width}}  ", overflow="fold").append(f"# {why}", "dim"))
    call.answer(
        {"url": without_passwords(where), "made": made, "next": commands},
        f"{quantity(len(made), 'thread')} made in {without_passwords(where)}\n",
        shown,
        *following,
    )


def _run(call: Call, database: Database, bakery: Any) -> tuple[list[str], dict[str, str]]:
    """Make the threads that are not there; which these were, and how all of them stand."""
    place = call.place
    saver = SessionSaver(
        database.engine, pricing=bakery.price, schema=place.schema, table_prefix=place.table_prefix
    )
    saver.setup()
    overview = database.overview
    there = database.read(lambda conn: overview.threads_starting_with(conn, "demo-", 1000))
    made = [name for name in bakery.ASKS if name not in there]
    with call.busy("running a graph"):
        bakery.run_all(saver, made)
    status = {}
    for name in bakery.ASKS:
        [thread] = database.read(
            lambda conn, name=name: overview.threads(conn, session_id=name, limit=1)  # type: ignore[misc]
        )[1]
        status[name] = ": ".join(filter(None, (thread.status, thread.status_node)))
    return made, status


def _options(call: Call) -> str:
    place = call.place
    named = [("--url", without_passwords(place.url or "")), ("--schema", place.schema),
             ("--table-prefix", place.table_prefix)]  # fmt: skip
    return " ".join(f"{name} {shlex.quote(value)}" for name, value in named if value)

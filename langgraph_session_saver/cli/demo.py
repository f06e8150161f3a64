"""`demo`: creates a database with three threads, and lists commands to try on it."""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import mkdtemp

import typer
from rich.text import Text

from langgraph_session_saver.cli.command import Call, Exit, command
from langgraph_session_saver.cli.output import add_row, cell, status_cell, table
from langgraph_session_saver.inspection.text import quantity
from langgraph_session_saver.redaction import without_credentials

app = typer.Typer()

_NEXT = (
    ("threads list", "all threads"),
    ("history demo-bakery", "the checkpoints of one thread"),
    ("show demo-bakery", "its newest checkpoint"),
    ("errors", "failed tasks"),
    ("usage", "tokens and cost"),
    ("stats", "space by table, channel and thread"),
)


@command(app, "demo", "demo", "demo --url demo.db")
def demo(call: Call) -> None:
    """Run a small graph in three threads, to have something to inspect.

    Writes to a new file in the temporary directory, or to --url, where threads of an earlier demo
    are kept. Needs langgraph.
    """
    try:
        from langgraph_session_saver.cli import demo_graph  # noqa: PLC0415 - needs langgraph
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "langgraph":
            raise
        call.fail(
            "the demo runs a graph, and langgraph is not installed: pip install langgraph, or "
            "'langgraph-session-saver[examples]'",
            Exit.FAILED,
        )
    # The database in $LANGGRAPH_SESSION_SAVER_URL may be in production: it is not used.
    url = call.target.url or str(Path(mkdtemp(prefix="session-saver-demo-")) / "demo.db")
    target = replace(call.target, url=url)
    with target.writing(creates=True, pricing=demo_graph.PRICES) as database:
        present = database.read(database.queries.ids, "thread", "demo-")
        made = [name for name in demo_graph.REQUESTS if name not in present]
        with call.busy("running a graph"):
            demo_graph.run_all(database, made)
        shown = table("thread", "request", "status")
        for name, request in demo_graph.REQUESTS.items():
            [newest] = database.history(name, limit=1)
            add_row(shown, cell(name, "cyan"), request, status_cell(newest.doing))
    url = without_credentials(url)
    options = " ".join(
        f"--{name.replace('_', '-')} {shlex.quote(value)}"
        for name, value in asdict(replace(target, url=url)).items()
        if value
    )
    commands = [f"langgraph-session-saver {line} {options}" for line, _ in _NEXT]
    width = max(map(len, commands))
    hints = [
        f"  {line:<{width}}  # {what}" for line, (_, what) in zip(commands, _NEXT, strict=True)
    ]
    call.answer(
        {"url": url, "made": made, "next": commands},
        f"created {quantity(len(made), 'thread')} in {url}\n",
        shown,
        Text("\nCommands to try:", "bold"),
        *hints,
    )

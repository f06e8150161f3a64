"""The commands that report on all threads: `errors`, `usage` and `stats`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from langgraph_session_saver.cli.command import After, Call, InSession, Limit, command
from langgraph_session_saver.cli.output import add_row, cell, listing, table, whole
from langgraph_session_saver.inspection.text import format_bytes, printable
from langgraph_session_saver.projection.plain_json import shorten

app = typer.Typer()

LONGEST_MESSAGE = 400
"""Characters shown of an error's message; `--json` has all."""


@command(app, "errors", "errors", "errors --open --stack --session order")
def errors(
    call: Call,
    *,
    session: InSession = None,
    only_open: Annotated[
        bool, typer.Option("--open", help="Only errors that no later step has recovered from.")
    ] = False,
    stack: Annotated[bool, typer.Option("--stack", help="Print tracebacks too.")] = False,
    limit: Limit = 20,
    after: After = None,
) -> None:
    """List errors, newest first: failed tasks, and values that did not validate."""
    with call.target.reading() as database:
        session_id = database.find_id("session", session) if session else None
        recovered = False if only_open else None
        page = database.sessions.errors(session_id, recovered=recovered, limit=limit, after=after)
    shown = table("time (UTC)", "thread", "node", "error", "recovered (UTC)")
    for one in page:
        where = one.node or (f"channel {one.channel}" if one.channel else "")
        message = shorten(f"{one.type}: {one.message}", LONGEST_MESSAGE)
        error = whole(message, "" if one.recovered_at else "red")
        add_row(shown, one.created_at, one.thread_id, where, error, one.recovered_at or "no")
    stacks = [Text("\n" + printable(one.stack, keep="\n")) for one in page if stack and one.stack]
    answer = {"errors": [asdict(one) for one in page], "next": page.next}
    call.answer(answer, *listing(shown, len(page), "error", next_page=page.next), *stacks)


@command(app, "usage", "usage", "usage --by day,model --since 2026-11-01")
def usage(
    call: Call,
    *,
    by: Annotated[
        str, typer.Option(help="Group by agent, model or day, or by several with commas.")
    ] = "agent,model",
    session: InSession = None,
    owner: Annotated[str | None, typer.Option(help="Only sessions of this owner.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only from this time on (UTC).", show_default=False)
    ] = None,
    before: Annotated[
        datetime | None, typer.Option(help="Only before this time (UTC).", show_default=False)
    ] = None,
) -> None:
    """Sum up tokens and cost, most expensive first."""
    groups: Any = [part.strip() for part in by.split(",")]
    with call.target.reading() as database:
        session_id = database.find_id("session", session) if session else None
        found = database.sessions.usage_summary(
            *groups, session_id=session_id, owner_id=owner, since=_utc(since), before=_utc(before)
        )
    found = tuple(sorted(found, key=lambda one: (-one.cost_usd, -one.total_tokens)))
    sums = {name: sum(getattr(one, name) for one in found) for name in _NUMBERS}
    shown = table(*groups, ">calls", ">input", ">output", ">total", ">cost (USD)")
    for one in found:
        names = {"agent": one.agent_type, "model": one.model, "day": one.day}
        add_row(shown, *(names[part] for part in groups), *_numbers(asdict(one)))
    if len(found) > 1:
        blanks = [None for _ in groups[1:]]
        add_row(shown, cell("all", "bold"), *blanks, *_numbers(sums, "bold"))
    answer = {"by": groups, "usage": [asdict(one) for one in found], "sum": sums}
    call.answer(answer, *listing(shown, len(found), "call"))


_NUMBERS = ("calls", "input_tokens", "output_tokens", "total_tokens", "cost_usd")


def _numbers(row: Mapping[str, Any], style: str = "") -> list[Text]:
    counts = [cell(row[name], style) for name in _NUMBERS[:-1]]
    return [*counts, cell(f"{row['cost_usd']:.6f}", style)]


def _utc(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


@command(app, "stats", "stats")
def stats(call: Call, *, limit: Limit = 5) -> None:
    """Show which tables, channels and threads take the most space."""
    with call.target.reading() as database:
        queries = database.queries
        channels = database.read(lambda conn: queries.channels_by_bytes(conn, limit))
        threads = database.read(lambda conn: queries.threads_by_bytes(conn, limit))
        health = database.health()
    sizes = table("table", ">rows", ">size")
    for one in sorted(health.tables, key=lambda found: -(found.bytes or 0)):
        add_row(sizes, one.name, one.rows, format_bytes(one.bytes))
    add_row(sizes, cell("all", "bold"), None, cell(format_bytes(health.bytes), "bold"))
    by_channel = table("channel", ">versions", ">stored as changes", ">size")
    by_thread = table("thread", ">versions", ">size")
    for row in channels:
        add_row(by_channel, row.channel, row.versions, row.changes, format_bytes(int(row.bytes)))
    for row in threads:
        add_row(by_thread, whole(row.thread_id), row.versions, format_bytes(int(row.bytes)))
    answer = {
        "measured": health.measured,
        "bytes": health.bytes,
        "tables": [asdict(one) for one in health.tables],
        "channels": [row._asdict() | {"bytes": int(row.bytes)} for row in channels],
        "threads": [row._asdict() | {"bytes": int(row.bytes)} for row in threads],
    }
    measured = Text(f"(measured: {health.measured})", "dim")
    call.answer(answer, sizes, measured, "", by_channel, "", by_thread)

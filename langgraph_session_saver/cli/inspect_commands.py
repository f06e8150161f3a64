"""The commands that look: threads, history, one checkpoint, differences, errors, cost, space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from langgraph_session_saver.cli.command import Call, Limit, Namespace, Thread, command
from langgraph_session_saver.cli.output import cell, listing, status_cell, table, when
from langgraph_session_saver.cli.timelines import timeline, view
from langgraph_session_saver.inspection.checkpoint_view import Viewing
from langgraph_session_saver.inspection.text import amount, printable
from langgraph_session_saver.projection.plain_json import shorten

Session = Annotated[
    str | None, typer.Option("--session", help="Only of this session (its id, or the start of it).")
]

LONGEST_MESSAGE = 400
"""Characters of an error's message that a list shows; `--json` has all."""


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program."""
    threads = typer.Typer(no_args_is_help=True)
    app.add_typer(threads, name="threads", help="List threads.")
    command(threads, "list", example=["threads list", "threads list --status error --json"])(
        list_threads
    )
    command(app, "history", example=["history order-17", "history order-17 --limit 10 --json"])(
        history
    )
    command(app, "show", example=["show order-17", "show order-17 1f1e62ca-381"])(show)
    command(app, "diff", example=["diff order-17 1f1e62ca-36e", "diff order-17 1f1e62ca-36e 1f1f"])(
        diff
    )
    command(app, "errors", example=["errors", "errors --open --stack --session order"])(errors)
    command(app, "usage", example=["usage", "usage --by day,model --since 2026-11-01"])(usage)
    command(app, "stats", example="stats")(stats)


def list_threads(
    call: Call,
    *,
    session: Session = None,
    owner: Annotated[str | None, typer.Option(help="Only of this owner.")] = None,
    status: Annotated[
        str | None, typer.Option(help="Only pending, running, interrupted, error or done ones.")
    ] = None,
    limit: Limit = 20,
) -> None:
    """List threads, those that something was written to last first."""
    with call.place.reading() as database:
        named = call.session(database, session) if session else None
        total, rows = database.read(
            lambda conn: database.overview.threads(
                conn, session_id=named, owner_id=owner, status=status, limit=limit
            )
        )
    shown = table("thread", "session", "owner", "status", ">checkpoints", "updated (UTC)")
    for row in rows:
        doing = f"{row.status}: {row.status_node}" if row.status_node else row.status
        shown.add_row(
            cell(row.thread_id, whole=True),
            cell("" if row.session_id == row.thread_id else row.session_id),
            cell(row.owner_id),
            status_cell(doing),
            cell(f"{row.checkpoints:,}"),
            cell(when(row.updated_at)),
        )
    found = [row._asdict() for row in rows]
    call.answer(
        {"total": total, "threads": found}, *listing(shown, len(rows), "thread", total=total)
    )


def history(
    call: Call,
    thread: Thread,
    *,
    namespace: Namespace = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 50,
    before: Annotated[
        str | None, typer.Option(help="Only checkpoints older than this one (its whole id).")
    ] = None,
) -> None:
    """Show what a thread did, as a timeline with its branches, newest first.

    Values are not read, and nothing that is stored is imported.
    """
    with call.place.reading() as database:
        found = database.saver.history(
            call.thread(database, thread), checkpoint_ns=namespace, limit=limit, before=before
        )
    call.answer(found.to_dict(), *timeline(found, call.out.width))


def show(
    call: Call,
    thread: Thread,
    checkpoint: Annotated[
        str | None, typer.Argument(help="A checkpoint's id, or the start of it; default the newest")
    ] = None,
    *,
    namespace: Namespace = "",
) -> None:
    """Show a checkpoint: its values, what runs next, and what its tasks wrote.

    Stored types are named, not imported.
    """
    with call.place.reading() as database:
        thread_id = call.thread(database, thread)
        script = Viewing(database.context).view(
            database.saver.serde, thread_id, checkpoint, namespace
        )
        found = database.run(script)
    call.answer(found.to_dict(), *view(found, call.out.width))


def diff(
    call: Call,
    thread: Thread,
    a: Annotated[str, typer.Argument(help="A checkpoint's id, or the start of it.")],
    b: Annotated[str | None, typer.Argument(help="Another; default the newest.")] = None,
    *,
    namespace: Namespace = "",
) -> None:
    """Show what differs between two checkpoints of a thread, value by value.

    Values are decoded structurally; the exit code is 0 whether anything differs or not.
    """
    with call.place.reading() as database:
        thread_id = call.thread(database, thread)
        found = database.saver.diff(thread_id, a, b, checkpoint_ns=namespace)
    call.answer(found.to_dict(), _coloured(str(found)))


def _coloured(text: str) -> Text:
    """Green for what came, red for what went."""
    shown = Text(text, overflow="fold")
    for pattern, style in ((r"(?m)^ *\+.*$", "green"), (r"(?m)^ *-.*$", "red")):
        shown.highlight_regex(pattern, style)
    return shown


def errors(
    call: Call,
    *,
    session: Session = None,
    only_open: Annotated[
        bool, typer.Option("--open", help="Only those that the thread has not got over.")
    ] = False,
    stack: Annotated[bool, typer.Option("--stack", help="Print tracebacks too.")] = False,
    limit: Limit = 20,
    after: Annotated[str | None, typer.Option(help="The `next` of the page before.")] = None,
) -> None:
    """List what failed, newest first: tasks that raised, and values that were refused."""
    with call.place.reading() as database:
        named = call.session(database, session) if session else None
        recovered = False if only_open else None
        page = database.saver.sessions.errors(named, recovered=recovered, limit=limit, after=after)
    shown = table("time (UTC)", "thread", "node", "error", "recovered (UTC)")
    for one in page:
        shown.add_row(
            cell(when(one.created_at)),
            cell(one.thread_id),
            cell(one.node or (f"channel {one.channel}" if one.channel else "")),
            cell(
                shorten(f"{one.type}: {one.message}", LONGEST_MESSAGE),
                "" if one.recovered_at else "red",
                whole=True,
            ),
            cell(when(one.recovered_at) or "no"),
        )
    stacks = [Text("\n" + printable(one.stack, keep="\n")) for one in page if stack and one.stack]
    answer = {"errors": [asdict(one) for one in page], "next": page.next}
    more = page.next is not None
    call.answer(answer, *listing(shown, len(page), "error", has_more=more), *stacks)


def usage(
    call: Call,
    *,
    by: Annotated[
        str, typer.Option(help="What to sum by: agent, model, day, or several with commas.")
    ] = "agent,model",
    session: Session = None,
    owner: Annotated[str | None, typer.Option(help="Only of this owner's sessions.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only from this moment on (UTC).", show_default=False)
    ] = None,
    before: Annotated[
        datetime | None, typer.Option(help="Only before this moment (UTC).", show_default=False)
    ] = None,
) -> None:
    """Sum up tokens and cost, the dearest first."""
    groups: Any = [part.strip() for part in by.split(",")]
    with call.place.reading() as database:
        named = call.session(database, session) if session else None
        found = database.saver.sessions.usage_summary(
            *groups, session_id=named, owner_id=owner, since=_utc(since), before=_utc(before)
        )
    found = tuple(sorted(found, key=lambda one: (-one.cost_usd, -one.total_tokens)))
    sums = {name: sum(getattr(one, name) for one in found) for name in _NUMBERS}
    shown = table(*groups, ">calls", ">input", ">output", ">total", ">cost (USD)")
    for one in found:
        names = {"agent": one.agent_type, "model": one.model, "day": one.day}
        shown.add_row(*(cell(names[part]) for part in groups), *_numbers(asdict(one)))
    if len(found) > 1:
        blanks = [cell("") for _ in groups[1:]]
        shown.add_row(cell("all", "bold"), *blanks, *_numbers(sums, "bold"))
    answer = {"by": groups, "usage": [asdict(one) for one in found], "sum": sums}
    call.answer(answer, *listing(shown, len(found), "call"))


_NUMBERS = ("calls", "input_tokens", "output_tokens", "total_tokens", "cost_usd")


def _numbers(row: Mapping[str, Any], style: str = "") -> list[Text]:
    counts = [cell(f"{row[name]:,}", style) for name in _NUMBERS[:-1]]
    return [*counts, cell(f"{row['cost_usd']:.6f}", style)]


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def stats(call: Call, *, limit: Limit = 5) -> None:
    """Show what takes the space: tables, channels of the state, threads."""
    with call.place.reading() as database:
        database.verify()
        health = database.saver.health()
        overview = database.overview
        channels = database.read(lambda conn: overview.channels_by_bytes(conn, limit))
        threads = database.read(lambda conn: overview.threads_by_bytes(conn, limit))
    sizes = table("table", ">rows", ">takes")
    for one in sorted(health.tables, key=lambda found: -(found.bytes or 0)):
        sizes.add_row(cell(one.name), cell(f"{one.rows:,}"), cell(amount(one.bytes)))
    sizes.add_row(cell("all", "bold"), cell(""), cell(amount(health.bytes), "bold"))
    by_channel = table("channel", ">versions", ">stored as changes", ">bytes of values")
    for row in channels:
        by_channel.add_row(
            cell(row.channel), cell(f"{row.versions:,}"), cell(f"{row.changes:,}"),
            cell(amount(int(row.bytes))),
        )  # fmt: skip
    by_thread = table("thread", ">versions", ">bytes of values")
    for row in threads:
        by_thread.add_row(
            cell(row.thread_id, whole=True), cell(f"{row.versions:,}"), cell(amount(int(row.bytes)))
        )
    answer = {
        "measured": health.measured,
        "bytes": health.bytes,
        "tables": [{"name": t.name, "rows": t.rows, "bytes": t.bytes} for t in health.tables],
        "channels": [row._asdict() | {"bytes": int(row.bytes)} for row in channels],
        "threads": [row._asdict() | {"bytes": int(row.bytes)} for row in threads],
    }
    blank = Text("")
    call.answer(
        answer, sizes, Text(f"({health.measured})", "dim"), blank, by_channel, blank, by_thread
    )

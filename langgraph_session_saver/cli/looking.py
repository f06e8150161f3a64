"""The commands that look: threads, history, one checkpoint, differences, errors, cost, space."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from langgraph_session_saver.cli.calls import Call, Limit, Namespace, Thread, command
from langgraph_session_saver.cli.printing import cell, quantity, status_cell, table, when
from langgraph_session_saver.cli.timelines import timeline, view
from langgraph_session_saver.inspection.showing import amount, printable
from langgraph_session_saver.inspection.viewing import Viewing
from langgraph_session_saver.plain import shorten

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
    command(app, "usage", example=["usage", "usage --by session --since 2026-11-01"])(usage)
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
    call.answer({"total": total, "threads": found}, *_listing(shown, rows, total, "thread"))


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
        script = Viewing(database.core).view(database.saver.serde, thread_id, checkpoint, namespace)
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
    thread: Annotated[
        str | None, typer.Option("--thread", help="Only of this thread (the start of its id).")
    ] = None,
    session: Session = None,
    kind: Annotated[
        str | None, typer.Option(help="Only `error` (a task failed) or `projection` (a value).")
    ] = None,
    only_open: Annotated[
        bool, typer.Option("--open", help="Only those that the thread has not got over.")
    ] = False,
    stack: Annotated[bool, typer.Option("--stack", help="Print tracebacks too.")] = False,
    limit: Limit = 20,
) -> None:
    """List what failed: tasks that raised, and values that a projection refused."""
    with call.place.reading() as database:
        options: dict[str, Any] = {
            "thread_id": call.thread(database, thread) if thread else None,
            "session_id": call.session(database, session) if session else None,
            "kind": kind,
            "only_open": only_open,
            "limit": limit,
        }
        total, rows = database.read(lambda conn: database.overview.errors(conn, **options))
    shown = table("time (UTC)", "thread", "node", "error", "recovered (UTC)")
    for row in rows:
        where = row.node or (f"channel {row.channel}" if row.channel else "")
        shown.add_row(
            cell(when(row.created_at)),
            cell(row.thread_id),
            cell(where),
            cell(
                shorten(f"{row.type}: {row.message}", LONGEST_MESSAGE),
                "" if row.recovered_at else "red",
                whole=True,
            ),
            cell(when(row.recovered_at) or "no"),
        )
    stacks = [Text("\n" + printable(row.stack, keep="\n")) for row in rows if stack and row.stack]
    found = [row._asdict() for row in rows]
    call.answer({"total": total, "errors": found}, *_listing(shown, rows, total, "error"), *stacks)


def usage(
    call: Call,
    *,
    by: Annotated[
        str, typer.Option(help="What to sum by: agent, model, session, or several with commas.")
    ] = "agent,model",
    session: Session = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only from this moment on (UTC).", show_default=False)
    ] = None,
) -> None:
    """Sum up tokens and cost, the dearest first."""
    names = {"agent": "agent_type", "model": "model", "session": "session_id"}
    groups = [part.strip() for part in by.split(",")]
    if unknown := [part for part in groups if part not in names]:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(names)}")
    start = since.replace(tzinfo=UTC) if since and since.tzinfo is None else since
    with call.place.reading() as database:
        named = call.session(database, session) if session else None
        rows = database.read(
            lambda conn: database.overview.usage(
                conn, [names[part] for part in groups], session_id=named, since=start
            )
        )
    found = [_usage_row(row, [names[part] for part in groups]) for row in rows]
    sums = {
        key: sum(row[key] for row in found)
        for key in ("calls", "input_tokens", "output_tokens", "total_tokens", "cost_usd")
    }
    shown = table(*groups, ">calls", ">input", ">output", ">total", ">cost (USD)")
    for row in [*found, *([sums] if len(found) > 1 else [])]:
        style = "bold" if row is sums else ""
        names_of = [row.get(names[part], "") for part in groups]
        if row is sums:
            names_of[0] = "all"
        numbers = [f"{row[key]:,}" for key in list(sums)[:-1]]
        shown.add_row(
            *(cell(text, style) for text in [*names_of, *numbers, f"{row['cost_usd']:.6f}"])
        )
    answer = {"by": [names[part] for part in groups], "usage": found, "sum": sums}
    call.answer(answer, *_listing(shown, rows, len(rows), "row"))


def _usage_row(row: Any, groups: list[str]) -> dict[str, Any]:
    numbers = ("calls", "input_tokens", "output_tokens", "total_tokens")
    return {
        **{name: getattr(row, name) for name in groups},
        **{name: int(getattr(row, name)) for name in numbers},
        "cost_usd": round(float(row.cost_usd), 9),
    }


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


def _listing(shown: Any, rows: Any, total: int, what: str) -> list[Any]:
    """A table, or that there is nothing, and how many more there are."""
    if not rows:
        return [Text(f"no {what}s", "dim")]
    if len(rows) < total:
        more = f"{len(rows):,} of {quantity(total, what)}: --limit shows more"
        return [shown, Text(more, "dim")]
    return [shown]

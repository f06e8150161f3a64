"""The commands on threads and their checkpoints: `threads list`, `history`, `show`, `diff`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from langgraph_session_saver.cli.command import (
    Call,
    InSession,
    Limit,
    Namespace,
    Thread,
    command,
)
from langgraph_session_saver.cli.output import (
    add_row,
    cell,
    listing,
    properties,
    status_cell,
    table,
    whole,
)
from langgraph_session_saver.inspection.history import History
from langgraph_session_saver.inspection.text import (
    brief,
    format_bytes,
    format_names,
    is_internal,
    quantity,
    record_to_dict,
)
from langgraph_session_saver.inspection.values import ChannelValue, CheckpointView

app = typer.Typer(no_args_is_help=True)
threads = typer.Typer(no_args_is_help=True)
app.add_typer(threads, name="threads", help="List threads.")


@command(threads, "list", "threads list", "threads list --status error --json")
def list_threads(
    call: Call,
    *,
    session: InSession = None,
    owner: Annotated[str | None, typer.Option(help="Only threads of this owner.")] = None,
    status: Annotated[
        str | None,
        typer.Option(help="Only this status: pending, running, interrupted, error or done."),
    ] = None,
    limit: Limit = 20,
) -> None:
    """List threads, most recently updated first."""
    with call.target.reading() as database:
        session_id = database.find_id("session", session) if session else None
        total, rows = database.read(
            lambda conn: database.queries.threads(
                conn, session_id=session_id, owner_id=owner, status=status, limit=limit
            )
        )
    shown = table("thread", "session", "owner", "status", ">checkpoints", "updated (UTC)")
    for row in rows:
        session = None if row.session_id == row.thread_id else row.session_id
        status_text = status_cell(row.status, row.status_node)
        add_row(
            shown, whole(row.thread_id), session, row.owner_id, status_text, row.checkpoints,
            row.updated_at,
        )  # fmt: skip
    found = [row._asdict() for row in rows]
    call.answer(
        {"total": total, "threads": found}, *listing(shown, len(rows), "thread", total=total)
    )


@command(app, "history", "history order-17", "history order-17 --limit 10 --json")
def history(
    call: Call,
    thread: Thread,
    *,
    namespace: Namespace = "",
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=1000, help="Maximum number of checkpoints.")
    ] = 50,
    before: Annotated[
        str | None, typer.Option(help="Only checkpoints older than this one (a full id).")
    ] = None,
) -> None:
    """Show a thread's checkpoints as a tree with its branches, newest first.

    No values are read, and no stored type is imported.
    """
    with call.target.reading() as database:
        found = database.history(
            database.find_id("thread", thread), checkpoint_ns=namespace, limit=limit, before=before
        )
    call.answer(found.to_dict(), *_history(found, call.out.width))


def _history(found: History, width: int) -> Iterator[RenderableType]:
    yield whole(found.title)
    if found.entries:
        shown = Text(found.table(width), no_wrap=True, overflow="ellipsis")
        shown.highlight_regex(r"(?m)^[ *|/_]+", "dim")
        shown.highlight_words(["done"], "green")
        shown.highlight_words(["interrupted:", "pending:"], "yellow")
        shown.highlight_words(["error:", "cannot be decoded"], "red")
        yield Group(shown)  # printed by itself, Rich would drop its `no_wrap`
    if found.older is not None:
        yield Text(f"older: --before {found.older}", "dim", overflow="fold")


@command(app, "show", "show order-17", "show order-17 1f1e62ca-381")
def show(
    call: Call,
    thread: Thread,
    checkpoint: Annotated[
        str | None,
        typer.Argument(help="Checkpoint id, or a unique start of it; default the newest."),
    ] = None,
    *,
    namespace: Namespace = "",
) -> None:
    """Show a checkpoint: its values, the nodes that run next, and its pending writes.

    Stored types are shown by name, and are not imported.
    """
    with call.target.reading() as database:
        found = database.view(database.find_id("thread", thread), checkpoint, namespace)
    call.answer(record_to_dict(found), *_checkpoint(found, call.out.width))


def _checkpoint(found: CheckpointView, width: int) -> Iterator[RenderableType]:
    yield properties(
        [
            ("thread", found.thread_id),
            ("namespace", found.checkpoint_ns or None),
            ("checkpoint", found.checkpoint_id),
            ("parent", found.parent_id),
            ("run", found.run_id),
            ("step", f"{'?' if found.step is None else found.step} ({found.source or '?'})"),
            ("time (UTC)", found.time),
            ("next nodes", format_names(found.due) or "none"),
        ]
    )
    yield ""
    shown = table("channel", ">size", "value")
    for one in found.values:
        if not is_internal(one.channel):
            add_row(shown, cell(one.channel, "cyan"), format_bytes(one.size), _value(one, width))
    yield shown if shown.row_count else Text("no values", "dim")
    if hidden := len(found.values) - shown.row_count:
        yield Text(f"{quantity(hidden, 'internal channel')} not shown: use --json", "dim")
    if found.writes:
        yield ""
        written = table("written by", "channel", "value")
        for write in found.writes:
            value = whole(brief(write.value, 2 * width))
            add_row(written, write.node, cell(write.channel, "cyan"), value)
        yield written


def _value(one: ChannelValue, width: int) -> Text:
    """A value of a few lines with its note, or why it cannot be decoded."""
    if one.value is None and one.note:
        return whole(one.note, "red")
    text = whole(brief(one.value, 4 * width))
    return text.append(f"\n({one.note})", "dim") if one.note else text


@command(app, "diff", "diff order-17 1f1e62ca-36e", "diff order-17 1f1e62ca-36e 1f1f")
def diff(
    call: Call,
    thread: Thread,
    a: Annotated[str, typer.Argument(help="Checkpoint id, or a unique start of it.")],
    b: Annotated[str | None, typer.Argument(help="Another; default the newest.")] = None,
    *,
    namespace: Namespace = "",
) -> None:
    """Show the differences between two checkpoints of a thread, channel by channel.

    Stored types are not imported. The exit code is 0 whether the checkpoints differ or not.
    """
    with call.target.reading() as database:
        found = database.diff(database.find_id("thread", thread), a, b, checkpoint_ns=namespace)
    shown = Text(str(found), overflow="fold")
    shown.highlight_regex(r"(?m)^ *\+.*$", "green")
    shown.highlight_regex(r"(?m)^ *-.*$", "red")
    call.answer(found.to_dict(), shown)

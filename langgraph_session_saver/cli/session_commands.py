"""The commands on sessions, threads and their checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text
from typer import Argument, Option

from langgraph_session_saver.cli.command import After, Call, InSession, Limit, Yes, command
from langgraph_session_saver.cli.output import (
    add_row,
    cell,
    listing,
    properties,
    status_cell,
    table,
    table_of_used,
    whole,
)
from langgraph_session_saver.cli.target import Database
from langgraph_session_saver.inspection import text
from langgraph_session_saver.inspection.history import History
from langgraph_session_saver.inspection.values import ChannelValue, CheckpointView
from langgraph_session_saver.projection.content import json_text
from langgraph_session_saver.projection.plain_json import shorten
from langgraph_session_saver.schema.tables import shared_tables
from langgraph_session_saver.sessions.records import ThreadRecord, UsageSummary

app = typer.Typer(no_args_is_help=True)
sessions = typer.Typer(no_args_is_help=True)
app.add_typer(sessions, name="sessions", help="List, show and delete sessions.")
threads = typer.Typer(no_args_is_help=True)
app.add_typer(threads, name="threads", help="List threads.")

Session = Annotated[str, Argument(help="Session id, or a unique start of it.")]

Thread = Annotated[str, Argument(help="Thread id, or a unique start of it.")]

Namespace = Annotated[str, Option("--namespace", help="Namespace of a subgraph; default the root.")]


@command(sessions, "list", "sessions list", "sessions list --owner ada --build-status failed")
def list_sessions(
    call: Call,
    *,
    owner: Annotated[str | None, Option(help="Only sessions of this owner.")] = None,
    build_status: Annotated[
        str | None, Option(help="Only this status: pending, building, success or failed.")
    ] = None,
    product_type: Annotated[str | None, Option(help="Only this product type.")] = None,
    status: Annotated[
        str | None,
        Option(help="Only with a thread of this status and none of a more urgent one."),
    ] = None,
    deleted: Annotated[bool, Option("--deleted", help="Include soft-deleted sessions.")] = False,
    limit: Limit = 20,
    after: After = None,
) -> None:
    """List sessions, most recently updated first."""
    with call.target.reading() as database:
        page = database.sessions.list(
            owner_id=owner,
            build_status=build_status,
            product_type=product_type,
            thread_status=status,
            deleted=deleted,
            limit=limit,
            after=after,
        )
    columns = ("session", "title", "owner", "status", "build", "type", ">page", "updated (UTC)")
    rows = [
        (whole(one.id), one.title, one.owner_id,
         status_cell("deleted" if one.is_deleted else one.thread_status),
         status_cell(one.build_status), one.product_type, one.current_version, one.updated_at)
        for one in page
    ]  # fmt: skip
    names = {"title": "title", "build": "build_status", ">page": "current_version"}
    defaults = {column: _DEFAULTS[name] for column, name in names.items()}
    shown = table_of_used(columns, rows, defaults)
    answer = {"sessions": [asdict(one) for one in page], "next": page.next}
    call.answer(answer, *listing(shown, len(page), "session", next_page=page.next))


_DEFAULTS = {one.name: getattr(one.default, "arg", None) for one in shared_tables().sessions.c}
"""What the columns of a session have until they are set."""


@command(sessions, "show", "sessions show order-17")
def show_session(call: Call, session: Session) -> None:
    """Show a session: its columns, threads, last messages, pages and cost."""
    with call.target.reading() as database:
        found = _read_session(database, database.find_id("session", session))
    call.answer(found, *_session(found))


def _read_session(database: Database, session_id: str) -> dict[str, Any]:
    """The session's data under the keys of the command's JSON."""
    repository = database.sessions
    record = repository.get(session_id)
    threads = database.threads.list(session_id=session_id, deleted=True, limit=1000)
    messages = repository.messages(session_id, descending=True, limit=10)
    versions = [asdict(one) for one in repository.versions(session_id)]
    usage = asdict(next(iter(repository.usage_summary(session_id=session_id)), UsageSummary()))
    return {
        "session": None if record is None else asdict(record),
        "threads": _with_checkpoints(database, threads),
        "messages": [asdict(one) for one in reversed(messages)],
        "versions": [{k: v for k, v in one.items() if k != "html"} for one in versions],
        "open_errors": [asdict(one) for one in repository.errors(session_id, recovered=False)],
        "usage": {k: v for k, v in usage.items() if v is not None},
    }


def _with_checkpoints(database: Database, threads: Sequence[ThreadRecord]) -> list[dict[str, Any]]:
    """Threads with the number of their checkpoints."""
    ids = [one.thread_id for one in threads]
    numbers = database.read(database.queries.count_checkpoints, ids)
    return [{**asdict(one), "checkpoints": numbers[one.thread_id]} for one in threads]


def _session(found: dict[str, Any]) -> Iterator[RenderableType]:
    columns = found["session"]
    yield properties(
        (name, value)
        for name, value in columns.items()
        if not isinstance(value, dict) and value != _DEFAULTS.get(name)
    )
    for name in ("build_artifacts", "aesthetic_scores"):
        if columns[name]:
            title = Text(name.replace("_", " "), "bold")
            yield from ("", title, properties(columns[name].items()))
    threads = table("thread", "status", ">checkpoints")
    for one in found["threads"]:
        status = status_cell(one["status"], one["status_node"])
        add_row(threads, whole(one["thread_id"]), status, one["checkpoints"])
    yield from ("", *listing(threads, len(found["threads"]), "thread"))
    messages = table("role", "message")
    for one in found["messages"]:
        add_row(messages, cell(one["role"], "cyan"), whole(shorten(_said(one), 400)))
    yield from ("", *listing(messages, len(found["messages"]), "message"), "")
    usage = found["usage"]
    pages = ", ".join(f"{one['version']}{' pinned' * one['pinned']}" for one in found["versions"])
    yield properties(
        [
            ("pages", pages or None),
            ("open errors", len(found["open_errors"])),
            ("tokens", f"{usage['total_tokens']:,} in {text.quantity(usage['calls'], 'call')}"),
            ("cost", f"{usage['cost_usd']:.6f} USD"),
        ]
    )


def _said(message: dict[str, Any]) -> str:
    """A message's content, and the tools that it calls."""
    calls = (f"→ {call['name']}({json_text(call['args'])})" for call in message["tool_calls"] or ())
    return "\n".join(filter(None, (message["content"], *calls)))


@command(sessions, "delete", "sessions delete order-17", "sessions delete order-17 --soft -y")
def delete_session(
    call: Call,
    session: Session,
    *,
    soft: Annotated[bool, Option("--soft", help="Only hide it from `sessions list`.")] = False,
    yes: Yes = False,
) -> None:
    """Delete a session with its threads, checkpoints, messages, pages and usage.

    Asks for confirmation.
    """
    with call.target.writing() as database:
        session_id = database.find_id("session", session)
        total = database.count_threads(session_id=session_id)
        what = f"session {session_id!r} with {text.quantity(total, 'thread')}"
        call.confirm(f"{'Hide' if soft else 'Delete'} {what}?", yes=yes)
        with call.busy("deleting"):
            done = database.sessions.delete(session_id, soft=soft)
    call.answer(
        {"session_id": session_id, "threads": total, "deleted": done, "soft": soft},
        f"{'hidden' if soft else 'deleted'}: {what}",
    )


@command(threads, "list", "threads list", "threads list --status error --json")
def list_threads(
    call: Call,
    *,
    session: InSession = None,
    owner: Annotated[str | None, Option(help="Only threads of this owner.")] = None,
    status: Annotated[
        str | None, Option(help="Only this status: pending, running, interrupted, error, done.")
    ] = None,
    limit: Limit = 20,
    after: After = None,
) -> None:
    """List threads, most recently updated first."""
    with call.target.reading() as database:
        session_id = database.find_id("session", session) if session else None
        wanted: dict[str, Any] = {"session_id": session_id, "owner_id": owner, "status": status}
        page = database.threads.list(**wanted, deleted=True, limit=limit, after=after)
        total, found = database.count_threads(**wanted), _with_checkpoints(database, page)
    rows = [
        (whole(one.thread_id), None if one.session_id == one.thread_id else one.session_id,
         one.owner_id, status_cell(one.status, one.status_node), row["checkpoints"], one.updated_at)
        for one, row in zip(page, found, strict=True)
    ]  # fmt: skip
    columns = ("thread", "session", "owner", "status", ">checkpoints", "updated (UTC)")
    shown = table_of_used(columns, rows)
    answer = {"total": total, "threads": found, "next": page.next}
    call.answer(answer, *listing(shown, len(page), "thread", total=total, next_page=page.next))


@command(app, "history", "history order-17", "history order-17 --limit 10 --json")
def history(
    call: Call,
    thread: Thread,
    *,
    namespace: Namespace = "",
    limit: Annotated[
        int, Option("--limit", "-n", min=1, max=1000, help="Maximum number of checkpoints.")
    ] = 50,
    before: Annotated[
        str | None, Option(help="Only checkpoints older than this one (a full id).")
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
        str | None, Argument(help="Checkpoint id, or a unique start of it; default the newest.")
    ] = None,
    *,
    namespace: Namespace = "",
) -> None:
    """Show a checkpoint: its values, the nodes that run next, and its pending writes.

    Stored types are shown by name, and are not imported.
    """
    with call.target.reading() as database:
        found = database.view(database.find_id("thread", thread), checkpoint, namespace)
    call.answer(text.record_to_dict(found), *_checkpoint(found, call.out.width))


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
            ("next nodes", text.format_names(found.due) or "none"),
        ]
    )
    yield ""
    shown = table("channel", ">size", "value")
    for one in found.values:
        if not text.is_internal(one.channel):
            add_row(
                shown, cell(one.channel, "cyan"), text.format_bytes(one.size), _value(one, width)
            )
    yield shown if shown.row_count else Text("no values", "dim")
    if hidden := len(found.values) - shown.row_count:
        yield Text(f"{text.quantity(hidden, 'internal channel')} not shown: use --json", "dim")
    if found.writes:
        yield ""
        written = table("written by", "channel", "value")
        for write in found.writes:
            value = whole(text.brief(write.value, 2 * width))
            add_row(written, write.node, cell(write.channel, "cyan"), value)
        yield written


def _value(one: ChannelValue, width: int) -> Text:
    """A value of a few lines with its note, or why it cannot be decoded."""
    if one.value is None and one.note:
        return whole(one.note, "red")
    value = whole(text.brief(one.value, 4 * width))
    return value.append(f"\n({one.note})", "dim") if one.note else value


@command(app, "diff", "diff order-17 1f1e62ca-36e", "diff order-17 1f1e62ca-36e 1f1f")
def diff(
    call: Call,
    thread: Thread,
    a: Annotated[str, Argument(help="Checkpoint id, or a unique start of it.")],
    b: Annotated[str | None, Argument(help="Another; default the newest.")] = None,
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

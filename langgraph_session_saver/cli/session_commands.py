"""The commands on sessions: `sessions list`, `show` and `delete`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from langgraph_session_saver.cli.command import After, Call, Limit, Yes, command
from langgraph_session_saver.cli.output import (
    add_row,
    cell,
    listing,
    properties,
    status_cell,
    table,
    whole,
)
from langgraph_session_saver.cli.target import Database
from langgraph_session_saver.inspection.text import quantity
from langgraph_session_saver.projection.plain_json import shorten

app = typer.Typer()
sessions = typer.Typer(no_args_is_help=True)
app.add_typer(sessions, name="sessions", help="List, show and delete sessions.")

Session = Annotated[str, typer.Argument(help="Session id, or a unique start of it.")]

SHOWN_MESSAGES = 10
"""Number of last messages that `show` prints."""


@command(sessions, "list", "sessions list", "sessions list --owner ada --build-status failed")
def list_sessions(
    call: Call,
    *,
    owner: Annotated[str | None, typer.Option(help="Only sessions of this owner.")] = None,
    build_status: Annotated[
        str | None, typer.Option(help="Only this status: pending, building, success or failed.")
    ] = None,
    product_type: Annotated[str | None, typer.Option(help="Only this product type.")] = None,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Include soft-deleted sessions.")
    ] = False,
    limit: Limit = 20,
    after: After = None,
) -> None:
    """List sessions, most recently updated first."""
    with call.target.reading() as database:
        page = database.sessions.list(
            owner_id=owner,
            build_status=build_status,
            product_type=product_type,
            deleted=deleted,
            limit=limit,
            after=after,
        )
    shown = table("session", "title", "owner", "build", "type", ">page", "updated (UTC)")
    for one in page:
        status = status_cell("deleted" if one.is_deleted else one.build_status)
        add_row(
            shown, whole(one.id), one.title, one.owner_id, status, one.product_type,
            one.current_version, one.updated_at,
        )  # fmt: skip
    answer = {"sessions": [asdict(one) for one in page], "next": page.next}
    call.answer(answer, *listing(shown, len(page), "session", next_page=page.next))


@command(sessions, "show", "sessions show order-17")
def show(call: Call, session: Session) -> None:
    """Show a session: its columns, threads, last messages, pages and cost."""
    with call.target.reading() as database:
        found = _read(database, database.find_id("session", session))
    call.answer(found, *_shown(found))


def _read(database: Database, session_id: str) -> dict[str, Any]:
    """The session's data under the keys of the command's JSON."""
    repository = database.sessions
    record = repository.get(session_id)
    _, threads = database.read(
        lambda conn: database.queries.threads(conn, session_id=session_id, limit=1000)
    )
    messages = repository.messages(session_id, descending=True, limit=SHOWN_MESSAGES)
    versions = [asdict(one) for one in repository.versions(session_id)]
    usage = repository.usage_summary(session_id=session_id)
    none = {"calls": 0, "input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "cost_usd": 0.0}
    return {
        "session": None if record is None else asdict(record),
        "threads": [row._asdict() for row in threads],
        "messages": [asdict(one) for one in reversed(messages)],
        "versions": [{k: v for k, v in one.items() if k != "html"} for one in versions],
        "open_errors": [asdict(one) for one in repository.errors(session_id, recovered=False)],
        "usage": {k: v for k, v in asdict(usage[0]).items() if k in none} if usage else none,
    }


def _shown(found: dict[str, Any]) -> list[RenderableType]:
    columns = found["session"]
    parts: list[RenderableType] = [
        properties((name, value) for name, value in columns.items() if not isinstance(value, dict))
    ]
    for name in ("build_artifacts", "aesthetic_scores"):
        if columns[name]:
            parts += ["", Text(name.replace("_", " "), "bold"), properties(columns[name].items())]
    threads = table("thread", "status", ">checkpoints")
    for one in found["threads"]:
        status = status_cell(one["status"], one["status_node"])
        add_row(threads, whole(one["thread_id"]), status, one["checkpoints"])
    messages = table("role", "message")
    for one in found["messages"]:
        add_row(messages, cell(one["role"], "cyan"), whole(shorten(one["content"], 400)))
    usage = found["usage"]
    pages = ", ".join(f"{one['version']}{' pinned' * one['pinned']}" for one in found["versions"])
    totals = properties(
        [
            ("pages", pages or "none"),
            ("open errors", len(found["open_errors"])),
            ("tokens", f"{usage['total_tokens']:,} in {quantity(usage['calls'], 'call')}"),
            ("cost", f"{usage['cost_usd']:.6f} USD"),
        ]
    )
    return [
        *parts,
        "",
        *listing(threads, len(found["threads"]), "thread"),
        "",
        *listing(messages, len(found["messages"]), "message"),
        "",
        totals,
    ]


@command(sessions, "delete", "sessions delete order-17", "sessions delete order-17 --soft -y")
def delete(
    call: Call,
    session: Session,
    *,
    soft: Annotated[
        bool, typer.Option("--soft", help="Only hide the session from `sessions list`.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Delete a session with its threads, checkpoints, messages, pages and usage.

    Asks for confirmation.
    """
    with call.target.writing() as database:
        session_id = database.find_id("session", session)
        total, _ = database.read(
            lambda conn: database.queries.threads(conn, session_id=session_id, limit=1)
        )
        what = f"session {session_id!r} with {quantity(total, 'thread')}"
        call.confirm(f"{'Hide' if soft else 'Delete'} {what}?", yes=yes)
        with call.busy("deleting"):
            done = database.sessions.delete(session_id, soft=soft)
    call.answer(
        {"session_id": session_id, "threads": total, "deleted": done, "soft": soft},
        f"{'hidden' if soft else 'deleted'}: {what}",
    )

"""The commands on sessions: `sessions list`, `show` and `delete`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.text import Text

from langgraph_session_saver.cli.command import Call, Limit, Yes, command
from langgraph_session_saver.cli.output import (
    cell,
    counts,
    facts,
    listing,
    status_cell,
    table,
    when,
)
from langgraph_session_saver.cli.target import Database
from langgraph_session_saver.projection.plain_json import shorten

Session = Annotated[str, typer.Argument(help="A session's id, or the start of it.")]

SHOWN_MESSAGES = 10
"""Messages that `show` prints, the last ones."""


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(no_args_is_help=True)
    app.add_typer(group, name="sessions", help="List, show and delete sessions.")
    command(
        group, "list", example=["sessions list", "sessions list --owner ada --build-status failed"]
    )(list_sessions)
    command(group, "show", example="sessions show order-17")(show)
    command(
        group, "delete", example=["sessions delete order-17", "sessions delete order-17 --soft -y"]
    )(delete)


def list_sessions(
    call: Call,
    *,
    owner: Annotated[str | None, typer.Option(help="Only of this owner.")] = None,
    build_status: Annotated[
        str | None, typer.Option(help="Only pending, building, success or failed ones.")
    ] = None,
    product_type: Annotated[str | None, typer.Option(help="Only of this type.")] = None,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Those too that were deleted softly.")
    ] = False,
    limit: Limit = 20,
    after: Annotated[str | None, typer.Option(help="The `next` of the page before.")] = None,
) -> None:
    """List sessions, those that something was written to last first."""
    with call.place.reading() as database:
        page = database.saver.sessions.list(
            owner_id=owner,
            build_status=build_status,
            product_type=product_type,
            deleted=deleted,
            limit=limit,
            after=after,
        )
    shown = table("session", "title", "owner", "build", "type", ">page", "updated (UTC)")
    for one in page:
        shown.add_row(
            cell(one.id, whole=True),
            cell(one.title),
            cell(one.owner_id),
            status_cell("deleted" if one.is_deleted else one.build_status),
            cell(one.product_type),
            cell(one.current_version),
            cell(when(one.updated_at)),
        )
    answer = {"sessions": [asdict(one) for one in page], "next": page.next}
    call.answer(answer, *listing(shown, len(page), "session", has_more=page.next is not None))


def show(call: Call, session: Session) -> None:
    """Show a session: its columns, threads, last messages, pages and cost."""
    with call.place.reading() as database:
        session_id = call.session(database, session)
        found = _read(database, session_id)
    record = found["session"]
    named = {name: value for name, value in record.items() if value is not None}
    told = {
        name: when(value) if name.endswith("_at") else value
        for name, value in named.items()
        if not isinstance(value, dict)
    }
    parts: list[Any] = [facts(told.items())]
    for name in ("build_artifacts", "aesthetic_scores"):
        if record[name]:
            parts += [Text(""), Text(name.replace("_", " "), "bold"), facts(record[name].items())]
    threads = table("thread", "status", ">checkpoints")
    for one in found["threads"]:
        doing = ": ".join(filter(None, (one["status"], one["status_node"])))
        threads.add_row(
            cell(one["thread_id"], whole=True), status_cell(doing), cell(one["checkpoints"])
        )
    messages = table("role", "message")
    for one in found["messages"]:
        messages.add_row(cell(one["role"], "cyan"), cell(shorten(one["content"], 400), whole=True))
    sums = found["usage"]
    pages = ", ".join(f"{one['version']}{' pinned' * one['pinned']}" for one in found["versions"])
    parts += [
        Text(""),
        *listing(threads, len(found["threads"]), "thread"),
        Text(""),
        *listing(messages, len(found["messages"]), "message"),
        Text(""),
        facts(
            [
                ("pages", pages or "none"),
                ("errors not recovered", len(found["open_errors"])),
                ("tokens", f"{sums['total_tokens']:,} in {counts([(sums['calls'], 'call')])}"),
                ("cost", f"{sums['cost_usd']:.6f} USD"),
            ]
        ),
    ]
    call.answer(found, *parts)


def _read(database: Database, session_id: str) -> dict[str, Any]:
    """All that is shown of a session."""
    sessions = database.saver.sessions
    record = sessions.get(session_id)
    _, threads = database.read(
        lambda conn: database.overview.threads(conn, session_id=session_id, limit=1000)
    )
    messages = sessions.messages(session_id, descending=True, limit=SHOWN_MESSAGES)
    versions = [asdict(one) for one in sessions.versions(session_id)]
    usage = sessions.usage_summary(session_id=session_id)
    none = {"calls": 0, "input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "cost_usd": 0.0}
    return {
        "session": None if record is None else asdict(record),
        "threads": [row._asdict() for row in threads],
        "messages": [asdict(one) for one in reversed(messages)],
        "versions": [{k: v for k, v in one.items() if k != "html"} for one in versions],
        "open_errors": [asdict(one) for one in sessions.errors(session_id, recovered=False)],
        "usage": {k: v for k, v in asdict(usage[0]).items() if k in none} if usage else none,
    }


def delete(
    call: Call,
    session: Session,
    *,
    soft: Annotated[
        bool, typer.Option("--soft", help="Only hide it: `sessions list` leaves it out.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Delete a session with its threads, checkpoints, messages, pages and usage.

    Says what would go, and asks, before it does.
    """
    with call.place.writing() as database:
        session_id = call.session(database, session)
        total, _ = database.read(
            lambda conn: database.overview.threads(conn, session_id=session_id, limit=1)
        )
        what = "hide" if soft else "delete"
        call.confirm(
            f"{what.capitalize()} session {session_id!r} with {counts([(total, 'thread')])}?",
            yes=yes,
        )
        with call.busy("deleting"):
            done = database.saver.sessions.delete(session_id, soft=soft)
    said = "hidden" if soft else "deleted"
    call.answer(
        {"session_id": session_id, "threads": total, "deleted": done, "soft": soft},
        f"{said}: session {session_id!r} with {counts([(total, 'thread')])}",
    )

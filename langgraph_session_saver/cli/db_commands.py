"""The commands on the schema: `db upgrade`, `downgrade`, `current`, `history`, `check`, `sql`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.text import Text
from sqlalchemy import Engine

from langgraph_session_saver.cli.command import Call, Yes, command
from langgraph_session_saver.cli.exit_codes import Exit
from langgraph_session_saver.cli.output import cell, table
from langgraph_session_saver.errors import NotConfirmedError

Revision = Annotated[str, typer.Argument(help="A revision, as `db history` names them.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program."""
    group = typer.Typer(no_args_is_help=True)
    app.add_typer(group, name="db", help="Bring the tables to a revision, and check them.")
    command(group, "upgrade", example=["db upgrade", "db upgrade 0002"])(upgrade)
    command(group, "downgrade", example=["db downgrade 0003", "db downgrade base --yes"])(downgrade)
    command(group, "current", example="db current")(current)
    command(group, "history", example="db history", of_database=False)(history)
    command(group, "check", example="db check")(check)
    command(group, "sql", example=["db sql --dialect postgresql", "db sql --from 0001 --to 0003"])(
        sql
    )


def _where(call: Call) -> dict[str, Any]:
    return {"schema": call.place.schema, "table_prefix": call.place.table_prefix}


def upgrade(
    call: Call,
    revision: Annotated[str, typer.Argument(help="How far; default all the way.")] = "head",
) -> None:
    """Bring the database forward: tables are made, older ones completed, their rows kept.

    Other processes that do so meanwhile wait.
    """
    from langgraph_session_saver import migrate  # noqa: PLC0415 - needs Alembic

    with call.place.writing(creates=True) as database:
        before = migrate.current(database.engine, **_where(call))
        with call.busy("upgrading"):
            migrate.upgrade(database.engine, revision, **_where(call))
        _say_moved(call, before, database.engine)


def downgrade(call: Call, revision: Revision, *, yes: Yes = False) -> None:
    """Take the database back to an earlier revision, or to `base`, which has no tables.

    Where rows would be lost it says how many, and asks.
    """
    from langgraph_session_saver import migrate  # noqa: PLC0415

    with call.place.writing() as database:
        before = migrate.current(database.engine, **_where(call))
        try:
            migrate.downgrade(database.engine, revision, **_where(call), yes=yes)
        except NotConfirmedError as exc:
            if not sys.stdin.isatty():
                raise
            call.confirm(f"{exc}.\nLose them?", yes=False)
            migrate.downgrade(database.engine, revision, **_where(call), yes=True)
        _say_moved(call, before, database.engine)


def _say_moved(call: Call, before: str | None, engine: Engine) -> None:
    from langgraph_session_saver import migrate  # noqa: PLC0415

    after = migrate.current(engine, **_where(call))
    was = "as it was" if before == after else f"was {before or 'without tables of ours'}"
    call.answer(
        {"before": before, "after": after, "head": migrate.head()},
        f"at revision {after or 'base'} ({was})",
    )


def current(call: Call) -> None:
    """Say which revision the database is at; ends with 1 where it is not the newest."""
    from langgraph_session_saver import migrate  # noqa: PLC0415

    with call.place.reading() as database:
        found = migrate.current(database.engine, **_where(call))
    is_head = found == migrate.head()
    note = "the newest" if is_head else f"the newest is {migrate.head()}: db upgrade"
    call.answer(
        {"current": found, "head": migrate.head(), "is_head": is_head},
        f"{found or 'none'} ({note})",
    )
    if not is_head:
        raise typer.Exit(Exit.NO)


def history(call: Call) -> None:
    """List the revisions, from the first to the newest."""
    from langgraph_session_saver import migrate  # noqa: PLC0415

    shown = table("revision", "after", "brings")
    for one in migrate.history():
        shown.add_row(
            cell(one.revision, "cyan"),
            cell(one.down_revision or "base"),
            cell(one.summary, whole=True),
        )
    call.answer({"revisions": [asdict(one) for one in migrate.history()]}, shown)


def check(call: Call) -> None:
    """Compare the tables with what this code declares; ends with 1 where they differ."""
    from langgraph_session_saver import migrate  # noqa: PLC0415

    with call.place.reading() as database:
        found = migrate.check(database.engine, **_where(call))
    shown = [Text(f"- {one}") for one in found] or [Text("as declared", "green")]
    call.answer({"equal": not found, "differences": found}, *shown)
    if found:
        raise typer.Exit(Exit.NO)


def sql(
    call: Call,
    *,
    start: Annotated[
        str | None, typer.Option("--from", help="Where the database is; default before the first.")
    ] = None,
    end: Annotated[str, typer.Option("--to", help="Where to bring it.")] = "head",
    dialect: Annotated[
        str | None,
        typer.Option(help="sqlite, postgresql, mysql or mariadb; default that of the URL."),
    ] = None,
) -> None:
    """Print the SQL that an upgrade or a downgrade runs, to be run by hand."""
    from langgraph_session_saver import migrate  # noqa: PLC0415

    text = migrate.sql(dialect or call.place.parsed(), start, end, **_where(call))
    call.answer({"from": start, "to": end, "sql": text}, text.rstrip())

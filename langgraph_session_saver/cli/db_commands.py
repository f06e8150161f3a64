"""The commands on the schema: `db upgrade`, `downgrade`, `current`, `history`, `check`, `sql`.

They import `migrate` themselves: Alembic takes a tenth of a second.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text
from typer import Argument, Option

from langgraph_session_saver.cli.command import Call, Exit, Yes, command
from langgraph_session_saver.cli.output import add_row, cell, table, whole
from langgraph_session_saver.errors import NotConfirmedError
from langgraph_session_saver.schema.tables import SCHEMA_VERSION

app = typer.Typer()
db = typer.Typer(no_args_is_help=True)
app.add_typer(db, name="db", help="Migrate and check the tables.")


@command(db, "upgrade", "db upgrade", "db upgrade 0002")
def upgrade(
    call: Call,
    revision: Annotated[str, Argument(help="The revision to upgrade to.")] = "head",
) -> None:
    """Create the tables, or upgrade those of an older version and keep their rows.

    Safe while other processes upgrade too.
    """
    from langgraph_session_saver import migrate  # noqa: PLC0415

    with call.target.writing(creates=True) as database:
        before = migrate.current(database.engine, **call.target.tables)
        with call.busy("upgrading"):
            migrate.upgrade(database.engine, revision, **call.target.tables)
        _answer_moved(call, before, migrate.current(database.engine, **call.target.tables))


@command(db, "downgrade", "db downgrade 0003", "db downgrade base --yes")
def downgrade(
    call: Call,
    revision: Annotated[str, Argument(help="A revision of `db history`; `base` drops all tables.")],
    *,
    yes: Yes = False,
) -> None:
    """Downgrade the tables to an earlier revision.

    If rows would be lost, it counts them and asks for confirmation.
    """
    from langgraph_session_saver import migrate  # noqa: PLC0415

    with call.target.writing() as database:
        before = migrate.current(database.engine, **call.target.tables)
        try:
            migrate.downgrade(database.engine, revision, **call.target.tables, yes=yes)
        except NotConfirmedError as exc:
            if not sys.stdin.isatty():
                raise
            call.confirm(f"{exc}.\nDowngrade all the same?", yes=False)
            migrate.downgrade(database.engine, revision, **call.target.tables, yes=True)
        _answer_moved(call, before, migrate.current(database.engine, **call.target.tables))


def _answer_moved(call: Call, before: str | None, after: str | None) -> None:
    note = "unchanged" if before == after else f"was {before or 'base'}"
    call.answer(
        {"before": before, "after": after, "head": SCHEMA_VERSION},
        f"at revision {after or 'base'} ({note})",
    )


@command(db, "current", "db current")
def current(call: Call) -> None:
    """Show the database's revision; exits with 1 unless it is the newest."""
    from langgraph_session_saver import migrate  # noqa: PLC0415

    with call.target.reading() as database:
        found = migrate.current(database.engine, **call.target.tables)
    is_head = found == SCHEMA_VERSION
    note = "head" if is_head else f"head is {SCHEMA_VERSION}: run `db upgrade`"
    call.answer(
        {"current": found, "head": SCHEMA_VERSION, "is_head": is_head},
        f"{found or 'base'} ({note})",
    )
    if not is_head:
        raise typer.Exit(Exit.NO)


@command(db, "history", "db history", uses_target=False)
def history(call: Call) -> None:
    """List the revisions, oldest first."""
    from langgraph_session_saver import migrate  # noqa: PLC0415

    shown = table("revision", "follows", "adds")
    for one in migrate.history():
        revision = cell(one.revision, "cyan")
        add_row(shown, revision, one.down_revision or "base", whole(one.summary))
    call.answer({"revisions": [asdict(one) for one in migrate.history()]}, shown)


@command(db, "check", "db check")
def check(call: Call) -> None:
    """Compare the tables with their declaration; exits with 1 if they differ."""
    from langgraph_session_saver import migrate  # noqa: PLC0415

    with call.target.reading() as database:
        found = migrate.check(database.engine, **call.target.tables)
    shown = [Text(f"- {one}") for one in found] or [Text("no differences", "green")]
    call.answer({"equal": not found, "differences": found}, *shown)
    if found:
        raise typer.Exit(Exit.NO)


@command(db, "sql", "db sql --dialect postgresql", "db sql --from 0001 --to 0003")
def sql(
    call: Call,
    *,
    start: Annotated[str | None, Option("--from", help="Present revision; default `base`.")] = None,
    end: Annotated[str, Option("--to", help="The revision to migrate to.")] = "head",
    dialect: Annotated[
        str | None, Option(help="sqlite, postgresql, mysql or mariadb; default that of the URL.")
    ] = None,
) -> None:
    """Print the SQL of an upgrade or a downgrade, for running it by hand."""
    from langgraph_session_saver import migrate  # noqa: PLC0415

    text = migrate.sql(dialect or call.target.parsed(), start, end, **call.target.tables)
    call.answer({"from": start, "to": end, "sql": text}, text.rstrip())

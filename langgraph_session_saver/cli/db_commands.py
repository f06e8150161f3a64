"""The commands on the tables: `db upgrade`, `downgrade`, `current` and so on.

They import `migrate` themselves: Alembic takes a tenth of a second.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from langgraph_session_saver.cli.command import Call, Exit, Yes, command
from langgraph_session_saver.cli.output import add_row, cell, table, table_of_used, whole
from langgraph_session_saver.errors import InvalidConfigError, NotConfirmedError
from langgraph_session_saver.inspection.text import format_bytes
from langgraph_session_saver.schema.tables import SCHEMA_VERSION
from langgraph_session_saver.sql.dialects.base import Space, VacuumKind

app = typer.Typer()
db = typer.Typer(no_args_is_help=True)
app.add_typer(db, name="db", help="Migrate, check and vacuum the tables.")


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


@command(db, "vacuum", "db vacuum --dry-run", "db vacuum")
def vacuum(
    call: Call,
    *,
    full: Annotated[
        bool, Option("--full", help="PostgreSQL: write the tables anew, and lock them meanwhile.")
    ] = False,
    incremental: Annotated[
        bool, Option("--incremental", help="SQLite: only cut free pages off the file.")
    ] = False,
    wait: Annotated[float, Option(min=0, help="Seconds to wait for a lock.")] = 10,
    dry_run: Annotated[bool, Option("--dry-run", help="Only tell how much is free.")] = False,
) -> None:
    """Give back the space that deleted rows took.

    SQLite writes the file anew: it needs as much space again, and writers wait. With --incremental
    it cuts free pages off in short transactions; the first time, it writes the file anew with the
    map that this needs. PostgreSQL makes the space of dead rows free for new rows, and gives it
    back with --full, for which graphs wait. MariaDB writes the tables anew while graphs run.
    """
    if full and incremental:
        raise InvalidConfigError("pass --full or --incremental, not both")
    if incremental and call.target.parsed().get_backend_name() != "sqlite":
        raise InvalidConfigError("--incremental is for SQLite")
    if dry_run:
        with call.target.reading() as database:
            space = database.space()
        call.answer({"before": asdict(space), "after": None, "note": None}, _shown(now=space))
        return
    with call.target.writing() as database, call.busy("vacuuming"):
        how: VacuumKind = "full" if full else "incremental" if incremental else "usual"
        done = database.vacuum(how, wait)
    won = done.before.bytes - done.after.bytes
    said = f"{format_bytes(won)} given back" if won > 0 else "nothing given back"
    notes = [Text(done.note)] if done.note else []
    call.answer(asdict(done), _shown(before=done.before, after=done.after), said, *notes)


def _shown(**spaces: Space) -> Table:
    rows = []
    for name, one in spaces.items():
        free = None if one.free is None else format_bytes(one.free)
        rows.append([cell(name, "bold"), format_bytes(one.bytes), free, one.dead_rows])
    return table_of_used(["", ">size", ">free", ">dead rows"], rows)

"""The commands that move house: `backup`, `restore`, `copy` and `import`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import URL

from langgraph_session_saver.cli.command import Call, Yes, command
from langgraph_session_saver.cli.output import cell, counts, quantity, table
from langgraph_session_saver.cli.target import Place, existing
from langgraph_session_saver.errors import DriverNotInstalledError
from langgraph_session_saver.inspection.text import amount

_OFFICIAL = {
    "sqlite": ("langgraph.checkpoint.sqlite", "SqliteSaver", "langgraph-checkpoint-sqlite"),
    "postgresql": (
        "langgraph.checkpoint.postgres",
        "PostgresSaver",
        "langgraph-checkpoint-postgres",
    ),
    "mysql": ("langgraph.checkpoint.mysql.pymysql", "PyMySQLSaver", "langgraph-checkpoint-mysql"),
}
"""Module, class and package of the savers that `import` reads, by kind of database."""


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program."""
    command(app, "backup", example=["backup monday.backup", "backup /mnt/app.backup --json"])(
        backup
    )
    command(app, "restore", example="restore monday.backup --url postgresql://ada@db/app")(restore)
    command(app, "copy", example="copy app.db postgresql://ada@db/app", of_database=False)(copy)
    command(
        app,
        "import",
        example=["import old.db --url app.db", "import postgresql://ada@db/app --thread order-17"],
    )(import_)


def backup(
    call: Call,
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    *,
    yes: Yes = False,
) -> None:
    """Write all sessions, threads and what they hold to one file, which any database takes.

    The file gets its name when it is whole.
    """
    if file.exists():
        call.confirm(f"{file} exists. Replace it?", yes=yes)
    with call.place.reading() as database, call.progress("backing up") as progress:
        rows = database.saver.backup(file, progress)
    size = file.stat().st_size
    call.answer(
        {"file": str(file), "bytes": size, "rows": rows},
        _counted({"rows": rows}),
        f"{sum(rows.values()):,} rows in {file}, {amount(size)}",
    )


def restore(
    call: Call, file: Annotated[Path, typer.Argument(help="A file that `backup` made.")]
) -> None:
    """Add the rows of a backup to a database, of whatever kind it is.

    The whole file is checked first; a second time changes nothing.
    """
    with (
        call.place.writing(creates=True) as database,
        call.progress("restoring") as progress,
    ):
        done = database.saver.restore(file, progress)
    _say_transferred(call, asdict(done))


def copy(
    call: Call,
    source: Annotated[str, typer.Argument(help="URL or file of the database to read.")],
    target: Annotated[str, typer.Argument(help="URL or file of the one to write.")],
) -> None:
    """Copy a database into another, of any kind, and compare both.

    Stop what writes to the source first. After a kill the same command goes on.
    """
    from langgraph_session_saver import transfer  # noqa: PLC0415 - only this command needs it

    from_url = replace(call.place, url=source).parsed()
    if from_url.get_backend_name() == "sqlite":
        existing(from_url)
    to_url = replace(call.place, url=target).parsed()
    with call.progress("copying") as progress:
        done = transfer.copy(from_url, to_url, progress)
    _say_transferred(call, asdict(done))


def import_(
    call: Call,
    source: Annotated[str, typer.Argument(help="URL or file that an official saver wrote.")],
    *,
    threads: Annotated[
        list[str] | None, typer.Option("--thread", help="Only this thread (again for more).")
    ] = None,
) -> None:
    """Take over threads of SqliteSaver, PostgresSaver or PyMySQLSaver, with all their history.

    They resume here. Threads that are here already stay as they are; the source is only read.
    """
    url = Place(source, None, "").parsed()
    with (
        _official(url) as other,
        call.place.writing(creates=True) as database,
        call.progress("importing") as progress,
    ):
        done = database.saver.import_from(other, progress, threads)
    found = [(done.threads, "thread"), (done.checkpoints, "checkpoint")]
    said = f"{counts(found)} imported, {quantity(done.kept, 'checkpoint')} were here already"
    skipped = [f"left as it is here: {name}: {why}" for name, why in done.skipped.items()]
    call.answer(asdict(done), said, *skipped)


@contextmanager
def _official(url: URL) -> Iterator[Any]:
    """The official saver on a database."""
    kind = url.get_backend_name()
    module, name, package = _OFFICIAL["mysql" if kind == "mariadb" else kind]
    try:
        saver: Any = getattr(import_module(module), name)
    except ModuleNotFoundError as exc:
        raise DriverNotInstalledError(
            f"reading what {name} wrote needs {package!r}, which is not installed: "
            f"pip install {package}"
        ) from exc
    if kind == "sqlite":
        with saver.from_conn_string(str(existing(url))) as other:
            yield other
        return
    plain = url.set(drivername="mysql" if kind == "mariadb" else kind)
    with saver.from_conn_string(plain.render_as_string(hide_password=False)) as other:
        yield other


def _say_transferred(call: Call, done: dict[str, Any]) -> None:
    written, kept = done["written"], done["kept"]
    said = f"{sum(written.values()):,} written, {sum(kept.values()):,} were there already"
    call.answer(done, _counted({"written": written, "there already": kept}), said)


def _counted(columns: dict[str, dict[str, int]]) -> Any:
    shown = table("", *(f">{name}" for name in columns))
    names = {name: None for counts in columns.values() for name in counts}
    for name in names:
        shown.add_row(cell(name), *(cell(f"{one.get(name, 0):,}") for one in columns.values()))
    return shown

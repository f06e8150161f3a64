"""The commands that move data: `backup`, `restore`, `copy` and `import`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.table import Table
from sqlalchemy import URL
from typer import Argument, Option

from langgraph_session_saver import transfer
from langgraph_session_saver.cli.command import Call, Yes, command
from langgraph_session_saver.cli.output import add_row, table
from langgraph_session_saver.cli.target import STRICT, Target, existing_file
from langgraph_session_saver.errors import DriverNotInstalledError
from langgraph_session_saver.inspection.text import format_bytes, quantity

app = typer.Typer()

_OFFICIAL_SAVERS = {
    "sqlite": ("sqlite", "SqliteSaver"),
    "postgresql": ("postgres", "PostgresSaver"),
    "mysql": ("mysql.pymysql", "PyMySQLSaver"),
}
"""By database, the module under `langgraph.checkpoint` and the class of LangGraph's own saver."""


@command(app, "backup", "backup monday.backup", "backup /mnt/app.backup --json")
def backup(
    call: Call,
    file: Annotated[Path, Argument(help="The file to write.")],
    *,
    yes: Yes = False,
) -> None:
    """Write all rows to one file, which `restore` loads into any kind of database.

    An incomplete file never has the final name.
    """
    if file.exists():
        call.confirm(f"{file} exists. Replace it?", yes=yes)
    with call.target.reading() as database, call.progress("backing up") as progress:
        rows = database.backup(file, progress, overwrite=True)
    size = file.stat().st_size
    call.answer(
        {"file": str(file), "bytes": size, "rows": rows},
        _counts({"rows": rows}),
        f"{sum(rows.values()):,} rows in {file}, {format_bytes(size)}",
    )


@command(app, "restore", "restore monday.backup --url postgresql://ada@db/app")
def restore(
    call: Call, file: Annotated[Path, Argument(help="A file written by `backup`.")]
) -> None:
    """Load a backup into a database of any kind.

    The whole file is checked first. Rows that exist already are kept, so it can be repeated.
    """
    with call.target.writing(creates=True) as database, call.progress("restoring") as progress:
        done = database.restore(file, progress)
    _answer_transferred(call, done)


@command(app, "copy", "copy app.db postgresql://ada@db/app", uses_target=False)
def copy(
    call: Call,
    source: Annotated[str, Argument(help="URL or file of the database to read.")],
    target: Annotated[str, Argument(help="URL or file of the database to write.")],
) -> None:
    """Copy a database into another of any kind, and compare the two.

    Stop writing to the source first. If it is interrupted, run the same command again.
    """
    from_url, to_url = Target(url=source).parsed(), Target(url=target).parsed()
    if from_url.get_backend_name() == "sqlite":
        existing_file(from_url)
    with call.progress("copying") as progress:
        done = transfer.copy(from_url, to_url, progress)
    _answer_transferred(call, done)


class StoredType(NamedTuple):
    """A class that stored values may name."""

    module: str
    name: str

    @classmethod
    def parse(cls, value: str) -> StoredType:
        """Parse the name of a class, which can be imported."""
        module, _, name = value.partition(":")
        try:
            getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as exc:
            raise typer.BadParameter(f"{value!r} is no class as in app.state:Page ({exc})") from exc
        return cls(module, name)


@command(
    app, "import", "import old.db --url app.db", "import postgresql://ada@db/app --thread order-17"
)
def import_(
    call: Call,
    source: Annotated[str, Argument(help="URL or file of the other saver's database.")],
    *,
    threads: Annotated[
        list[str] | None, Option("--thread", help="Only this thread; may be repeated.")
    ] = None,
    allow: Annotated[
        list[StoredType] | None,
        Option(
            metavar="MODULE:CLASS",
            parser=StoredType.parse,
            help="A class that the state has, beside those of LangGraph and LangChain; may be "
            "repeated. Its module is imported: PYTHONPATH has to lead to it.",
        ),
    ] = None,
) -> None:
    """Import the threads of a SqliteSaver, PostgresSaver or PyMySQLSaver with their history.

    Threads that exist already are not changed. The source is only read.
    """
    serde = STRICT.with_msgpack_allowlist(allow or ())
    with (
        _official_saver(Target(url=source).parsed()) as other,
        call.target.writing(creates=True, serde=serde) as database,
        call.progress("importing") as progress,
    ):
        other.serde = serde
        done = database.import_from(other, progress, threads)
    imported = f"{quantity(done.threads, 'thread')}, {quantity(done.checkpoints, 'checkpoint')}"
    skipped = [f"skipped {name}: {reason}" for name, reason in done.skipped.items()]
    kept = quantity(done.kept, "checkpoint")
    call.answer(asdict(done), f"imported {imported}; {kept} existed already", *skipped)


def _official_saver(url: URL) -> AbstractContextManager[Any]:
    """LangGraph's own saver on a database."""
    kind = url.get_backend_name().replace("mariadb", "mysql")
    module, name = _OFFICIAL_SAVERS[kind]
    try:
        saver: Any = getattr(import_module(f"langgraph.checkpoint.{module}"), name)
    except ModuleNotFoundError as exc:
        package = f"langgraph-checkpoint-{module.partition('.')[0]}"
        raise DriverNotInstalledError(
            f"importing from a {name} needs {package!r}, which is not installed: "
            f"pip install {package}"
        ) from exc
    if kind == "sqlite":
        address = str(existing_file(url))
    else:
        address = url.set(drivername=kind).render_as_string(hide_password=False)
    return saver.from_conn_string(address)  # type: ignore[no-any-return]


def _answer_transferred(call: Call, done: transfer.Transferred) -> None:
    written, kept = sum(done.written.values()), sum(done.kept.values())
    counts = _counts({"written": done.written, "existed": done.kept})
    call.answer(asdict(done), counts, f"{written:,} rows written, {kept:,} existed already")


def _counts(columns: dict[str, dict[str, int]]) -> Table:
    """A table with a column for each count, and a row for each table that was transferred."""
    shown = table("", *(f">{name}" for name in columns))
    for name in dict.fromkeys(name for counts in columns.values() for name in counts):
        add_row(shown, name, *(one.get(name, 0) for one in columns.values()))
    return shown

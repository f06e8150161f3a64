"""Open the database that a command names, to read or to write; reading creates nothing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, Literal, ParamSpec, TypeVar
from urllib.parse import unquote

import typer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine

from langgraph_session_saver import errors
from langgraph_session_saver.checkpointer.maintenance import Counts
from langgraph_session_saver.inspection.damage import Damage, find_undecodable
from langgraph_session_saver.inspection.queries import DatabaseQueries
from langgraph_session_saver.inspection.values import CheckpointView
from langgraph_session_saver.saver import SessionSaver
from langgraph_session_saver.sessions.threads import conditions
from langgraph_session_saver.sql.dialects.base import Space, VacuumKind
from langgraph_session_saver.sql.scripts import maintenance_script, read_script
from langgraph_session_saver.sql.urls import URL_VARIABLE, parse_url, sync_url
from langgraph_session_saver.sql.vacuum import Vacuumed, vacuum

P = ParamSpec("P")
T = TypeVar("T")

STRICT = JsonPlusSerializer(allowed_msgpack_modules=None)
"""A serialiser that follows `LANGGRAPH_STRICT_MSGPACK=true`, whatever is set."""


class Database(SessionSaver):
    """A saver with the queries that only the command line needs.

    It rebuilds only the types that LangGraph always allows: no command imports a module because
    a row names it.
    """

    def __init__(self, engine: Engine, **options: Any) -> None:
        super().__init__(engine, **{"serde": STRICT, **options})
        self.engine = self._runner.sync_engine
        self.queries = DatabaseQueries(self._context.tables)

    def read(
        self, operation: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a read-only operation, after the schema has been verified."""
        return self._run(read_script(operation, *args, **kwargs))

    def count_threads(self, **wanted: str | None) -> int:
        """The number of threads with a status, of a session, and of an owner."""
        where = conditions(self._context.tables, **wanted)
        return self.read(self.queries.count_threads, *where)

    def find_faults(self) -> tuple[list[tuple[str, int, str]], str | None]:
        """Rows whose other half is missing, and what the database itself reports as damaged."""
        return self.read(
            lambda conn: (self.queries.find_damage(conn), self._context.dialect.find_damage(conn))
        )

    def find_undecodable(self, most: int | None) -> list[Damage]:
        """Rows that do not decode, among so many of each table, or among all."""
        return self.read(find_undecodable, self._context.storage, most)

    def space(self) -> Space:
        """What the tables take on disk."""
        return self.read(self._context.dialect.space, list(self._context.tables))

    def vacuum(self, how: VacuumKind, wait: float) -> Vacuumed:
        """Give back the space that the tables do not need."""
        dialect, tables = self._context.dialect, list(self._context.tables)
        return self._run(maintenance_script(vacuum, dialect, tables, how=how, wait=wait))

    def view(self, thread_id: str, checkpoint_id: str | None, namespace: str) -> CheckpointView:
        """A checkpoint with its values."""
        return self._run(self._namespace(thread_id, namespace).view(checkpoint_id))

    def prune_or_count(
        self, thread_ids: list[str], strategy: str, keep_last: int | None, *, dry_run: bool
    ) -> Counts:
        """As `prune`, but with a dry run and with counts."""
        return self._run(
            self._maintenance.prune(self.serde, thread_ids, strategy, keep_last, dry_run=dry_run)
        )

    def find_id(self, what: Literal["thread", "session"], prefix: str) -> str:
        """The only id of a thread or session that starts with a prefix, or equals it."""
        if not prefix:
            raise errors.InvalidConfigError(
                f"the {what} id is empty: pass at least the start of one"
            )
        found = self.read(self.queries.ids, what, prefix, 6)
        if not found:
            not_found = (
                errors.ThreadNotFoundError if what == "thread" else errors.SessionNotFoundError
            )
            raise not_found(f"no {what} id starts with {prefix!r}: run `{what}s list`")
        if found[0] != prefix and len(found) > 1:
            ids = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
            raise errors.AmbiguousIdError(
                f"several {what} ids start with {prefix!r} ({ids}): pass more"
            )
        return found[0]


def _option(help_text: str) -> Any:
    return typer.Option(help=help_text, rich_help_panel="Database", show_default=False)


@dataclass(frozen=True, kw_only=True)
class Target:
    """The database and tables that a command uses: the options that such commands share."""

    url: Annotated[
        str | None,
        _option(
            "Database URL or SQLite file; default $LANGGRAPH_SESSION_SAVER_URL, else a file in "
            "your data directory."
        ),
    ] = None
    schema: Annotated[str | None, _option("Schema of the tables (MySQL: database).")] = None
    table_prefix: Annotated[str, _option("Prefix of the table names.")] = ""

    @property
    def tables(self) -> dict[str, Any]:
        """The options that name the tables."""
        return {"schema": self.schema, "table_prefix": self.table_prefix}

    def reading(self) -> Database:
        """Open the database to read; a file may be read-only, and is not created."""
        url = self.parsed()
        if url.get_backend_name() == "sqlite":
            path = existing_file(url)
            engine = create_engine(
                url.set(database=str(path), query={}),
                creator=lambda: _connect_read_only(path),
                poolclass=NullPool,
                hide_parameters=True,
            )
            return Database(engine, auto_setup=False, **self.tables)
        return Database.from_conn_string(url, auto_setup=False, **self.tables)

    def writing(self, *, creates: bool = False, **options: Any) -> Database:
        """Open the database to write, with more options of the saver.

        `creates` says whether to create a missing file and missing tables.
        """
        url = self.parsed()
        if url.get_backend_name() == "sqlite":
            path = _path_of(url) if creates else existing_file(url)
            if url.query.get("mode") == "ro" or "immutable" in url.query:
                raise errors.StoragePermissionError(
                    f"the URL opens {path} read only, and this command writes"
                )
            query = {key: value for key, value in url.query.items() if key not in {"mode", "uri"}}
            url = url.set(database=str(path), query=query)
        return Database.from_conn_string(url, auto_setup=creates, **self.tables, **options)

    def parsed(self) -> URL:
        """The URL, with a sync driver."""
        given = self.url or os.environ.get(URL_VARIABLE)
        if given is not None and given.startswith("file:"):  # SQLite's own URL
            given = f"sqlite:///{given}{'&' if '?' in given else '?'}uri=true"
        return sync_url(parse_url(given))


def _path_of(url: URL) -> Path:
    name = str(url.database or "")
    if name in {"", ":memory:"} or url.query.get("mode") == "memory":
        raise errors.DatabaseUnavailableError(
            "an in-memory database belongs to one process: name a file with --url"
        )
    if name.startswith("file:"):
        name = unquote(name.removeprefix("file:"))
    return Path(name).expanduser()


def existing_file(url: URL) -> Path:
    """The file of a SQLite URL, which must exist."""
    path = _path_of(url)
    if not path.exists():
        raise errors.DatabaseUnavailableError(
            f"there is no database file {path}: pass --url, or set {URL_VARIABLE}"
        )
    return path


# -- read-only SQLite files -----------------------------------------------------------------------


def _connect_read_only(path: Path) -> sqlite3.Connection:
    """Connect so that nothing can be written.

    With `mode=ro`, SQLite leaves `-wal` and `-shm` files behind, so `mode=rw` is used where they
    can be removed. In a directory that is not writable, a file in WAL mode opens only as
    immutable, which ignores its log: that is refused unless the log is empty.
    """
    uri = path.absolute().as_uri()
    if os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK):
        return _connect(f"{uri}?mode=rw")
    try:
        return _connect(f"{uri}?mode=ro")
    except sqlite3.OperationalError as exc:
        unwritable = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")
        if not exc.sqlite_errorname.startswith(unwritable):
            raise
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise errors.StoragePermissionError(
                f"{path} cannot be read here: the newest changes are in {log.name}, and reading "
                "them needs a writable directory. Copy both files to one"
            ) from exc
    return _connect(f"{uri}?immutable=1")


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=10)
    try:
        connection.execute("PRAGMA query_only=ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection

"""The official savers, each over a database of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any, Literal, TypeAlias, get_args

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.mysql.pymysql import PyMySQLSaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from sqlalchemy import make_url

from tests.support.backends import Backend, BackendName

PeerName: TypeAlias = Literal["memory", "sqlite", "postgres", "mysql"]
PEER_NAMES: tuple[PeerName, ...] = get_args(PeerName)
BACKEND_OF: dict[PeerName, BackendName] = {
    "memory": "sqlite", "sqlite": "sqlite", "postgres": "postgresql", "mysql": "mariadb",
}  # fmt: skip


@contextmanager
def opened_peer(name: PeerName, backend: Backend) -> Iterator[BaseCheckpointSaver[Any]]:
    """An official saver with its sync methods."""
    if name == "memory":
        yield InMemorySaver()
    elif name == "sqlite":
        with closing(sqlite3.connect(str(backend.path), check_same_thread=False)) as connection:
            yield SqliteSaver(connection)
    elif name == "postgres":
        with PostgresSaver.from_conn_string(_plain(backend)) as saver:
            saver.setup()
            yield saver
    else:
        with PyMySQLSaver.from_conn_string(_plain(backend)) as mysql:
            mysql.setup()
            yield mysql


@asynccontextmanager
async def opened_async_peer(
    name: Literal["sqlite", "postgres"], backend: Backend
) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    """An official saver with its async methods."""
    if name == "sqlite":
        async with AsyncSqliteSaver.from_conn_string(str(backend.path)) as saver:
            yield saver
    else:
        async with AsyncPostgresSaver.from_conn_string(_plain(backend)) as postgres:
            yield postgres


class Numbered(SqliteSaver):
    """Versions as the base class makes them: 1, 2, 3."""

    def get_next_version(self, current: Any, channel: None) -> Any:
        return 1 if current is None else current + 1


def _plain(backend: Backend) -> str:
    url = make_url(backend.url)
    plain = url.set(drivername=url.get_backend_name().replace("mariadb", "mysql"))
    return plain.render_as_string(hide_password=False)

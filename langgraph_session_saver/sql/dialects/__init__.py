"""One module for each database: everything in which it differs from the others."""

from __future__ import annotations

import sqlalchemy

from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.sql.dialects.mysql import MySQL
from langgraph_session_saver.sql.dialects.postgresql import PostgreSQL
from langgraph_session_saver.sql.dialects.sqlite import SQLite

_DIALECTS: dict[str, type[Dialect]] = {
    "sqlite": SQLite,
    "postgresql": PostgreSQL,
    "mysql": MySQL,
    "mariadb": MySQL,
}


def dialect_for(dialect: sqlalchemy.Dialect | type[sqlalchemy.Dialect]) -> Dialect:
    """What differs in the database of a SQLAlchemy dialect.

    Raises:
        InvalidConfigError: No class knows that database.
    """
    try:
        return _DIALECTS[dialect.name]()
    except KeyError:
        raise InvalidConfigError(
            f"the database {dialect.name!r} is not supported: use one of {', '.join(_DIALECTS)}"
        ) from None

"""What the tables of the applications have in common: keys, times, types and names."""

from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import MappedColumn, mapped_column
from sqlalchemy.sql.functions import FunctionElement

from langgraph_session_saver.models import Id, Json, UTCDateTime


class NextTime(FunctionElement[datetime]):
    """The database's time in UTC, or a microsecond after the row's `updated_at` if that is later.

    So each change of a row has a later `updated_at` than the one before, whichever process made it.
    """

    type = UTCDateTime()
    inherit_cache = True


@compiles(NextTime, "postgresql")
def _next_time_of_postgresql(*_: Any, **__: Any) -> str:
    return "GREATEST(clock_timestamp(), updated_at + INTERVAL '1 microsecond')"


@compiles(NextTime, "mysql")
@compiles(NextTime, "mariadb")
def _next_time_of_mysql(*_: Any, **__: Any) -> str:
    return "GREATEST(UTC_TIMESTAMP(6), updated_at + INTERVAL 1 MICROSECOND)"


@compiles(NextTime, "sqlite")
def _next_time_of_sqlite(*_: Any, **__: Any) -> str:
    # Its times are text; its clock has milliseconds.
    now = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
    next_second = "strftime('%Y-%m-%d %H:%M:%S.000000', updated_at, '+1 second')"
    next_microsecond = "substr(updated_at, 1, 20) || printf('%06d', substr(updated_at, 21) + 1)"
    return (
        f"max({now}, CASE substr(updated_at, 21) WHEN '999999' THEN {next_second} "
        f"ELSE {next_microsecond} END)"
    )


def utc_now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """Make an id that nobody guesses."""
    return str(uuid4())


Key = Annotated[str, mapped_column(Id(36), primary_key=True, default=new_id)]
CreatedAt = Annotated[datetime, mapped_column(default=utc_now)]
UpdatedAt = Annotated[datetime, mapped_column(default=utc_now, onupdate=NextTime())]

LongText = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
"""Text of any length: MySQL's TEXT ends at 64 KB."""

ON_MYSQL: dict[str, Any] = {"mysql_charset": "utf8mb4", "mariadb_charset": "utf8mb4"}
"""Options of every table."""

NAMES = {
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "idx_%(table_name)s_%(column_0_N_name)s",
}
"""The names of constraints and indexes that have none of their own."""

TYPES: dict[Any, Any] = {
    str: Id(255),
    datetime: UTCDateTime(),
    float: sa.Double(),
    dict[str, Any]: Json(),
    list[dict[str, Any]]: Json(),
    Enum: sa.Enum(
        Enum,
        native_enum=False,
        length=20,
        create_constraint=True,
        values_callable=lambda kind: [member.value for member in kind],
    ),
}
"""The column type of each annotation."""


def owned_by(column: str | sa.Column[Any], *, index: bool = False) -> MappedColumn[Any]:
    """Declare a reference to a row, with which the database deletes this one."""
    return mapped_column(sa.ForeignKey(column, ondelete="CASCADE"), index=index)

"""Column types that store the same values on every database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Integer,
    LargeBinary,
    String,
    Text,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeDecorator, TypeEngine

from langgraph_session_saver.encoding.keys import KEY_BYTES


def utc_now() -> datetime:
    """The current time, as an aware datetime in UTC."""
    return datetime.now(UTC)


def microseconds(time: datetime) -> int:
    """Microseconds since 1970."""
    return int(time.timestamp() * 1_000_000)


def utc_time(text: Any) -> datetime | None:
    """A time in ISO 8601, of which one without a zone is in UTC; None for anything else."""
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (OverflowError, TypeError, ValueError):
        return None


class UTCDateTime(TypeDecorator[datetime]):
    """A datetime with microseconds, aware and in UTC in Python, on every database."""

    impl = DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC: databases without time zones store the digits."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone: pass an aware datetime")
        return value if value.tzinfo is UTC else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware datetime in UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def stored_type(column: Column[Any]) -> TypeEngine[Any]:
    """The type that a column's `TypeDecorator`, if it has one, stores its values as."""
    return column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type


class Id(String):
    """Text compared and sorted byte by byte: 'A' is not 'a', and trailing spaces count."""


@compiles(Id, "sqlite")
def _compile_id_sqlite(element: Id, compiler: Any, **kw: Any) -> str:
    del element, compiler, kw
    return "TEXT"


@compiles(Id, "postgresql")
def _compile_id_postgresql(element: Id, compiler: Any, **kw: Any) -> str:
    return str(compiler.visit_VARCHAR(String(element.length, collation="C"), **kw))


@compiles(Id, "mysql")
@compiles(Id, "mariadb")
def _compile_id_mysql(element: Id, compiler: Any, **kw: Any) -> str:
    # The default collation equates 'a', 'A', 'á' and 'a '; only a NO PAD binary one does not.
    del kw
    collation = "utf8mb4_nopad_bin" if compiler.dialect.is_mariadb else "utf8mb4_0900_bin"
    return f"VARCHAR({element.length}) CHARACTER SET utf8mb4 COLLATE {collation}"


def Key() -> LargeBinary:  # noqa: N802 - reads as the type it returns
    """A hashed key of at most 16 bytes."""
    return LargeBinary(KEY_BYTES).with_variant(mysql.VARBINARY(KEY_BYTES), "mysql", "mariadb")


def Bytes() -> LargeBinary:  # noqa: N802
    """Serialised values, up to the largest size the database stores."""
    return LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


def LongText() -> Text:  # noqa: N802
    """Text of any length."""
    return Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


def RowId() -> BigInteger:  # noqa: N802
    """A generated 64-bit row id; SQLite generates only INTEGER."""
    return BigInteger().with_variant(Integer(), "sqlite")


class JsonText(str):
    """JSON that is already serialised."""

    __slots__ = ()


class Json(TypeDecorator[Any]):
    """JSON, JSONB on PostgreSQL: None is stored as NULL, `JsonText` unchanged."""

    impl = JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        """Serialise a value, unless it is a `JsonText`."""
        write = super().bind_processor(dialect)
        if write is None:
            return None
        return lambda value: str(value) if isinstance(value, JsonText) else write(value)

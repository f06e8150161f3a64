"""The types of what is stored: columns that are alike on every database, serialised values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer, LargeBinary, String, Text
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeDecorator

from langgraph_session_saver.encoding.keys import KEY_BYTES


def utc_now() -> datetime:
    """The current instant, aware, in UTC."""
    return datetime.now(UTC)


class UTCDateTime(TypeDecorator[datetime]):
    """An instant with microseconds: aware and in UTC in Python, the same instant everywhere."""

    impl = DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Send the instant in UTC; the databases without zones store its digits."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone: pass an aware datetime")
        return value if value.tzinfo is UTC else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the instant aware, in UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        """Write SQLite's text as SQLAlchemy would, at a fifth of its price: four of a step."""
        if not isinstance(self.impl_instance, sqlite.DATETIME):
            return super().bind_processor(dialect)

        def as_text(value: datetime | None) -> str | None:
            moment = self.process_bind_param(value, dialect)
            return None if moment is None else moment.isoformat(" ", "microseconds")[:_ZONE]

        return as_text


_ZONE = -len("+00:00")


class Id(String):
    """Text that is compared and sorted byte by byte: 'A' is not 'a', a trailing space counts."""


@compiles(Id)
def _compile_id(element: Id, compiler: Any, **kw: Any) -> str:
    return str(compiler.visit_VARCHAR(String(element.length), **kw))


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
    # The default collation merges 'a', 'A', 'á' and 'a '; only a NO PAD binary one keeps all four.
    del kw
    collation = "utf8mb4_nopad_bin" if compiler.dialect.is_mariadb else "utf8mb4_0900_bin"
    return f"VARCHAR({element.length}) CHARACTER SET utf8mb4 COLLATE {collation}"


def Key() -> LargeBinary:  # noqa: N802 - reads as the type it returns
    """A hashed key of at most 16 bytes."""
    binary = LargeBinary(KEY_BYTES)
    for name in ("mysql", "mariadb"):
        binary = binary.with_variant(mysql.VARBINARY(KEY_BYTES), name)
    return binary


def Bytes() -> LargeBinary:  # noqa: N802
    """Serialised values, as large as the database allows."""
    return LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


def LongText() -> Text:  # noqa: N802
    """Text of any length."""
    return Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


def RowId() -> BigInteger:  # noqa: N802
    """A generated 64-bit row number (SQLite's only kind is INTEGER)."""
    return BigInteger().with_variant(Integer(), "sqlite")


class JsonText(str):
    """JSON that is written out already."""

    __slots__ = ()


class Json(TypeDecorator[Any]):
    """JSON; JSONB on PostgreSQL. Python's None is SQL's NULL, and `JsonText` is stored as it is."""

    impl = JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        """Write a value as JSON."""
        write = super().bind_processor(dialect)
        if write is None:
            return None
        return lambda value: str(value) if isinstance(value, JsonText) else write(value)

"""Bind parameters for lists and rows whose number varies.

Element n of a list `p` is the parameter `p_n`, and column c of row n is `p_n_c`. A statement is
compiled once for each number of elements. A list of keys is padded to a power of two by repeating
its last key, so that few such statements are needed; a condition means the same with it twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import BindParameter, ColumnElement, Table, Update, bindparam, case

T = TypeVar("T")

Rows = Sequence[Mapping[str, Any]]


def padded(keys: Sequence[T]) -> list[T]:
    """Repeat the last key until there is a power of two of them; of none there stays none."""
    if not keys:
        return []
    size = 1 << (len(keys) - 1).bit_length()
    return [*keys, *[keys[-1]] * (size - len(keys))]


def list_binds(name: str, column: ColumnElement[Any], count: int) -> list[BindParameter[Any]]:
    """Parameters for a list of a column's values."""
    return [bindparam(f"{name}_{n}", type_=column.type) for n in range(count)]


def list_params(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """The values of `list_binds`."""
    return {f"{name}_{n}": value for n, value in enumerate(values)}


def updating(update: Update) -> Update:
    """An UPDATE whose parameter `updated_at` is the row's new time, unless the old one is later."""
    column = update.table.c.updated_at
    return update.values(updated_at=later(column, bindparam("updated_at", type_=column.type)))


def later(column: ColumnElement[Any], time: BindParameter[Any]) -> ColumnElement[Any]:
    """The later one of a column's time and a parameter's."""
    return case((column > time, column), else_=time)


def row_binds(
    name: str, table: Table, columns: Sequence[str], count: int
) -> list[dict[str, BindParameter[Any]]]:
    """Parameters for some columns of several rows."""
    c = table.c
    return [
        {column: bindparam(f"{name}_{n}_{column}", type_=c[column].type) for column in columns}
        for n in range(count)
    ]


def row_params(name: str, columns: tuple[str, ...], rows: Rows) -> dict[str, Any]:
    """The values of `row_binds`."""
    names = _row_names(name, columns, len(rows))
    return dict(zip(names, [row[column] for row in rows for column in columns], strict=True))


@lru_cache(maxsize=1_024)
def _row_names(name: str, columns: tuple[str, ...], count: int) -> list[str]:
    return [f"{name}_{n}_{column}" for n in range(count) for column in columns]

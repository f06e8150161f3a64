"""Channel values as text and JSON that any database takes. Pure, and bounded in its work."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from enum import Enum
from json.encoder import encode_basestring_ascii
from types import NoneType
from typing import Any

DEPTH = 28
"""Levels of nesting that any database's JSON takes (MariaDB: 32), with room around the value."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class OverBudgetError(ValueError):
    """A value is larger, as JSON, than what it was allowed."""


def clean_text(text: str) -> str:
    """Text with NUL and lone surrogates, which databases refuse, replaced by U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


def shorten(text: str, limit: int) -> str:
    """Text cut to a length, with an ellipsis where something is missing."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def to_json(value: Any, budget: float = math.inf, *, depth: float = DEPTH) -> Any:
    """A value as plain JSON: models and dataclasses by field, what has no JSON form by its type.

    Args:
        value: Any channel value.
        budget: Characters it may take; the work stops there.
        depth: Levels of nesting it may have.

    Raises:
        OverBudgetError: The value takes more, or is nested deeper than databases take.
    """
    return _Plain(budget, depth).convert(value)


def quick_json(value: Any, limit: int) -> str | None:
    """The text of `to_json`'s result, written in C; None where that is not sure to be the same.

    2 KB of plain values take 6 µs, and 50 in Python.

    Args:
        value: Any channel value of a bounded size.
        limit: Characters that the text may have.
    """
    write = _SCALARS.get(type(value), _encode)
    try:
        text = write(value)
    except (TypeError, ValueError, RecursionError):
        return None
    if len(text) > limit or (write is _encode and text.count("{") + text.count("[") > DEPTH):
        return None
    return None if "\\u" in text and _ESCAPED.search(text) else text


_encode = json.JSONEncoder(allow_nan=False).encode

_SCALARS: Mapping[type, Callable[[Any], str]] = {
    str: encode_basestring_ascii,
    int: str,
    bool: {False: "false", True: "true"}.__getitem__,
    NoneType: lambda _none: "null",
}
"""How to write those that hold no others, without an encoder that is made for each."""

_ESCAPED = re.compile(r"\\u(?:0000|d[89a-f])")
"""What `clean_text` may replace, as JSON writes it."""


class _Plain:
    def __init__(self, budget: float, deepest: float) -> None:
        self._left = budget
        self._deepest = deepest
        self._depth = 0

    def convert(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return self._spend(value, 4)
        if isinstance(value, str) and not isinstance(value, Enum):
            self._spend(None, len(value) + 2)
            return clean_text(value)
        if isinstance(value, Enum):
            return self.convert(value.value)
        if isinstance(value, int | float):
            finite = isinstance(value, int) or math.isfinite(value)
            return self._spend(value if finite else str(value), 8)
        if isinstance(value, datetime | date | time):
            return self._spend(value.isoformat(), 32)
        self._depth += 1
        if self._depth > self._deepest:
            raise OverBudgetError(f"nested more than {self._deepest} levels deep")
        found = self._container(value)
        self._depth -= 1
        return found

    def _container(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {self._key(key): self.convert(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return self._items(value)
        if isinstance(value, bytes | bytearray):
            self._spend(None, len(value) * 4 // 3)
            return {"$bytes": base64.b64encode(value).decode("ascii")}
        return self._object(value)

    def _items(self, values: Iterable[Any]) -> list[Any]:
        return [self.convert(self._spend(item, 2)) for item in values]

    def _object(self, value: Any) -> Any:
        fields = getattr(type(value), "model_fields", None)
        if fields is not None:
            return {name: self.convert(getattr(value, name)) for name in fields}
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            return {self._key(name): self.convert(getattr(value, name)) for name in names}
        return self._spend({"$type": f"{type(value).__module__}.{type(value).__qualname__}"}, 40)

    def _key(self, key: Any) -> str:
        if isinstance(key, Enum):
            key = key.value
        if key is None or isinstance(key, bool):
            key = json.dumps(key)
        text = clean_text(str(key))
        return self._spend(text, len(text) + 4)  # type: ignore[no-any-return]

    def _spend(self, value: Any, size: int) -> Any:
        self._left -= size
        if self._left < 0:
            raise OverBudgetError
        return value

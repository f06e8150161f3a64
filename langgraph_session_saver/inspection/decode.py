"""Decode stored bytes into plain structures; no stored type is imported or built.

A value of type `module.Name` becomes `{"$type": "module.Name", …}` with its fields, or with
`value` or `args` where it has none. Type names come from the database, so they are only data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_session_saver.encoding.framing import unframe
from langgraph_session_saver.encoding.keys import Typed
from langgraph_session_saver.encoding.nesting import MOST_PARTS, TooManyPartsError, count_parts
from langgraph_session_saver.encoding.serde import PLAINTEXT, EncryptedOnly
from langgraph_session_saver.errors import CorruptBlobError, HistoryLostError

TYPE = "$type"
"""The key that names a stored type."""

SNAPSHOT = "DeltaChannel snapshot"
"""The type name of LangGraph's wrapper around a `DeltaChannel`'s snapshot."""

DEEPEST = 64
"""Levels of nested stored types that are decoded."""

MOST_UNPACKED = 64 << 20
"""Bytes that a decoder unpacks of rows: a page of history holds up to 1,000 of them."""

# LangGraph's MessagePack extension codes. Codes 0 to 5 hold (module, name, argument, …).
_POSITIONAL_CODE, _FIELD_CODES, _ARRAY_CODE, _SNAPSHOT_CODE = 1, {2, 4, 5}, 6, 7


@dataclass(frozen=True, slots=True, eq=False)
class Undecodable:
    """Stands for a value or a part of one that cannot be decoded, and says why."""

    reason: str
    size: int | None = None

    def __str__(self) -> str:
        size = "" if self.size is None else f" ({self.size:,} bytes)"
        return f"cannot be decoded: {self.reason}{size}"


class Decoder:
    """A serialiser that reads values as dicts, lists and scalars, and writes none.

    Of the saver's own serialiser only the cipher is used, if it has one.
    """

    def __init__(self, serde: SerializerProtocol) -> None:
        self._serde = serde
        self._left = MOST_UNPACKED
        self._parts_left = MOST_PARTS
        self.has_refused = False
        """Whether a value had too many parts."""

    def loads_typed(self, data: Typed) -> Any:
        """Decode a serialised value, or return `Undecodable`."""
        typ, content = data
        try:
            typ, content = _decrypt(self._serde, typ, content)
            if typ == "null":
                return None
            if typ in {"bytes", "bytearray"}:
                return content
            if typ in _READERS:
                count, read = _READERS[typ]
                self._parts_left -= count(content, self._parts_left)
                return read(content)
            reason = f"format {typ!r} is not decoded here, because reading it may run stored code"
            return Undecodable(reason, len(content))
        except TooManyPartsError as exc:
            self.has_refused = True
            return Undecodable(f"{exc} at once", len(content))
        except Exception as exc:  # noqa: BLE001 - the bytes and the cipher can be anything
            return Undecodable(str(exc) or type(exc).__name__, len(content))

    def loads_stored(
        self, typ: str, stored: bytes, unwrap: Callable[[bytes], bytes] = unframe
    ) -> Any:
        """As `loads_typed`, after the stored bytes were unwrapped."""
        if self._left <= 0:
            return Undecodable("the rows before it unpack to more than is read at once")
        try:
            content = unwrap(stored)
        except (CorruptBlobError, HistoryLostError) as exc:
            return Undecodable(str(exc), len(stored))
        self._left -= len(content)
        return self.loads_typed((typ, content))

    def dumps_typed(self, obj: Any) -> Typed:
        """Part of the protocol only."""
        raise NotImplementedError


def _decrypt(serde: SerializerProtocol, typ: str, data: bytes) -> Typed:
    if "+" not in typ:
        if isinstance(serde, EncryptedOnly):
            raise ValueError(f"it {PLAINTEXT}")
        return typ, data
    if not isinstance(serde, EncryptedSerializer):
        raise TypeError(f"it is encrypted ({typ}), and this saver's serde has no key")
    typ, _, cipher = typ.partition("+")
    try:
        return typ, serde.cipher.decrypt(cipher, data)
    except Exception as exc:
        raise ValueError(f"this saver's key does not decrypt it: {exc}") from exc


def _unpack(data: bytes, depth: int = 0) -> Any:
    """Unpack MessagePack; an extension that cannot be decoded becomes `Undecodable`."""

    def hook(code: int, inner: bytes) -> Any:
        if depth == DEEPEST:
            return Undecodable("it is nested too deeply", len(inner))
        try:
            return _extension(code, inner, depth + 1)
        except Exception as exc:  # noqa: BLE001 - ormsgpack would hide it
            return Undecodable(str(exc), len(inner))

    return ormsgpack.unpackb(data, ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS)


def _extension(code: int, data: bytes, depth: int) -> Any:
    if not 0 <= code <= _SNAPSHOT_CODE:
        return {TYPE: f"msgpack extension {code}", "value": data}
    content = _unpack(data, depth)
    if code == _SNAPSHOT_CODE:
        return {TYPE: SNAPSHOT, "value": content}
    if code == _ARRAY_CODE:
        dtype, shape, order, array = content
        return {
            TYPE: "numpy.ndarray", "dtype": dtype, "shape": list(shape), "order": order,
            "bytes": len(array), "digest": blake2b(array, digest_size=8).hexdigest(),
        }  # fmt: skip
    module, name, argument, *_ = content
    if code in _FIELD_CODES and isinstance(argument, Mapping):
        fields = {key: item for key, item in argument.items() if key != TYPE}
        return {TYPE: f"{module}.{name}", **fields}
    return {TYPE: f"{module}.{name}", "args" if code == _POSITIONAL_CODE else "value": argument}


def _count_json(data: bytes, most: int) -> int:
    """As `count_parts`, of JSON; or more, if there are commas and brackets in its texts."""
    parts = 2 + 2 * (data.count(b",") + data.count(b"[")) + 8 * data.count(b"{")
    if parts > most:
        raise TooManyPartsError("it has more parts than are decoded")
    return parts


def _json_object(found: dict[str, Any]) -> dict[str, Any]:
    """Give an object in LangChain's JSON form the structure that MessagePack values get."""
    if found.get("lc") in {1, 2} and isinstance(found.get("id"), list):
        name = ".".join(str(part) for part in found["id"])
        fields = found.get("kwargs")
        return {TYPE: name, **(fields if isinstance(fields, dict) else {})}
    return found


_READERS: Mapping[str, tuple[Callable[[bytes, int], int], Callable[[bytes], Any]]] = {
    "msgpack": (count_parts, _unpack),
    "json": (_count_json, partial(json.loads, object_hook=_json_object)),
}
"""By format, what counts the parts of a value, and what reads it."""


# -- DeltaChannel values ------------------------------------------------------------------------


def without_snapshot(value: Any) -> Any:
    """The value in LangGraph's wrapper of a snapshot, or the value itself."""
    return (
        value.get("value") if isinstance(value, Mapping) and value.get(TYPE) == SNAPSHOT else value
    )


def replay(snapshot: Any, writes: Sequence[Any]) -> Any:
    """Apply a `DeltaChannel`'s decoded writes to its snapshot as LangGraph's list reducers do.

    The graph's own reducer is not known here. Lists are joined, an item takes the place of
    an earlier one with its id, and a `RemoveMessage` removes one. A snapshot that is not a list is
    returned as `{"snapshot": …, "writes": […]}`.
    """
    snapshot = without_snapshot(snapshot)
    if snapshot is not None and not isinstance(snapshot, list):
        return {"snapshot": snapshot, "writes": list(writes)}
    items: list[Any] = list(snapshot or [])
    for write in writes:
        if _class_name(write) == "Overwrite":
            items = []
            write = write.get("value")  # noqa: PLW2901
        items += write if isinstance(write, list) else [write]
    found: dict[Any, Any] = {}
    for n, item in enumerate(items):
        key = item.get("id") if isinstance(item, Mapping) and TYPE in item else None
        if not isinstance(key, str):
            found[n] = item
        elif _class_name(item) != "RemoveMessage":
            found[key] = item
        elif key == "__remove_all__":
            found.clear()
        else:
            found.pop(key, None)
    return list(found.values())


def _class_name(value: Any) -> str | None:
    return str(value.get(TYPE)).rpartition(".")[2] if isinstance(value, Mapping) else None

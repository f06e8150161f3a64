"""Stored bytes as plain structures: what a type was is named, and nothing is imported or built.

A stored type becomes `{"$type": "module.Name", …}`: with its fields where it has any, else with
`value` or `args`. Anybody who can write to the database chooses these names, so they are data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from sqlalchemy import Row

from langgraph_session_saver.encoding.chains import Value
from langgraph_session_saver.encoding.framing import unframe
from langgraph_session_saver.encoding.keys import Typed
from langgraph_session_saver.encoding.task_writes import unframe_write
from langgraph_session_saver.errors import CorruptBlobError, HistoryLostError

TYPE = "$type"
"""The key that names a stored type."""

SNAPSHOT = "DeltaChannel snapshot"

DEEPEST = 64
"""Stored types within stored types that are followed."""


# LangGraph's extension codes: (module, name, …) for all but the last two.
_POSITIONAL = 1

_FIELDS = {2, 4, 5}

_NAMED = {0, 1, 2, 3, 4, 5}

_ARRAY, _SNAPSHOT = 6, 7

_OPTIONS = ormsgpack.OPT_NON_STR_KEYS


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A value that cannot be shown, and why."""

    reason: str
    size: int

    def __str__(self) -> str:
        return f"cannot be decoded: {self.reason} ({self.size:,} bytes)"


def decode_plainly(serde: SerializerProtocol, typed: Typed) -> Any:
    """A serialised value as dicts, lists and scalars; `Undecodable` where that cannot be.

    Args:
        serde: Asked for its cipher if it encrypts, and for nothing else.
        typed: What it wrote.
    """
    typ, data = typed
    try:
        if "+" in typ:
            typ, data = _decrypted(serde, typ, data)
        return _decoded(typ, data)
    except RecursionError:
        return Undecodable("it is nested too deeply", len(data))
    except Exception as exc:  # noqa: BLE001 - any bytes may be stored, and any cipher be asked
        return Undecodable(str(exc) or type(exc).__name__, len(data))


def plain_frame(serde: SerializerProtocol, typ: str, framed: bytes) -> Any:
    """As `decode_plainly`, of bytes as they are stored."""
    try:
        data = unframe(framed)
    except CorruptBlobError as exc:
        return Undecodable(str(exc), len(framed))
    return decode_plainly(serde, (typ, data))


def plain_write(serde: SerializerProtocol, row: Row[Any], held: Mapping[bytes, Value]) -> Any:
    """As `decode_plainly`, of a task's write.

    Args:
        serde: The saver's serialiser.
        row: A row of `session_writes`.
        held: Values that writes are stored as changes of.
    """
    try:
        data = unframe_write(row.data, held.get)
    except (CorruptBlobError, HistoryLostError) as exc:
        return Undecodable(str(exc), len(row.data))
    return decode_plainly(serde, (row.type, data))


def _decrypted(serde: SerializerProtocol, typ: str, data: bytes) -> Typed:
    if not isinstance(serde, EncryptedSerializer):
        raise TypeError(f"it is encrypted ({typ}), and this saver's serde has no key")
    typ, _, cipher = typ.partition("+")
    try:
        return typ, serde.cipher.decrypt(cipher, data)
    except Exception as exc:
        raise ValueError(f"it does not decrypt with this saver's key: {exc}") from exc


def _decoded(typ: str, data: bytes) -> Any:
    if typ == "null":
        return None
    if typ in {"bytes", "bytearray"}:
        return data
    if typ == "msgpack":
        return _Unpacker().run(data)
    if typ == "json":
        return json.loads(data, object_hook=_named_json)
    raise ValueError(f"bytes of type {typ!r} cannot be read without running code of their writer")


class _Unpacker:
    """Unpacks one value, and keeps what first went wrong: ormsgpack does not say it."""

    def __init__(self) -> None:
        self._depth = 0
        self._problem: str | None = None

    def run(self, data: bytes) -> Any:
        try:
            return self._unpack(data)
        except ValueError as exc:
            raise ValueError(self._problem or str(exc)) from exc

    def _unpack(self, data: bytes) -> Any:
        return ormsgpack.unpackb(data, ext_hook=self._hook, option=_OPTIONS)

    def _hook(self, code: int, data: bytes) -> Any:
        self._depth += 1
        try:
            if self._depth > DEEPEST:
                raise ValueError("it is nested too deeply")  # noqa: TRY301 - kept like any other
            return self._extension(code, data)
        except Exception as exc:
            self._problem = self._problem or str(exc)
            raise
        finally:
            self._depth -= 1

    def _extension(self, code: int, data: bytes) -> Any:
        if code == _SNAPSHOT:
            return {TYPE: SNAPSHOT, "value": self._unpack(data)}
        if code == _ARRAY:
            return _array(*self._unpack(data))
        if code not in _NAMED:
            return {TYPE: f"msgpack extension {code}", "value": data}
        module, name, given, *_ = self._unpack(data)
        return _named(f"{module}.{name}", code, given)


def _named(name: str, code: int, given: Any) -> dict[Any, Any]:
    if code in _FIELDS and isinstance(given, Mapping):
        return {TYPE: name, **{key: given[key] for key in given if key != TYPE}}
    return {TYPE: name, "args" if code == _POSITIONAL else "value": given}


def _array(dtype: str, shape: Any, order: str, data: bytes) -> dict[str, Any]:
    digest = blake2b(data, digest_size=8).hexdigest()
    return {
        TYPE: "numpy.ndarray", "dtype": dtype, "shape": list(shape), "order": order,
        "bytes": len(data), "digest": digest,
    }  # fmt: skip


def _named_json(found: dict[str, Any]) -> dict[str, Any]:
    """LangChain's own JSON form of a stored object, as the same structure as any other."""
    if found.get("lc") in {1, 2} and isinstance(found.get("id"), list):
        name = ".".join(str(part) for part in found["id"])
        fields = found.get("kwargs")
        return {TYPE: name, **(fields if isinstance(fields, dict) else {})}
    return found

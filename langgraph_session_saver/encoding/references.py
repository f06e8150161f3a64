"""The column `refs` of a checkpoint: the other rows that it needs.

Retention reads this small MessagePack array and not the checkpoint itself. It therefore builds no
value, and needs no key of an encrypting serde.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import ormsgpack

from langgraph_session_saver.errors import CorruptBlobError


class References(NamedTuple):
    """The rows that a checkpoint needs."""

    ts: str
    """The checkpoint's timestamp (ISO 8601)."""
    replayed: Collection[str]
    """The channels whose values are replayed from ancestors."""
    blobs: Mapping[str, bytes]
    """The blob keys of the channels that have a value; empty if the checkpoint's row holds it."""
    caller: tuple[str, str] | None
    """The namespace and id of the checkpoint whose task runs this one's subgraph."""
    former: Collection[bytes] = ()
    """Blobs from before it was put again: writes of its tasks may be changes of them."""


def pack(references: References) -> bytes:
    """Pack references."""
    ts, replayed, blobs, caller, former = references
    packed = [ts, sorted(replayed), dict(blobs), caller]
    return ormsgpack.packb([*packed, sorted(former)] if former else packed)


def unpack(packed: bytes) -> References:
    """Unpack references.

    Raises:
        CorruptBlobError: The bytes are not packed references.
    """
    try:
        ts, replayed, blobs, caller, *more = ormsgpack.unpackb(packed)
        found = References(ts, replayed, blobs, tuple(caller) if caller else None, *more)
        kinds = {*map(type, found.blobs.values())}
    except (AttributeError, TypeError, ValueError) as exc:
        raise CorruptBlobError(f"a checkpoint's references do not decode: {exc}") from exc
    if kinds - {bytes}:
        raise CorruptBlobError("a checkpoint's references name blobs by something else than keys")
    return found


def replacing(now: References, packed: bytes) -> References:
    """The references of a checkpoint that is put again.

    Args:
        now: Its new references.
        packed: Those that are stored.

    Raises:
        CorruptBlobError: As `unpack`.
    """
    before = unpack(packed)
    former = {*filter(None, before.blobs.values()), *before.former} - {*now.blobs.values()}
    return now._replace(former=former)

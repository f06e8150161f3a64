"""What a checkpoint refers to, in a column that retention reads without the saver's serde. Pure.

A MessagePack array: the checkpoint's timestamp, the channels that are replayed from ancestors,
the blob key of each channel that has a value (an empty one where the checkpoint's row holds it),
the checkpoint whose task called the graph, and blobs that it had before it was put again.
Pruning a thread of 100,000 checkpoints then reads 100 bytes of each, builds no value, and needs
no key under an encrypting serde.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import ormsgpack

from langgraph_session_saver.errors import CorruptBlobError


class References(NamedTuple):
    """What keeps other rows alive."""

    ts: str
    """When the checkpoint was made (ISO 8601)."""
    replayed: Collection[str]
    """Channels whose value is replayed from ancestors."""
    blobs: Mapping[str, bytes]
    """Channels that have a value, and the blobs that hold it; none for one in the row itself."""
    caller: tuple[str, str] | None
    """For a subgraph's: namespace and id of the checkpoint whose task runs it."""
    former: Collection[bytes] = ()
    """Blobs of a checkpoint that this one replaced: its tasks' writes may be changes of them."""


def pack(references: References) -> bytes:
    """Write references as bytes."""
    ts, replayed, blobs, caller, former = references
    packed = [ts, sorted(replayed), dict(blobs), caller]
    return ormsgpack.packb([*packed, sorted(former)] if former else packed)


def unpack(packed: bytes) -> References:
    """Read what `pack` wrote.

    Raises:
        CorruptBlobError: The bytes are nothing that it writes.
    """
    try:
        ts, replayed, blobs, caller, *more = ormsgpack.unpackb(packed)
        return References(ts, replayed, blobs, tuple(caller) if caller else None, *more)
    except (TypeError, ValueError) as exc:
        raise CorruptBlobError(f"a checkpoint's references do not decode: {exc}") from exc


def replacing(now: References, packed: bytes) -> References:
    """References of a checkpoint that replaces one, which had others.

    Raises:
        CorruptBlobError: As `unpack`.
    """
    before = unpack(packed)
    former = {*filter(None, before.blobs.values()), *before.former} - {*now.blobs.values()}
    return now._replace(former=former)

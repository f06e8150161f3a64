"""Retention on the database: what a thread stores, read once, and the deletes that thin it out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row

from langgraph_session_saver.operations import PIECE, Operations
from langgraph_session_saver.references import unpack
from langgraph_session_saver.retention import Contents, Stored, Thinned


def read_contents(
    operations: Operations, conn: Connection, thread_key: bytes, revision: int
) -> Contents:
    """Read what a thread stores; its row is locked."""
    rows = [_stored(row) for row in operations.checkpoint_rows(conn, thread_key)]
    blobs = operations.blob_bases(conn, thread_key)
    return Contents(revision, {row.key: row for row in rows}, blobs)


def first_piece(contents: Contents, thinned: Thinned) -> tuple[Thinned, bool]:
    """As much of what is to go as one transaction takes, and whether that is all.

    Checkpoints go first, the oldest before the others, then blobs, changes before what they are
    changes of: what is there at any moment can be read.
    """
    if len(thinned.gone) + len(thinned.unused) <= PIECE:
        return thinned, True
    gone = sorted(thinned.gone, key=lambda row: row.checkpoint_id)[:PIECE]
    unused: dict[bytes, int] = {}
    if not gone:
        deepest = sorted(thinned.unused.items(), key=lambda item: item[1], reverse=True)
        unused = dict(deepest[:PIECE])
    doomed = {row.key for row in gone}
    rows = {key: row for key, row in contents.rows.items() if key not in doomed}
    rows |= {row.key: replace(row, is_hidden=True) for row in thinned.newly_hidden}
    blobs = {key: blob for key, blob in contents.blobs.items() if key not in unused}
    left = Contents(contents.revision, rows, blobs)
    return replace(thinned, contents=left, gone=gone, unused=unused, oldest_root=None), False


def carry_out(
    operations: Operations, conn: Connection, thread_key: bytes, thinned: Thinned
) -> None:
    """Delete what is to go from a thread."""
    if thinned.gone:
        operations.delete_checkpoints(conn, thread_key, [row.key for row in thinned.gone])
    if thinned.newly_hidden:
        operations.hide(conn, thread_key, [row.key for row in thinned.newly_hidden])
    if thinned.unused:
        operations.delete_blobs(conn, thread_key, thinned.unused)
    if thinned.oldest_root is not None:
        operations.batches.delete_late_writes(conn, thread_key, thinned.oldest_root)


def _stored(row: Row[Any]) -> Stored:
    found = unpack(row.refs)
    return Stored(
        ns_key=row.ns_key,
        checkpoint_id=row.checkpoint_id,
        checkpoint_ns=row.checkpoint_ns,
        parent_id=row.parent_checkpoint_id,
        root_id=row.root_checkpoint_id,
        caller=found.caller,
        run_id=row.run_id,
        ts=found.ts,
        is_hidden=row.hidden,
        replayed=frozenset(found.replayed),
        valued=frozenset(found.blobs),
        blobs=frozenset(found.blobs.values()),
    )

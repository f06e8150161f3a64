"""Retention on the database: what a thread stores, read once, and the deletes that thin it out."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Connection, Row

from langgraph_session_saver.codec import load, unframe
from langgraph_session_saver.configs import Place
from langgraph_session_saver.operations import Operations
from langgraph_session_saver.reading import decode
from langgraph_session_saver.retention import Contents, Stored, Thinned
from langgraph_session_saver.threads import ThreadRef


def read_contents(
    operations: Operations,
    conn: Connection,
    serde: SerializerProtocol,
    thread: ThreadRef,
    revision: int,
) -> Contents:
    """Read what a thread stores; its row is locked."""
    rows = [_stored(serde, thread, row) for row in operations.checkpoint_rows(conn, thread.key)]
    blobs = operations.blob_bases(conn, thread.key)
    return Contents(revision, {row.key: row for row in rows}, blobs)


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
        operations.delete_late_writes(conn, thread_key, thinned.oldest_root)


def _stored(serde: SerializerProtocol, thread: ThreadRef, row: Row[Any]) -> Stored:
    place = Place(thread, row.checkpoint_ns, row.ns_key, row.checkpoint_id)
    saved = decode(serde, place, row)
    what = f"the metadata of {saved.name}"
    metadata = load(serde, (row.metadata_type, unframe(row.metadata_data)), what)
    return Stored(
        ns_key=row.ns_key,
        checkpoint_id=row.checkpoint_id,
        checkpoint_ns=row.checkpoint_ns,
        parent_id=row.parent_checkpoint_id,
        root_id=row.root_checkpoint_id,
        run_id=row.run_id,
        ts=saved.checkpoint["ts"],
        is_hidden=row.hidden,
        replayed=frozenset(metadata.get("counters_since_delta_snapshot") or ()),
        valued=frozenset(saved.versions) - saved.absent,
        blobs=frozenset(saved.key(channel) for channel in saved.versions),
    )

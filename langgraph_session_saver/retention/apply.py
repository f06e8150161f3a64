"""Retention on the database: reading what a thread stores, and deleting what is not kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import Connection, Table

from langgraph_session_saver.retention.contents import Contents, Thinned
from langgraph_session_saver.retention.lineage import Stored
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.storage.parameters import Rows
from langgraph_session_saver.storage.storage import Storage
from langgraph_session_saver.storage.thread_data import PIECE, Pace


def read_contents(storage: Storage, conn: Connection, thread_key: bytes, revision: int) -> Contents:
    """Read what a thread stores as of a revision of its row."""
    rows = [Stored(*row) for row in storage.thread_data.checkpoint_rows(conn, thread_key)]
    blobs = storage.thread_data.blob_bases(conn, thread_key)
    rows.sort(key=lambda row: row.checkpoint_id)
    return Contents(revision, {row.key: row for row in rows}, blobs)


def deletes_of(tables: Tables, thread_key: bytes, thinned: Thinned) -> list[tuple[Table, Rows]]:
    """The deletes of a batch: checkpoints and their writes, and unused blobs."""
    checkpoints: Rows = [
        {"thread_key": thread_key, "ns_key": row.ns_key, "checkpoint_id": row.checkpoint_id}
        for row in thinned.gone
    ]
    blobs: Rows = [{"thread_key": thread_key, "blob_key": key} for key in thinned.unused]
    t = tables
    deletes = [(t.writes, checkpoints), (t.checkpoints, checkpoints), (t.blobs, blobs)]
    return [(table, rows) for table, rows in deletes if rows]


def in_pieces(thinned: Thinned, pace: Pace) -> Iterator[Thinned]:
    """Split what has to be deleted into pieces of one transaction each.

    Checkpoints go first, the oldest ones before the others, then blobs, deltas before their bases,
    so that everything that is left can be read at any moment. Orphaned writes go with the last
    checkpoints, because all checkpoints that are left are searched for theirs.

    Args:
        thinned: What has to be deleted.
        pace: Says before each piece how many rows that is.

    Yields:
        Each piece, at least one.
    """
    gone = sorted(thinned.gone, key=lambda row: row.checkpoint_id)
    unused = sorted(thinned.unused.items(), key=lambda item: (-item[1], item[0]))
    if len(gone) + len(unused) <= PIECE:
        yield thinned
        return
    nothing = replace(thinned, gone=[], newly_hidden=[], unused={}, oldest_root=None)
    start, newly_hidden = 0, thinned.newly_hidden
    while True:
        piece = gone[start : start + pace.most]
        start += len(piece)
        oldest_root = thinned.oldest_root if start == len(gone) else None
        yield replace(nothing, gone=piece, newly_hidden=newly_hidden, oldest_root=oldest_root)
        newly_hidden = []
        if start == len(gone):
            break
    pace.restart()
    start = 0
    while start < len(unused):
        piece_of_blobs = dict(unused[start : start + pace.most])
        start += len(piece_of_blobs)
        yield replace(nothing, unused=piece_of_blobs)


def carry_out(
    storage: Storage,
    conn: Connection,
    thread_key: bytes,
    thinned: Thinned,
    *,
    by_order: bool = False,
) -> None:
    """Delete what is not kept of a thread.

    Args:
        storage: The statements.
        conn: A transaction that holds the lock of the thread's row.
        thread_key: The thread.
        thinned: What has to be deleted.
        by_order: Whether to delete any unused blobs, as many as these. All others must follow.
    """
    if thinned.gone:
        gone = [row.key for row in thinned.gone]
        storage.thread_data.delete_checkpoints(conn, thread_key, gone, thinned.contents.rows)
    if thinned.newly_hidden:
        storage.thread_data.hide(conn, thread_key, [row.key for row in thinned.newly_hidden])
    if thinned.unused and by_order:
        staying = thinned.contents.blobs
        storage.thread_data.delete_newest_blobs(conn, thread_key, len(thinned.unused), staying)
    elif thinned.unused:
        storage.thread_data.delete_blobs(conn, thread_key, thinned.unused)
    if thinned.oldest_root is not None:
        storage.batches.delete_orphans(conn, thread_key, thinned.oldest_root)

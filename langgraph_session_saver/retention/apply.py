"""Retention on the database: what a thread stores, read once, and the deletes that thin it out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import Connection

from langgraph_session_saver.retention.contents import Contents, Thinned
from langgraph_session_saver.retention.lineage import Stored
from langgraph_session_saver.storage.batch import DeleteByKey
from langgraph_session_saver.storage.parameters import Rows
from langgraph_session_saver.storage.storage import Storage
from langgraph_session_saver.storage.thread_data import PIECE, Pace


def read_contents(storage: Storage, conn: Connection, thread_key: bytes, revision: int) -> Contents:
    """Read what a thread stores at a revision of its row."""
    rows = [Stored(*row) for row in storage.thread_data.checkpoint_rows(conn, thread_key)]
    blobs = storage.thread_data.blob_bases(conn, thread_key)
    rows.sort(key=lambda row: row.checkpoint_id)
    return Contents(revision, {row.key: row for row in rows}, blobs)


def deletes_of(
    storage: Storage, thread_key: bytes, thinned: Thinned
) -> list[tuple[DeleteByKey, Rows]]:
    """The deletes of a batch: checkpoints and their writes, and unused blobs."""
    checkpoints = [
        {"thread_key": thread_key, "ns_key": row.ns_key, "checkpoint_id": row.checkpoint_id}
        for row in thinned.gone
    ]
    blobs = [{"thread_key": thread_key, "blob_key": key} for key in thinned.unused]
    deletes: list[tuple[DeleteByKey, Rows]] = [
        (storage.checkpoints.delete_writes, checkpoints),
        (storage.checkpoints.delete_checkpoints, checkpoints),
        (storage.checkpoints.delete_blobs, blobs),
    ]
    return [(by_key, rows) for by_key, rows in deletes if rows]


def in_pieces(thinned: Thinned, pace: Pace) -> Iterator[Thinned]:
    """What is to go, in pieces of as much as one transaction takes; always one at least.

    Checkpoints go first, the oldest before the others, then blobs, changes before what they are
    changes of: what is there at any moment can be read. Writes that came too late go with the last
    checkpoints, for they are looked for among all that are left.

    Args:
        thinned: What is to go.
        pace: Asked before each piece how much that is.
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
    """Delete what is to go from a thread.

    Args:
        storage: The statements.
        conn: A transaction that holds the thread's row.
        thread_key: The thread.
        thinned: What is to go.
        by_order: Whether any unused blobs will do, as many as these: all others will follow.
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

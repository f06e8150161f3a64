"""Retention on the database: reading what a thread stores, and deleting what is not kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import Connection, Table

from langgraph_session_saver.retention.lineage import Stored
from langgraph_session_saver.retention.policy import Contents, Thinned
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
    deletes = [
        (tables.writes, checkpoints), (tables.checkpoints, checkpoints), (tables.blobs, blobs)
    ]  # fmt: skip
    return [(table, rows) for table, rows in deletes if rows]


def in_pieces(thinned: Thinned, pace: Pace) -> Iterator[Thinned]:
    """Split what has to be deleted into pieces of one transaction each, at least one.

    Checkpoints go first, the oldest ones before the others, then blobs, deltas before their bases,
    so that everything that is left can be read at any moment. Orphaned writes go with the last
    checkpoints, because all checkpoints that are left are searched for theirs.

    `pace` says before each piece how many rows that is.
    """
    gone = sorted(thinned.gone, key=lambda row: row.checkpoint_id)
    unused = sorted(thinned.unused.items(), key=lambda item: (-item[1], item[0]))
    if len(gone) + len(unused) <= PIECE:
        yield thinned
        return
    nothing = replace(thinned, gone=[], newly_hidden=[], unused={}, oldest_root=None)
    hidden = thinned.newly_hidden
    while len(gone) > (most := pace.most):
        yield replace(nothing, gone=gone[:most], newly_hidden=hidden)
        gone, hidden = gone[most:], []
    yield replace(nothing, gone=gone, newly_hidden=hidden, oldest_root=thinned.oldest_root)
    pace.restart()
    while unused:
        most = pace.most
        yield replace(nothing, unused=dict(unused[:most]))
        unused = unused[most:]


def carry_out(
    storage: Storage,
    conn: Connection,
    thread_key: bytes,
    thinned: Thinned,
    *,
    by_order: bool = False,
) -> None:
    """Delete what is not kept of a thread, whose row is locked.

    With `by_order`, any unused blobs are deleted, as many as these; all others must follow.
    """
    data = storage.thread_data
    if thinned.gone:
        gone = [row.key for row in thinned.gone]
        data.delete_checkpoints(conn, thread_key, gone, thinned.contents.rows)
    if thinned.newly_hidden:
        data.hide(conn, thread_key, [row.key for row in thinned.newly_hidden])
    if thinned.unused and by_order:
        data.delete_newest_blobs(conn, thread_key, len(thinned.unused), thinned.contents.blobs)
    elif thinned.unused:
        data.delete_blobs(conn, thread_key, thinned.unused)
    if thinned.oldest_root is not None:
        storage.batches.delete_orphans(conn, thread_key, thinned.oldest_root)

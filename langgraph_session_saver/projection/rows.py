"""The statements on projected rows, run in the transaction of the step that they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, select, update

from langgraph_session_saver.encoding.keys import ThreadRef, hash_key
from langgraph_session_saver.projection.project import Changes
from langgraph_session_saver.projection.rules import Problem, Step
from langgraph_session_saver.projection.status import (
    RUNNING,
    SEVERITY,
    Incident,
    Reached,
    status_at,
)
from langgraph_session_saver.schema.column_types import utc_now
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sql.compiled import batches
from langgraph_session_saver.sql.dialects.base import Dialect
from langgraph_session_saver.storage.batch import Store
from langgraph_session_saver.storage.checkpoints import Operations
from langgraph_session_saver.storage.threads import Head, new_revision

ROW_KEY = ("thread_key", "row_key")


class StaleViewError(Exception):
    """Another writer projected in between: what changed has to be worked out again."""


class ProjectedRows:
    """Writes what projections say, and what a thread is doing."""

    def __init__(self, operations: Operations, keep_versions: int | None = None) -> None:
        self._operations = operations
        self._keep_versions = keep_versions
        self._tables: Tables = operations.tables
        self._dialect: Dialect = operations.dialect
        t, d = self._tables, self._dialect
        self.messages = Store(
            t.messages,
            ROW_KEY,
            ("session_id", "thread_key", "row_key", "message_id", "role", "content", "timestamp",
             "removed_at"),
            ("role", "content", "removed_at", "session_id"),
            bulky="content",
        )  # fmt: skip
        self.usage = Store(
            t.token_usage,
            ROW_KEY,
            ("session_id", "thread_key", "row_key", "timestamp", "agent_type", "model",
             "input_tokens", "output_tokens", "total_tokens", "cost_usd"),
        )  # fmt: skip
        self._insert_page = d.insert_ignore(t.versions, ROW_KEY)
        e = t.errors.c
        self._recover = update(t.errors).where(
            e.thread_key == bindparam("thread"), e.kind == "error", e.recovered_at.is_(None)
        )
        self._number_errors = update(t.errors).where(
            e.thread_key == bindparam("thread"),
            e.kind == "error",
            e.step.is_(None),
            e.recovered_at.is_(None),
        )
        self._insert_error = d.insert_ignore(t.errors, ROW_KEY)

    # -- steps ------------------------------------------------------------------------------

    def apply(
        self, conn: Connection, thread: ThreadRef, head: Head, step: Step, changes: Changes
    ) -> None:
        """Store a step's changes; the thread's row is locked.

        Raises:
            StaleViewError: The rows do not show the step's parent.
        """
        if not changes.is_whole and head.checkpoint_id != changes.base:
            raise StaleViewError
        steps = self._operations.steps
        if head.is_first:
            self._operations.steps.change_session(
                conn, head.session_id, self.session_values(changes)
            )
        owner = {"session_id": head.session_id, "thread_key": thread.key}
        is_new = head.checkpoint_id is None
        seen = self._store_messages(conn, owner, changes, is_new=is_new)
        # A message that was there was paid for, in a copied thread by the one it is a copy of.
        usage = [{**row, **owner} for row in changes.usage if row["row_key"] not in seen]
        if usage:
            steps.put(conn, self.usage, usage)
        for page in changes.pages:
            version = self._store_page(conn, owner, page, is_fork=changes.is_whole)
            if head.is_first and version is not None:
                self._operations.steps.change_session(
                    conn, head.session_id, {"current_version": version}
                )
            if version is not None:
                # The page that was the current one is so no longer.
                self.drop_old_pages(conn, head.session_id, version)
        for table, rows in changes.rows:
            self._store_rows(conn, table, rows, head.session_id)
        for problem in changes.problems:
            conn.execute(self._insert_error, {**owner, **_problem_row(problem, step)})

    def session_values(self, changes: Changes) -> dict[str, Any]:
        """What a step changes in its session's row."""
        return {
            **changes.columns, "checkpoint_id": changes.checkpoint_id, "updated_at": utc_now(),
        }  # fmt: skip

    def _store_messages(
        self, conn: Connection, owner: Mapping[str, Any], changes: Changes, *, is_new: bool
    ) -> frozenset[bytes]:
        """Bring the rows up to date; returns the keys of those that were read."""
        rows, removed = changes.messages, changes.removed_messages
        seen: frozenset[bytes] = frozenset()
        if changes.compare_messages and not is_new:
            rows, removed, seen = self._differences(conn, owner["thread_key"], rows)
        if rows:
            rows = [{**row, **owner} for row in rows]
            self._operations.steps.put(conn, self.messages, rows)
        m = self._tables.messages
        for batch in batches(removed):
            conn.execute(
                update(m)
                .where(
                    m.c.thread_key == owner["thread_key"],
                    m.c.row_key.in_(batch),
                    m.c.removed_at.is_(None),
                )
                .values(removed_at=utc_now())
            )
        return seen

    def _differences(
        self, conn: Connection, thread_key: bytes, rows: Sequence[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], list[bytes], frozenset[bytes]]:
        """What to write, what to mark as removed for the rows to show these, and what there is."""
        m = self._tables.messages
        stored = {
            row.row_key: (row.role, row.content, row.removed_at)
            for row in conn.execute(
                select(m.c.row_key, m.c.role, m.c.content, m.c.removed_at).where(
                    m.c.thread_key == thread_key
                )
            )
        }
        new = [r for r in rows if stored.get(r["row_key"]) != (r["role"], r["content"], None)]
        gone = stored.keys() - {row["row_key"] for row in rows}
        return new, sorted(gone), frozenset(stored)

    def _store_page(
        self, conn: Connection, owner: Mapping[str, Any], page: dict[str, Any], *, is_fork: bool
    ) -> int | None:
        """Number a page after the newest of its session, unless it is that one again.

        A fork goes back to a page that has its number; the others keep theirs. Returns the
        number that is now the current one, which may have been rolled back.
        """
        s, v = self._tables.sessions, self._tables.versions
        session_id = owner["session_id"]
        conn.execute(self._dialect.locked(select(s.c.id).where(s.c.id == session_id), s))
        newest = conn.execute(
            select(v.c.version, v.c.html, v.c.thread_key, v.c.row_key)
            .where(v.c.session_id == session_id)
            .order_by(v.c.version.desc())
            .limit(1)
        ).one_or_none()
        again = select(v.c.version).where(
            v.c.thread_key == owner["thread_key"], v.c.row_key == page["row_key"]
        )
        if newest is not None and newest.html == page["html"]:
            return int(newest.version)
        version = conn.execute(again).scalar()
        if version is not None:
            return int(version) if is_fork else None
        version = 0 if newest is None else newest.version + 1
        conn.execute(self._insert_page, {**page, **owner, "version": version})
        return int(version)

    def drop_old_pages(self, conn: Connection, session_id: str, newest: int) -> None:
        """Delete pages that `keep_versions` does not keep, nor a pin, and are not the current."""
        if self._keep_versions is None:
            return
        s, v = self._tables.sessions, self._tables.versions
        current = select(s.c.current_version).where(s.c.id == session_id).scalar_subquery()
        conn.execute(
            delete(v).where(
                v.c.session_id == session_id,
                v.c.version <= newest - self._keep_versions,
                v.c.pinned.is_(False),
                v.c.version != current,
            )
        )

    def _store_rows(
        self, conn: Connection, table: Table, rows: list[dict[str, Any]], session_id: str
    ) -> None:
        """Upsert a custom projection's rows by their primary key."""
        if "session_id" in table.c:
            rows = [{"session_id": session_id, **row} for row in rows]
        key = [c.name for c in table.primary_key]
        alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in rows:
            alike.setdefault(tuple(sorted(row)), []).append(row)
        for names, batch in alike.items():
            columns = [name for name in names if name not in key]
            d = self._dialect
            store = d.upsert(table, key, columns) if columns else d.insert_ignore(table, key)
            conn.execute(store, batch)

    # -- status -----------------------------------------------------------------------------

    def note_checkpoint(
        self,
        conn: Connection,
        thread: ThreadRef,
        head: Head,
        reached: Reached,
        revision: int,
    ) -> Head:
        """Move a thread's head to its newest root checkpoint, and say what it does now."""
        if head.status == "error":
            when = {"thread": thread.key, "recovered_at": utc_now()}
            if head.status_checkpoint_id is None or head.status_checkpoint_id < reached.id:
                conn.execute(self._recover, when)
            elif head.status_checkpoint_id == reached.id and reached.step is not None:
                # One that came first could not tell its step.
                number = {"thread": thread.key, "step": reached.step + 1}
                conn.execute(self._number_errors, number)
        values = {"revision": revision, **status_at(reached, head.status_checkpoint_id)}
        self._operations.threads.change(conn, thread.key, values)
        return head.changed(values)

    def note_resumed(
        self, conn: Connection, thread: ThreadRef, head: Head, about: Mapping[str, Any]
    ) -> Head:
        """A thread that waited for an answer, or had failed, runs again."""
        if head.status not in SEVERITY:
            return head
        values = {
            "status": RUNNING, "status_since": utc_now(), "status_step": about["step"],
            "revision": new_revision(head.revision),
        }  # fmt: skip
        self._operations.threads.change(conn, thread.key, values)
        return head.changed(values)

    def note_incidents(
        self,
        conn: Connection,
        thread: ThreadRef,
        head: Head,
        found: Sequence[Incident],
        about: Mapping[str, Any],
        *,
        record: bool,
    ) -> Head:
        """Store errors as rows, and set the thread's status to the gravest incident.

        Args:
            conn: The step's transaction.
            thread: The thread.
            head: Its locked row.
            found: The errors and interrupts.
            about: `checkpoint_id`, `checkpoint_ns`, `run_id` and `task_id` of the call, and
                `root_checkpoint_id`.
            record: Whether errors get rows.
        """
        owner = {"session_id": head.session_id, "thread_key": thread.key}
        root_id = about["root_checkpoint_id"]
        row = {name: value for name, value in about.items() if name != "root_checkpoint_id"}
        for incident in found:
            if record and incident.status == "error":
                conn.execute(
                    self._insert_error,
                    {
                        **owner,
                        **row,
                        "row_key": incident.key,
                        "thread_id": thread.thread_id,
                        "kind": incident.status,
                        "node": incident.node,
                        "type": incident.type,
                        "message": incident.message,
                        "stack": incident.stack,
                    },
                )
        gravest = max(found, key=lambda incident: SEVERITY[incident.status])
        if not _outranks(head, gravest, root_id):
            return head
        values = {
            "status": gravest.status,
            "status_node": gravest.node,
            "status_step": about["step"],
            "status_since": utc_now(),
            "status_checkpoint_id": root_id,
            "revision": new_revision(head.revision),
        }
        self._operations.threads.change(conn, thread.key, values)
        return head.changed(values)


def _outranks(head: Head, incident: Incident, root_id: str | None) -> bool:
    """Whether an incident says more than the status that its thread has."""
    if root_id is None:
        return False
    if head.status_checkpoint_id is None or head.status_checkpoint_id < root_id:
        return True
    known = SEVERITY.get(head.status or "", 0)
    return head.status_checkpoint_id == root_id and known < SEVERITY[incident.status]


def _problem_row(problem: Problem, step: Step) -> dict[str, Any]:
    number = step.metadata.get("step")
    return {
        "row_key": hash_key("projection", step.checkpoint_id, problem.channel),
        "thread_id": step.thread_id,
        "checkpoint_id": step.checkpoint_id,
        "checkpoint_ns": "",
        "run_id": step.run_id,
        "kind": "projection",
        "step": number if isinstance(number, int) else None,
        "channel": problem.channel,
        "type": "ProjectionError",
        "message": str(problem),
    }

"""Statements on projected rows and on a thread's status, run in the transaction of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, select, update

from langgraph_session_saver.encoding.keys import ThreadRef, hash_key
from langgraph_session_saver.projection import status
from langgraph_session_saver.projection.project import Changes
from langgraph_session_saver.projection.rules import Problem, Step
from langgraph_session_saver.projection.transcript import (
    SHOWN,
    Entry,
    differences,
    stored,
)
from langgraph_session_saver.schema.column_types import microseconds
from langgraph_session_saver.sql.compiled import batches
from langgraph_session_saver.sql.runner import execute_own
from langgraph_session_saver.storage.batch import FIRST_TITLE, Upsert
from langgraph_session_saver.storage.parameters import Rows
from langgraph_session_saver.storage.storage import Storage
from langgraph_session_saver.storage.threads import Head, new_revision

ROW_KEY = ("thread_key", "row_key")


class StaleProjectionError(Exception):
    """Another process projected meanwhile: a step's changes have to be worked out again."""


class ProjectedRows:
    """Stores projected rows, and the status of threads."""

    def __init__(self, storage: Storage, keep_versions: int | None = None) -> None:
        self._storage = storage
        self._keep_versions = keep_versions
        self._tables, self._dialect = storage.tables, storage.dialect
        t, d = self._tables, self._dialect
        shown = (*SHOWN, "position", "removed_at", "session_id")
        columns = ("thread_key", "row_key", "message_id", "timestamp", *shown)
        self.messages = Upsert(t.messages, ROW_KEY, columns, shown, large="content")
        self._new_messages = Upsert(t.messages, ROW_KEY, columns, large="content")
        self.usage = Upsert(
            t.token_usage,
            ROW_KEY,
            ("session_id", "thread_key", "row_key", "timestamp", "agent_type", "model",
             "input_tokens", "output_tokens", "total_tokens", "cost_usd", "cache_read_tokens",
             "cache_creation_tokens", "reasoning_tokens"),
        )  # fmt: skip
        self._insert_page = d.insert_ignore(t.versions, ROW_KEY)
        e = t.errors.c
        self._recover = update(t.errors).where(
            e.thread_key == bindparam("thread"), e.kind == "error", e.recovered_at.is_(None)
        )
        self._number_errors = self._recover.where(e.step.is_(None))
        self._insert_error = d.insert_ignore(t.errors, ROW_KEY)

    # -- steps ------------------------------------------------------------------------------

    def upserts(self, thread: ThreadRef, head: Head, changes: Changes) -> list[tuple[Upsert, Rows]]:
        """The messages and the usage of a step that only adds some, as parts of a batch."""
        owner = _owner(thread, head)
        parts = ((self.messages, changes.messages), (self.usage, changes.usage))
        return [(upsert, [{**row, **owner} for row in rows]) for upsert, rows in parts if rows]

    def apply(
        self, conn: Connection, thread: ThreadRef, head: Head, step: Step, changes: Changes
    ) -> Changes:
        """Store the changes of a step that is a thread's newest; the thread's row is locked.

        Returns:
            The changes, with what was found out about the rows.

        Raises:
            StaleProjectionError: The rows do not show the step's parent.
        """
        if not changes.is_whole and head.checkpoint_id != changes.base:
            raise StaleProjectionError
        runner, owner = self._storage.batches, _owner(thread, head)
        if head.is_first:
            runner.change_session(conn, head.session_id, self.session_values(changes))
        if changes.all_messages is not None and head.checkpoint_id is not None:
            changes = self._compared(conn, thread.key, changes, changes.all_messages)
        for upsert, rows in self.upserts(thread, head, changes):
            runner.put(conn, upsert, rows)
        self._mark_removed(conn, thread.key, changes)
        for page in changes.pages:
            version = self._store_page(conn, owner, page, is_fork=changes.is_whole)
            if version is None:
                continue
            if head.is_first:
                runner.change_session(
                    conn, head.session_id, {"current_version": version, "updated_at": changes.time}
                )
            # After the change: the page that was current may be deleted now.
            self.drop_old_pages(conn, head.session_id, version)
        for table, own_rows in changes.rows:
            self._store_rows(conn, table, own_rows, head.session_id)
        for statement in changes.statements:
            execute_own(conn, statement)
        self._store_problems(conn, owner, step, changes)
        return changes

    def add(
        self, conn: Connection, thread: ThreadRef, head: Head, step: Step, changes: Changes
    ) -> None:
        """Add the rows of a step that is older than the thread's newest; its row is locked.

        What they show is not the present state: messages are marked as removed, no page becomes
        the current one, and existing rows stay as they are.
        """
        owner = _owner(thread, head)
        first = microseconds(changes.time)
        messages = [
            {**entry.row, **owner, "position": first + number, "removed_at": changes.time}
            for number, entry in enumerate(changes.brought)
            if entry.row is not None
        ]
        usage = [{**row, **owner} for row in changes.usage]
        for upsert, rows in ((self._new_messages, messages), (self.usage, usage)):
            if rows:
                self._storage.batches.put(conn, upsert, rows)
        for page in changes.pages:
            version = self._store_page(conn, owner, page, is_fork=False)
            if version is not None:
                self.drop_old_pages(conn, head.session_id, version)
        for table, own_rows in changes.rows:
            self._store_rows(conn, table, own_rows, head.session_id, overwrite=False)
        self._store_problems(conn, owner, step, changes)

    def _store_problems(
        self, conn: Connection, owner: Mapping[str, Any], step: Step, changes: Changes
    ) -> None:
        for problem in changes.problems:
            conn.execute(self._insert_error, {**owner, **_problem_row(problem, step)})

    def session_values(self, changes: Changes) -> dict[str, Any]:
        """The columns of a session's row that a step changes."""
        columns = changes.columns
        if changes.first_title is not None and "title" not in columns:
            columns = {**columns, FIRST_TITLE: changes.first_title}
        return {
            **columns, "checkpoint_id": changes.checkpoint_id, "updated_at": changes.time,
        }  # fmt: skip

    def _compared(
        self,
        conn: Connection,
        thread_key: bytes,
        changes: Changes,
        messages: Sequence[Sequence[Entry]],
    ) -> Changes:
        """Replace a thread's messages by their differences from the stored ones."""
        m = self._tables.messages.c
        columns = (m[name] for name in ("row_key", "position", "removed_at", *SHOWN))
        query = select(*columns).where(m.thread_key == thread_key)
        known = {row["row_key"]: stored(dict(row)) for row in conn.execute(query).mappings()}
        found = differences(messages, known, changes.time)
        changes = replace(changes, messages=found.rows, removed_messages=found.removed)
        changes.note_messages(found.shown)
        return changes

    def _mark_removed(self, conn: Connection, thread_key: bytes, changes: Changes) -> None:
        m = self._tables.messages
        is_shown = (m.c.thread_key == thread_key, m.c.removed_at.is_(None))
        for batch in batches(changes.removed_messages):
            gone = update(m).where(*is_shown, m.c.row_key.in_(batch))
            conn.execute(gone.values(removed_at=changes.time))

    def remove_messages(self, conn: Connection, thread_key: bytes, time: datetime) -> None:
        """Mark all messages of a thread as removed."""
        m = self._tables.messages
        shown = (m.c.thread_key == thread_key, m.c.removed_at.is_(None))
        conn.execute(update(m).where(*shown).values(removed_at=time))

    def _store_page(
        self, conn: Connection, owner: Mapping[str, Any], page: dict[str, Any], *, is_fork: bool
    ) -> int | None:
        """Store a page under the next version of its session, unless it is stored already.

        Returns:
            The version that is now current: of a fork, the version that its page has already. None
            if the page is an older one that is stored again.
        """
        s, v = self._tables.sessions, self._tables.versions
        session_id = owner["session_id"]
        conn.execute(self._dialect.locked(select(s.c.id).where(s.c.id == session_id), s))
        newest = conn.execute(
            select(v.c.version, v.c.html)
            .where(v.c.session_id == session_id)
            .order_by(v.c.version.desc())
            .limit(1)
        ).one_or_none()
        if newest is not None and newest.html == page["html"]:
            return int(newest.version)
        version = conn.execute(
            select(v.c.version).where(
                v.c.thread_key == owner["thread_key"], v.c.row_key == page["row_key"]
            )
        ).scalar()
        if version is not None:
            return int(version) if is_fork else None
        version = 0 if newest is None else newest.version + 1
        conn.execute(self._insert_page, {**page, **owner, "version": version})
        return int(version)

    def drop_old_pages(self, conn: Connection, session_id: str, newest: int) -> None:
        """Delete the pages beyond `keep_versions` that are neither pinned nor current."""
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
        self,
        conn: Connection,
        table: Table,
        rows: list[dict[str, Any]],
        session_id: str,
        *,
        overwrite: bool = True,
    ) -> None:
        """Store a custom projection's rows, which replace those of the same key if `overwrite`."""
        if "session_id" in table.c:
            rows = [{"session_id": session_id, **row} for row in rows]
        key = [c.name for c in table.primary_key]
        for names, alike in groupby(sorted(rows, key=sorted), key=sorted):
            columns = [name for name in names if name not in key]
            d = self._dialect
            is_upsert = overwrite and columns
            store = d.upsert(table, key, columns) if is_upsert else d.insert_ignore(table, key)
            execute_own(conn, store, list(alike))

    # -- status -----------------------------------------------------------------------------

    def note_recovery(
        self, conn: Connection, thread: ThreadRef, head: Head, reached: status.Reached
    ) -> None:
        """Note at a thread's errors that it went on, or the step that failed."""
        if head.status != "error":
            return
        failed_at = head.status_checkpoint_id or ""
        if failed_at < reached.id:
            conn.execute(self._recover, {"thread": thread.key, "recovered_at": reached.time})
        elif failed_at == reached.id and reached.step is not None:
            # Errors that were stored before their checkpoint lack its step.
            number = {"thread": thread.key, "step": reached.step + 1}
            conn.execute(self._number_errors, number)

    def note_resumed(
        self, conn: Connection, thread: ThreadRef, head: Head, about: Mapping[str, Any]
    ) -> Head:
        """Set the status of an interrupted or failed thread to running."""
        if head.status not in status.SEVERITY:
            return head
        values = {
            "status": "running", "status_since": about["created_at"], "status_step": about["step"],
            "updated_at": about["created_at"], "revision": new_revision(head.revision),
        }  # fmt: skip
        self._storage.threads.change(conn, thread.key, values)
        return head.changed(values)

    def note_incidents(
        self,
        conn: Connection,
        thread: ThreadRef,
        head: Head,
        found: Sequence[status.Incident],
        about: Mapping[str, Any],
        *,
        record: bool,
    ) -> Head:
        """Set the thread's status to the most severe incident, and with `record` store errors.

        `about` has the columns of the errors' rows that say where they happened (`checkpoint_id`,
        `checkpoint_ns`, `run_id`, `task_id` and `step`) and when (`created_at`), and
        `root_checkpoint_id`.
        """
        row = {**about, **_owner(thread, head), "thread_id": thread.thread_id}
        root_id = row.pop("root_checkpoint_id")
        for incident in found:
            if record and incident.kind == "error":
                conn.execute(self._insert_error, {**row, **incident._asdict()})
        worst = max(found, key=lambda incident: status.SEVERITY[incident.kind])
        known = (head.status_checkpoint_id or "", status.SEVERITY.get(head.status or "", 0))
        if root_id is None or known >= (root_id, status.SEVERITY[worst.kind]):
            return head
        values = {
            "status": worst.kind,
            "status_node": worst.node,
            "status_step": about["step"],
            "status_since": about["created_at"],
            "status_checkpoint_id": root_id,
            "updated_at": about["created_at"],
            "revision": new_revision(head.revision),
        }
        self._storage.threads.change(conn, thread.key, values)
        return head.changed(values)


def _owner(thread: ThreadRef, head: Head) -> dict[str, Any]:
    """The columns of a projected row that say whose it is."""
    return {"session_id": head.session_id, "thread_key": thread.key}


def _problem_row(problem: Problem, step: Step) -> dict[str, Any]:
    number = step.metadata.get("step")
    of_step = () if problem.once else (step.checkpoint_id,)
    return {
        "row_key": hash_key("projection", *of_step, problem.channel),
        "thread_id": step.thread_id,
        "checkpoint_id": step.checkpoint_id,
        "checkpoint_ns": "",
        "run_id": step.run_id,
        "kind": "projection",
        "step": number if isinstance(number, int) else None,
        "channel": problem.channel,
        "type": "ProjectionError",
        "message": str(problem),
        "created_at": step.time,
    }

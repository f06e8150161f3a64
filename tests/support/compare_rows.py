"""Rows of sessions, and what the repositories read of them, beside those of the reference."""

from __future__ import annotations

from collections import Counter
from typing import Any

from langgraph_session_saver import SessionSaver
from tests.support.backends import Sql
from tests.support.reference_rows import ReferenceRows, Session


def compare_tables(sql: Sql, rows: ReferenceRows) -> None:
    """Assert that the tables have the rows of the reference, and no others."""
    _compare_sessions(sql, rows)
    _compare_threads(sql, rows)
    _compare_messages(sql, rows)
    _compare_pages(sql, rows)
    _compare_calls(sql, rows)
    _compare_errors(sql, rows)


def _compare_sessions(sql: Sql, rows: ReferenceRows) -> None:
    found = sql(
        "SELECT id, title, build_status, product_type, model_writer, current_version, "
        "checkpoint_id, status FROM sessions"
    )
    assert {row["id"]: row for row in found} == {
        session.id: {
            "id": session.id,
            "title": session.title,
            **session.columns,
            "current_version": session.current_version,
            "checkpoint_id": session.checkpoint_id,
            "status": session.status,
        }
        for session in rows.sessions.values()
    }


def _compare_threads(sql: Sql, rows: ReferenceRows) -> None:
    found = sql("SELECT thread_id, session_id, checkpoint_id, status FROM session_threads")
    assert {row["thread_id"]: row for row in found} == {
        thread.id: {
            "thread_id": thread.id,
            "session_id": thread.session.id,
            "checkpoint_id": thread.newest,
            "status": thread.status,
        }
        for thread in rows.threads.values()
    }


def _compare_messages(sql: Sql, rows: ReferenceRows) -> None:
    """Those that are shown come in the order of their thread's state."""
    found = sql(
        "SELECT t.thread_id, m.session_id, m.message_id, m.role, m.content, m.removed_at "
        "FROM messages m LEFT JOIN session_threads t ON t.thread_key = m.thread_key "
        "ORDER BY t.thread_id, m.position, m.id"
    )
    shown: list[Any] = []
    hidden: list[Any] = []
    added: list[Any] = []
    for row in found:
        text = (row["role"], row["content"])
        if row["thread_id"] is None:
            added.append((row["session_id"], *text))
        else:
            is_shown = row["removed_at"] is None
            (shown if is_shown else hidden).append((row["thread_id"], row["message_id"], *text))
    in_order = sorted(rows.threads.values(), key=lambda thread: thread.id)
    expected = [
        ((thread.id, name, message.role, message.content), message.is_shown)
        for thread in in_order
        for name, message in thread.messages.items()
    ]
    assert shown == [message for message, is_shown in expected if is_shown]
    assert sorted(hidden) == sorted(message for message, is_shown in expected if not is_shown)
    assert sorted(added) == sorted(
        (session.id, *message)
        for session in rows.sessions.values()
        for message in session.added_messages
    )


def _compare_pages(sql: Sql, rows: ReferenceRows) -> None:
    found = sql("SELECT session_id, version, html, pinned FROM versions")
    assert sorted(
        (row["session_id"], row["version"], row["html"], bool(row["pinned"])) for row in found
    ) == sorted(
        (session.id, page.number, page.html, page.is_pinned)
        for session in rows.sessions.values()
        for page in session.pages
    )


def _compare_calls(sql: Sql, rows: ReferenceRows) -> None:
    found = sql(
        "SELECT u.session_id, t.thread_id, u.model, u.input_tokens, u.output_tokens "
        "FROM token_usage u LEFT JOIN session_threads t ON t.thread_key = u.thread_key"
    )
    of_threads = [
        (thread.session.id, thread.id, "a model", *tokens)
        for thread in rows.threads.values()
        for tokens in thread.calls.values()
    ]
    by_hand = [
        (session.id, None, *call)
        for session in rows.sessions.values()
        for call in session.added_calls
    ]
    assert Counter(tuple(row.values()) for row in found) == Counter([*of_threads, *by_hand])


def _compare_errors(sql: Sql, rows: ReferenceRows) -> None:
    found = sql("SELECT thread_id, task_id, message, checkpoint_id FROM session_errors")
    assert sorted(tuple(row.values()) for row in found) == sorted(
        (thread.id, *error, checkpoint_id)
        for thread in rows.threads.values()
        for error, checkpoint_id in thread.errors.items()
    )


# -- repositories -------------------------------------------------------------------------------


async def compare_records(saver: SessionSaver, rows: ReferenceRows) -> None:
    """Assert that the repositories list what the reference has, and that all states load."""
    listed = await saver.sessions.alist(limit=100)
    hidden = {session.id for session in rows.sessions.values() if session.status == "deleted"}
    assert {found.id for found in listed} == rows.sessions.keys() - hidden
    threads = await saver.threads.alist(limit=100)
    assert {(found.thread_id, found.session_id, found.status) for found in threads} == {
        (thread.id, thread.session.id, thread.status)
        for thread in rows.threads.values()
        if thread.session.id not in hidden
    }
    for session in rows.sessions.values():
        assert await saver.state.aload_state(session.id) == session.state


async def compare_session(saver: SessionSaver, rows: ReferenceRows, session: Session) -> None:
    """Assert that everything that is read of one session is what the reference has."""
    sessions, threads = saver.sessions, rows.threads_of(session)
    found = await sessions.aget(session.id)
    assert found is not None
    assert (found.title, found.status, found.checkpoint_id) == (
        session.title,
        session.status,
        session.checkpoint_id,
    )
    metadata = await saver.state.ametadata(session.id)
    assert metadata is not None
    assert metadata.graph_state == session.state
    assert metadata.build_status == session.columns["build_status"]
    routing, models = (
        await saver.state.arouting(session.id),
        await saver.state.amodel_usage(session.id),
    )
    assert routing is not None
    assert models is not None
    assert routing.product_type == session.columns["product_type"]
    assert models.writer == session.columns["model_writer"]
    messages = await sessions.amessages(session.id, removed=True, limit=1_000)
    shown = await sessions.amessages(session.id, limit=1_000)
    of_threads = [message for thread in threads for message in thread.messages.values()]
    by_hand = session.added_messages
    assert len(messages) == len(of_threads) + len(by_hand)
    assert len(shown) == sum(message.is_shown for message in of_threads) + len(by_hand)
    pages = await sessions.aversions(session.id)
    assert [page.version for page in pages] == [page.number for page in session.pages]
    current = await sessions.aversion(session.id)
    assert (current.html if current else None) == session.current_html
    calls = [tokens for thread in threads for tokens in thread.calls.values()]
    calls += [(given, taken) for _, given, taken in session.added_calls]
    assert len(await sessions.atoken_usage(session.id, limit=1_000)) == len(calls)
    sums = [
        (found.calls, found.input_tokens, found.output_tokens)
        for found in await sessions.ausage_summary(session_id=session.id)
    ]
    assert sums == ([(len(calls), *map(sum, zip(*calls, strict=True)))] if calls else [])
    errors = await sessions.aerrors(session.id, limit=1_000)
    assert len(errors) == sum(len(thread.errors) for thread in threads)
    for thread in threads:
        record = await saver.threads.aget(thread.id)
        assert record is not None
        assert (record.session_id, record.title) == (session.id, session.title)
        assert (record.checkpoint_id, record.status) == (thread.newest, thread.status)

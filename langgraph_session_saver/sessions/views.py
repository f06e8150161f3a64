"""What repositories read: the rows of every table, or those of one owner."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, case, func, select

from langgraph_session_saver.projection.status import STATUSES
from langgraph_session_saver.schema.tables import Tables
from langgraph_session_saver.sessions.records import View
from langgraph_session_saver.storage.threads import is_owned, owner_params


class Views(NamedTuple):
    """The views of a database's tables, by their names in `Tables`.

    A repository reads from these only, so that a method of a saver for an owner cannot forget
    whose rows it may see.
    """

    sessions: View
    threads: View
    messages: View
    versions: View
    token_usage: View
    errors: View


@lru_cache(maxsize=64)
def _all_rows(tables: Tables) -> Views:
    children = (tables.messages, tables.versions, tables.token_usage, tables.errors)
    return Views(
        View.of(tables.sessions, **_thread_status(tables)),
        View.of(tables.threads, **_of_session(tables)),
        *map(View.of, children),
    )


@lru_cache(maxsize=256)
def views_of(tables: Tables, owner_id: str | None) -> Views:
    """The views of tables, limited to an owner's rows unless that is None."""
    views, s = _all_rows(tables), tables.sessions.c
    if owner_id is None:
        return views
    is_own = s.owner_id == owner_id
    own_ids = select(s.id).where(is_own)
    sessions, threads, *children = views
    return Views(
        sessions._replace(where=(is_own,)),
        threads._replace(where=(is_owned(tables, owner_params(owner_id, is_limited=True)),)),
        *(view._replace(where=(view.c["session_id"].in_(own_ids),)) for view in children),
    )


def _thread_status(tables: Tables) -> dict[str, ColumnElement[Any]]:
    """The most urgent status of a session's threads, and its rank."""
    s, t = tables.sessions, tables.threads.c
    rank = case({status: n for n, status in enumerate(STATUSES, 1)}, value=t.status, else_=0)
    of_threads = select(t.status).where(t.session_id == s.c.id).correlate(s)
    highest = of_threads.with_only_columns(func.max(rank)).scalar_subquery()
    return {
        "thread_status": of_threads.order_by(rank.desc()).limit(1).scalar_subquery(),
        "thread_rank": func.coalesce(highest, 0),
    }


def _of_session(tables: Tables) -> dict[str, ColumnElement[Any]]:
    """Title and status of a thread's session, and the owner of either."""
    s, t = tables.sessions.c, tables.threads

    def of_session(column: ColumnElement[Any]) -> ColumnElement[Any]:
        return select(column).where(s.id == t.c.session_id).correlate(t).scalar_subquery()

    return {
        "title": of_session(s.title),
        "session_status": of_session(s.status),
        "owner_id": func.coalesce(t.c.owner_id, of_session(s.owner_id)),
    }

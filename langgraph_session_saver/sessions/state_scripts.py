"""The scripts on what a session's columns say of its graph: state, build, scores, routing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol
from pydantic import BaseModel, ValidationError
from sqlalchemy import Connection, select

from langgraph_session_saver.checkpointer.config import place_of
from langgraph_session_saver.checkpointer.context import ATTEMPTS, Context
from langgraph_session_saver.checkpointer.get import CheckpointReader
from langgraph_session_saver.errors import (
    HistoryLostError,
    InvalidConfigError,
    ProjectionError,
    ValueTooLargeError,
)
from langgraph_session_saver.projection.graph_state import OMITTED, is_reference
from langgraph_session_saver.projection.plain_json import OverBudgetError, clean_text, to_json
from langgraph_session_saver.projection.schemas import ModelUsage, RoutingMetadata, SessionMetadata
from langgraph_session_saver.schema.column_types import JsonText
from langgraph_session_saver.sessions.columns import columns_of, read
from langgraph_session_saver.sessions.session_scripts import SessionScripts
from langgraph_session_saver.sql.scripts import Request, Script
from langgraph_session_saver.validation import check_id

_ROUTING = tuple(RoutingMetadata.model_fields)
_MODELS = tuple(f"model_{role}" for role in ModelUsage.model_fields)
_METADATA = ("graph_state", "build_status", "build_artifacts", "aesthetic_scores", "updated_at")


class StateScripts:
    """Reads and sets the columns of a session that its graph projects."""

    def __init__(self, context: Context, sessions: SessionScripts, reads: CheckpointReader) -> None:
        self._context = context
        self._sessions = sessions
        self._reads = reads

    # -- graph state ------------------------------------------------------------------------

    def save(self, session_id: Any, state: Any) -> Script[bool]:
        """Set the state by hand."""
        return self.change(session_id, {"graph_state": self._as_column(state)})

    def _as_column(self, state: Any) -> JsonText:
        text = _as_text(state)
        self._context.check_size(text.encode(), lambda: "the state")
        return JsonText(text)

    def load(self, serde: SerializerProtocol, session_id: Any) -> Script[dict[str, Any] | None]:
        """Read the state, with the values that it only refers to."""
        session_id = check_id("session_id", session_id)
        lost: HistoryLostError | None = None
        for _ in range(ATTEMPTS):
            found: _Shown | None = yield Request.read(lambda conn: self._shown(conn, session_id))
            if found is None or found.state is None:
                return None
            if not _referred(found.state) and OMITTED not in found.state:
                return found.state
            try:
                return (yield from self._resolved(serde, session_id, found, found.state))
            except HistoryLostError as exc:
                lost = exc  # a step may have come between, and pruned what the row referred to
        raise lost or HistoryLostError(f"the state of session {session_id!r} could not be read")

    def _shown(self, conn: Connection, session_id: str) -> _Shown | None:
        s, t = self._context.tables.sessions, self._context.tables.threads
        row = conn.execute(
            select(
                s.c.graph_state, s.c.checkpoint_id, t.c.thread_id, t.c.checkpoint_id.label("newest")
            )
            .outerjoin(t, (t.c.session_id == s.c.id) & t.c.is_first.is_(True))
            .where(s.c.id == session_id)
        ).first()
        if row is None:
            return None
        return _Shown(row.graph_state, row.thread_id, row.checkpoint_id or row.newest)

    def _resolved(
        self,
        serde: SerializerProtocol,
        session_id: str,
        found: _Shown,
        state: Mapping[str, Any],
    ) -> Script[dict[str, Any]]:
        """A state with the values of the checkpoint that it was shown of."""
        referred, left_out = _referred(state), OMITTED in state

        def wanted(channel: str) -> bool:
            name = clean_text(channel)
            is_left_out = left_out and name not in state and self._context.projector.shows(channel)
            return is_left_out or name in referred

        values = None
        if found.thread_id is not None and found.checkpoint_id is not None:
            at = {"thread_id": found.thread_id, "checkpoint_id": found.checkpoint_id}
            place = place_of({"configurable": at})
            values = yield from self._reads.get_values(serde, place, wanted)
        read = {clean_text(channel): value for channel, value in (values or {}).items()}
        if values is None or referred - read.keys():
            raise HistoryLostError(
                f"the state of session {session_id!r} refers to values of checkpoint "
                f"{found.checkpoint_id!r} of thread {found.thread_id!r}, which are gone"
            )
        shown = {name: value for name, value in state.items() if name != OMITTED}
        return shown | {name: to_json(value, depth=math.inf) for name, value in read.items()}

    # -- the other columns ------------------------------------------------------------------

    def change(self, session_id: Any, columns: Mapping[str, Any]) -> Script[bool]:
        """Set columns; False if there is no such session."""
        session_id = check_id("session_id", session_id)
        return self._change(session_id, columns)

    def _change(self, session_id: str, columns: Mapping[str, Any]) -> Script[bool]:
        done: bool = yield Request.write(
            lambda conn: self._sessions.change(conn, session_id, columns)
        )
        return done

    def update_build_status(self, session_id: Any, info: Any) -> Script[bool]:
        """Set the status of a build, and what it made."""
        return self.change(session_id, read("build_status", info))

    def update_metadata(self, session_id: Any, changes: Mapping[str, Any]) -> Script[bool]:
        """Set the fields that are named."""
        known = ("graph_state", "build_status", "build_artifacts", "aesthetic_scores")
        _refuse_unknown("metadata", changes, known)
        columns = {name: value for name, value in changes.items() if name != "graph_state"}
        found = columns_of(columns)
        if "graph_state" in changes:
            state = changes["graph_state"]
            found["graph_state"] = None if state is None else self._as_column(state)
        return self.change(session_id, found)

    def metadata(
        self, serde: SerializerProtocol, session_id: Any
    ) -> Script[SessionMetadata | None]:
        """Read what a session knows about its graph."""
        row = yield from self._row(session_id, _METADATA)
        if row is None:
            return None
        state = yield from self.load(serde, session_id)
        try:
            return SessionMetadata.model_validate(
                {**row, "graph_state": state, "session_id": session_id}
            )
        except ValidationError as exc:
            raise ProjectionError(
                f"the columns of session {session_id!r} are not what this package wrote: {exc}"
            ) from exc

    def routing(self, session_id: Any) -> Script[RoutingMetadata | None]:
        """Read a session's routing."""
        row = yield from self._row(session_id, _ROUTING)
        return None if row is None else RoutingMetadata.model_construct(**row)

    def update_routing(
        self, session_id: Any, routing: RoutingMetadata | Mapping[str, Any] | None
    ) -> Script[bool]:
        """Set the fields that a routing names; None clears all."""
        return self.change(session_id, read("routing", _named("routing", routing, _ROUTING)))

    def model_usage(self, session_id: Any) -> Script[ModelUsage | None]:
        """Read which models a session used."""
        row = yield from self._row(session_id, _MODELS)
        if row is None:
            return None
        return ModelUsage.model_construct(
            **{name.removeprefix("model_"): value for name, value in row.items()}
        )

    def update_model_usage(
        self, session_id: Any, usage: ModelUsage | Mapping[str, Any] | None
    ) -> Script[bool]:
        """Set the roles that a usage names; None clears all."""
        roles = tuple(ModelUsage.model_fields)
        return self.change(session_id, read("model_usage", _named("usage", usage, roles)))

    def _row(self, session_id: Any, names: Iterable[str]) -> Script[dict[str, Any] | None]:
        session_id, s = check_id("session_id", session_id), self._context.tables.sessions.c
        query = select(*(s[name] for name in names)).where(s.id == session_id)
        row = yield Request.read(lambda conn: conn.execute(query).one_or_none())
        return None if row is None else dict(row._mapping)  # noqa: SLF001


class _Shown(NamedTuple):
    state: dict[str, Any] | None
    thread_id: str | None
    checkpoint_id: str | None
    """What the state was shown of: where it was set by hand, that has no references."""


def _as_text(state: Any) -> str:
    """A state as JSON.

    Raises:
        InvalidConfigError: It is no mapping, or holds references of a stored one.
        ValueTooLargeError: It is nested deeper than databases take.
    """
    if not isinstance(state, Mapping):
        raise InvalidConfigError(f"state is a {type(state).__name__}: pass a mapping")
    try:
        plain = to_json(state)
    except (OverBudgetError, RecursionError) as exc:
        raise ValueTooLargeError(f"the state cannot be stored as JSON: {exc}") from exc
    references = _referred(plain)
    if references or OMITTED in plain:
        raise InvalidConfigError(
            f"state holds {', '.join(sorted(references)) or OMITTED!r} as a mere reference, as "
            "the column graph_state does: save what load_state returns"
        )
    return json.dumps(plain)


def _referred(state: Mapping[str, Any]) -> set[str]:
    """The names under which a state has only references."""
    return {name for name, value in state.items() if is_reference(value)}


def _named(what: str, value: Any, known: Iterable[str]) -> Any:
    """What is set of a model, or a mapping, whose names are checked."""
    if isinstance(value, BaseModel) or value is None:
        return value
    if not isinstance(value, Mapping):
        raise InvalidConfigError(f"{what} is a {type(value).__name__}: pass a mapping or a model")
    _refuse_unknown(what, value, known)
    return value


def _refuse_unknown(what: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    unknown = sorted(map(str, given.keys() - set(known)))
    if unknown:
        raise InvalidConfigError(
            f"{what} has no {', '.join(map(repr, unknown))}: use {', '.join(known)}"
        )

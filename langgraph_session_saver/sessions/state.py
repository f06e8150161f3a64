"""`saver.state`: the columns of a session that its graph projects, sync and async."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from langgraph.checkpoint.serde.base import SerializerProtocol
from pydantic import BaseModel, ValidationError
from sqlalchemy import Connection, Row, func, select

from langgraph_session_saver import errors
from langgraph_session_saver.checkpointer.context import ATTEMPTS, Context
from langgraph_session_saver.checkpointer.get import CheckpointReader
from langgraph_session_saver.encoding.keys import Place
from langgraph_session_saver.projection import schemas
from langgraph_session_saver.projection.graph_state import OMITTED, is_reference
from langgraph_session_saver.projection.plain_json import OverBudgetError, clean_text, to_json
from langgraph_session_saver.projection.rules import without_snapshot
from langgraph_session_saver.schema.column_types import JsonText
from langgraph_session_saver.sessions import rows
from langgraph_session_saver.sessions.records import SessionRecord
from langgraph_session_saver.sql.scripts import Request, Script, ScriptRunner, awaited, write_script
from langgraph_session_saver.validation import check_id

if TYPE_CHECKING:
    from langgraph_session_saver.sql.borrowed import AnyConnection

M = TypeVar("M", bound=BaseModel)


class MetadataChanges(TypedDict, total=False):
    """The fields of `SessionMetadata` that can be set; None clears one."""

    graph_state: Mapping[str, Any] | None
    build_status: schemas.BuildInfo | schemas.BuildStatus | str | None
    build_artifacts: dict[str, Any] | None
    aesthetic_scores: schemas.AestheticScore | dict[str, Any] | None


class SessionState(rows.SessionMethods):
    """The columns of sessions that graphs project: `saver.state`.

    A graph's steps write these columns themselves. Setting one here clears the session's
    `checkpoint_id`, until the next step writes them all again. A method that changes columns
    returns whether the session exists, and changes no other columns.

    `connection=` is as for `saver.sessions`.
    """

    def __init__(
        self, script_runner: ScriptRunner, context: Context, serde: SerializerProtocol
    ) -> None:
        super().__init__(script_runner, context)
        self._serde = serde

    # -- graph state ------------------------------------------------------------------------

    def save_state(
        self,
        session_id: str,
        state: Mapping[str, Any],
        *,
        connection: AnyConnection | None = None,
    ) -> bool:
        """Set a session's state, as JSON; models and dataclasses become objects.

        Raises:
            InvalidConfigError: The state is not a mapping.
            ValueTooLargeError: It is larger, or nested deeper, than the database's limit.
        """
        return self._run(self._set(session_id, {"graph_state": self._to_column(state)}), connection)

    asave_state = awaited(save_state)

    def load_state(
        self, session_id: str, *, connection: AnyConnection | None = None
    ) -> dict[str, Any] | None:
        """Read a session's state, with the large values that the column only refers to.

        Channels that have rows of their own, `messages` and pages, are not part of it.

        Returns:
            The state as plain JSON; None if the session does not exist or has no state.

        Raises:
            HistoryLostError: The state refers to values of a checkpoint that is gone.
            SerializationError: A value has a type that may not be deserialised.
        """
        return self._run(self._load(session_id), connection)

    aload_state = awaited(load_state)

    def clear_state(self, session_id: str, *, connection: AnyConnection | None = None) -> bool:
        """Clear a session's state; the graph's checkpoints stay."""
        return self._run(self._set(session_id, {"graph_state": None}), connection)

    aclear_state = awaited(clear_state)

    # -- build and metadata -----------------------------------------------------------------

    def update_build_status(
        self,
        session_id: str,
        info: schemas.BuildInfo | schemas.BuildStatus | str,
        *,
        connection: AnyConnection | None = None,
    ) -> bool:
        """Set the build status; a `BuildInfo` also sets the artifacts, or why the build failed.

        Raises:
            InvalidConfigError: The status is unknown.
        """
        return self._run(
            self._set(session_id, rows.projected_columns("build_status", info)), connection
        )

    aupdate_build_status = awaited(update_build_status)

    def metadata(
        self, session_id: str, *, connection: AnyConnection | None = None
    ) -> schemas.SessionMetadata | None:
        """Read a session's state, build and scores; raises as `load_state` does."""
        return self._run(self._metadata(session_id), connection)

    ametadata = awaited(metadata)

    def update_metadata(
        self,
        session_id: str,
        *,
        connection: AnyConnection | None = None,
        **changes: Unpack[MetadataChanges],
    ) -> bool:
        """Set the named fields; None clears one.

        Raises:
            InvalidConfigError: A field is unknown, or a value is invalid.
        """
        rows.refuse_unknown("metadata", changes, MetadataChanges.__annotations__)
        columns = rows.validated_columns({n: v for n, v in changes.items() if n != "graph_state"})
        if "graph_state" in changes:
            state = changes["graph_state"]
            columns["graph_state"] = None if state is None else self._to_column(state)
        return self._run(self._set(session_id, columns), connection)

    aupdate_metadata = awaited(update_metadata)

    # -- routing and models -----------------------------------------------------------------

    def routing(
        self, session_id: str, *, connection: AnyConnection | None = None
    ) -> schemas.RoutingMetadata | None:
        """Read a session's routing; None if the session does not exist."""
        return self._run(self._get(session_id, schemas.RoutingMetadata), connection)

    arouting = awaited(routing)

    def update_routing(
        self,
        session_id: str,
        routing: schemas.RoutingMetadata | Mapping[str, str | None] | None,
        *,
        connection: AnyConnection | None = None,
    ) -> bool:
        """Set the given fields of a session's routing; None clears all.

        Raises:
            InvalidConfigError: A field is unknown, or a value is too long.
        """
        _refuse_unknown("routing", routing, schemas.RoutingMetadata.model_fields)
        return self._run(
            self._set(session_id, rows.projected_columns("routing", routing)), connection
        )

    aupdate_routing = awaited(update_routing)

    def model_usage(
        self, session_id: str, *, connection: AnyConnection | None = None
    ) -> schemas.ModelUsage | None:
        """Read the model of each role; None if the session does not exist."""
        return self._run(self._get(session_id, schemas.ModelUsage, "model_"), connection)

    amodel_usage = awaited(model_usage)

    def update_model_usage(
        self,
        session_id: str,
        usage: schemas.ModelUsage | Mapping[str, str | None] | None,
        *,
        connection: AnyConnection | None = None,
    ) -> bool:
        """Set the models of the given roles; None clears all.

        Raises:
            InvalidConfigError: A role is unknown, or a model's name is too long.
        """
        _refuse_unknown("usage", usage, schemas.ModelUsage.model_fields)
        return self._run(
            self._set(session_id, rows.projected_columns("model_usage", usage)), connection
        )

    aupdate_model_usage = awaited(update_model_usage)

    # -- scripts ----------------------------------------------------------------------------

    def _set(self, session_id: Any, columns: Mapping[str, Any]) -> Script[bool]:
        """Set columns; False if the session does not exist."""
        self._check_in_clear(columns)
        return write_script(self._change, check_id("session_id", session_id), columns)

    def _get(self, session_id: Any, model: type[M], prefix: str = "") -> Script[M | None]:
        """Read the columns that are a model's fields, with a prefix; None without a session."""
        session_id = check_id("session_id", session_id)
        found: SessionRecord | None = yield Request.read(self._find, session_id)
        if found is None:
            return None
        fields = {name: getattr(found, prefix + name) for name in model.model_fields}
        return model.model_construct(**fields)

    def _to_column(self, state: Any) -> JsonText:
        """Convert a state to JSON, if the database takes it and it holds no references."""
        if not isinstance(state, Mapping):
            raise errors.InvalidConfigError(f"state is a {type(state).__name__}: pass a mapping")
        try:
            plain = to_json(state)
        except (OverBudgetError, RecursionError) as exc:
            raise errors.ValueTooLargeError(f"the state cannot be stored as JSON: {exc}") from exc
        references = _references(plain)
        if references or OMITTED in plain:
            raise errors.InvalidConfigError(
                f"state has only a reference for {', '.join(sorted(references)) or OMITTED!r}, as "
                "the column graph_state does: pass what load_state returns"
            )
        text = json.dumps(plain)
        self._context.check_size(text.encode(), lambda: "the state")
        return JsonText(text)

    def _metadata(self, session_id: Any) -> Script[schemas.SessionMetadata | None]:
        session_id = check_id("session_id", session_id)
        found: SessionRecord | None = yield Request.read(self._find, session_id)
        if found is None:
            return None
        state = yield from self._load(session_id)
        columns = {**asdict(found), "graph_state": state, "session_id": session_id}
        try:
            return schemas.SessionMetadata.model_validate(columns)
        except ValidationError as exc:
            raise errors.ProjectionError(
                f"the columns of session {session_id!r} are not as this package wrote them: {exc}"
            ) from exc

    def _load(self, session_id: Any, attempts: int = ATTEMPTS) -> Script[dict[str, Any] | None]:
        session_id = check_id("session_id", session_id)
        stored: Row[Any, Any, Any] | None = yield Request.read(self._stored_state, session_id)
        if stored is None or stored.graph_state is None:
            return None
        try:
            return (yield from self._resolve(session_id, stored))
        except errors.HistoryLostError:
            if attempts == 1:
                raise
            # A step may have pruned the checkpoint since the row was read.
            return (yield from self._load(session_id, attempts - 1))

    def _stored_state(self, conn: Connection, session_id: str) -> Row[Any, Any, Any] | None:
        """The column `graph_state`, and the checkpoint that its references lead to."""
        s, t = self._tables.sessions, self._tables.threads
        checkpoint_id = func.coalesce(s.c.checkpoint_id, t.c.checkpoint_id).label("checkpoint_id")
        query = (
            select(s.c.graph_state, t.c.thread_id, checkpoint_id)
            .outerjoin(t, (t.c.session_id == s.c.id) & t.c.is_first.is_(True))
            .where(s.c.id == session_id, *self._views.sessions.where)
        )
        return conn.execute(query).first()

    def _resolve(self, session_id: str, stored: Row[Any, Any, Any]) -> Script[dict[str, Any]]:
        """Replace a state's references, and add its omitted channels, from its checkpoint."""
        state: dict[str, Any] = stored.graph_state
        references, has_omitted = _references(state), OMITTED in state
        if not references and not has_omitted:
            return state

        def is_wanted(channel: str) -> bool:
            name = clean_text(channel)
            if name in state:
                return name in references
            return has_omitted and self._context.projector.shows(channel)

        values = None
        if stored.thread_id is not None and stored.checkpoint_id is not None:
            at = {"thread_id": stored.thread_id, "checkpoint_id": stored.checkpoint_id}
            place = Place.of({"configurable": at}, self._context.owner_id)
            reader = CheckpointReader(self._context)
            values = yield from reader.get_values(self._serde, place, is_wanted)
        found = {
            clean_text(channel): without_snapshot(value)
            for channel, value in (values or {}).items()
        }
        if values is None or references - found.keys():
            raise errors.HistoryLostError(
                f"the state of session {session_id!r} refers to values of checkpoint "
                f"{stored.checkpoint_id!r} of thread {stored.thread_id!r}, which are gone"
            )
        kept = {name: value for name, value in state.items() if name != OMITTED}
        return kept | {name: to_json(value, depth=math.inf) for name, value in found.items()}


def _references(state: Mapping[str, Any]) -> set[str]:
    """The names whose values in a state are references."""
    return {name for name, value in state.items() if is_reference(value)}


def _refuse_unknown(what: str, value: Any, known: Iterable[str]) -> None:
    """Refuse what is neither a model, None, nor a mapping of known names."""
    if isinstance(value, BaseModel) or value is None:
        return
    if not isinstance(value, Mapping):
        raise errors.InvalidConfigError(
            f"{what} is a {type(value).__name__}: pass a mapping or a model"
        )
    rows.refuse_unknown(what, value, known)

"""`saver.state`: what a session's columns say of its graph, sync and async."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_session_saver.projection.schemas import (
    AestheticScore,
    BuildInfo,
    BuildStatus,
    ModelUsage,
    RoutingMetadata,
    SessionMetadata,
)
from langgraph_session_saver.sessions.state_scripts import StateScripts
from langgraph_session_saver.sql.scripts import ScriptRunner

if TYPE_CHECKING:
    from langgraph_session_saver.sql.borrowed import AnyConnection, SyncConnection


class MetadataChanges(TypedDict, total=False):
    """The fields of `SessionMetadata` that can be set; None clears one."""

    graph_state: Mapping[str, Any] | None
    build_status: BuildInfo | BuildStatus | str | None
    build_artifacts: dict[str, Any] | None
    aesthetic_scores: AestheticScore | dict[str, Any] | None


class SessionState:
    """What sessions show of their graphs' state: `saver.state`.

    A graph's own steps write these columns by themselves. Set here, by hand, they carry no
    `checkpoint_id`, until the next step of the graph writes all of them anew. Every method that
    changes something returns whether there is such a session, and changes nothing else.

    `connection=` is as for `saver.sessions`.
    """

    def __init__(
        self, driver: ScriptRunner, scripts: StateScripts, serde: SerializerProtocol
    ) -> None:
        self._script_runner = driver
        self._scripts = scripts
        self._serde = serde

    # -- graph state ------------------------------------------------------------------------

    def save_state(
        self,
        session_id: str,
        state: Mapping[str, Any],
        *,
        connection: SyncConnection | None = None,
    ) -> bool:
        """Set a session's state, as JSON: models and dataclasses by field.

        Raises:
            InvalidConfigError: It is no mapping.
            ValueTooLargeError: It is larger, or nested deeper, than the database takes.
        """
        return self._script_runner.run(self._scripts.save(session_id, state), connection)

    async def asave_state(
        self,
        session_id: str,
        state: Mapping[str, Any],
        *,
        connection: AnyConnection | None = None,
    ) -> bool:
        """As `save_state`."""
        return await self._script_runner.arun(self._scripts.save(session_id, state), connection)

    def load_state(
        self, session_id: str, *, connection: SyncConnection | None = None
    ) -> dict[str, Any] | None:
        """Read a session's state; large values, to which the column only refers, are read too.

        Channels that have rows of their own, `messages` and pages, are not part of it.

        Returns:
            The state as plain JSON; None if there is no session, or it has none.

        Raises:
            HistoryLostError: It refers to values of a checkpoint that is gone.
            SerializationError: A value's type may not be rebuilt.
        """
        return self._script_runner.run(self._scripts.load(self._serde, session_id), connection)

    async def aload_state(
        self, session_id: str, *, connection: AnyConnection | None = None
    ) -> dict[str, Any] | None:
        """As `load_state`."""
        return await self._script_runner.arun(
            self._scripts.load(self._serde, session_id), connection
        )

    def clear_state(self, session_id: str, *, connection: SyncConnection | None = None) -> bool:
        """Empty a session's state; the graph's checkpoints stay as they are."""
        return self._script_runner.run(self._scripts.change(session_id, _NO_STATE), connection)

    async def aclear_state(
        self, session_id: str, *, connection: AnyConnection | None = None
    ) -> bool:
        """As `clear_state`."""
        return await self._script_runner.arun(
            self._scripts.change(session_id, _NO_STATE), connection
        )

    # -- build ------------------------------------------------------------------------------

    def update_build_status(
        self,
        session_id: str,
        info: BuildInfo | BuildStatus | str,
        *,
        connection: SyncConnection | None = None,
    ) -> bool:
        """Set where a build stands; a `BuildInfo` also sets what it made, or why it failed.

        Raises:
            InvalidConfigError: There is no such status.
        """
        return self._script_runner.run(
            self._scripts.update_build_status(session_id, info), connection
        )

    async def aupdate_build_status(
        self,
        session_id: str,
        info: BuildInfo | BuildStatus | str,
        *,
        connection: AnyConnection | None = None,
    ) -> bool:
        """As `update_build_status`."""
        script = self._scripts.update_build_status(session_id, info)
        return await self._script_runner.arun(script, connection)

    # -- metadata ---------------------------------------------------------------------------

    def metadata(
        self, session_id: str, *, connection: SyncConnection | None = None
    ) -> SessionMetadata | None:
        """Read state, build and scores of a session; raises as `load_state` does."""
        return self._script_runner.run(self._scripts.metadata(self._serde, session_id), connection)

    async def ametadata(
        self, session_id: str, *, connection: AnyConnection | None = None
    ) -> SessionMetadata | None:
        """As `metadata`."""
        return await self._script_runner.arun(
            self._scripts.metadata(self._serde, session_id), connection
        )

    def update_metadata(
        self,
        session_id: str,
        *,
        connection: SyncConnection | None = None,
        **changes: Unpack[MetadataChanges],
    ) -> bool:
        """Set the fields that are named, and no other; None clears one.

        Raises:
            InvalidConfigError: There is no such field, or a value does not validate.
        """
        return self._script_runner.run(
            self._scripts.update_metadata(session_id, changes), connection
        )

    async def aupdate_metadata(
        self,
        session_id: str,
        *,
        connection: AnyConnection | None = None,
        **changes: Unpack[MetadataChanges],
    ) -> bool:
        """As `update_metadata`."""
        script = self._scripts.update_metadata(session_id, changes)
        return await self._script_runner.arun(script, connection)

    # -- routing and models -----------------------------------------------------------------

    def routing(
        self, session_id: str, *, connection: SyncConnection | None = None
    ) -> RoutingMetadata | None:
        """Read what was decided about a session; None if there is no session."""
        return self._script_runner.run(self._scripts.routing(session_id), connection)

    async def arouting(
        self, session_id: str, *, connection: AnyConnection | None = None
    ) -> RoutingMetadata | None:
        """As `routing`."""
        return await self._script_runner.arun(self._scripts.routing(session_id), connection)

    def update_routing(
        self,
        session_id: str,
        routing: RoutingMetadata | Mapping[str, str | None] | None,
        *,
        connection: SyncConnection | None = None,
    ) -> bool:
        """Set the fields that a routing names, and no other; None clears all of them.

        Raises:
            InvalidConfigError: There is no such field, or a value is too long.
        """
        return self._script_runner.run(
            self._scripts.update_routing(session_id, routing), connection
        )

    async def aupdate_routing(
        self,
        session_id: str,
        routing: RoutingMetadata | Mapping[str, str | None] | None,
        *,
        connection: AnyConnection | None = None,
    ) -> bool:
        """As `update_routing`."""
        script = self._scripts.update_routing(session_id, routing)
        return await self._script_runner.arun(script, connection)

    def model_usage(
        self, session_id: str, *, connection: SyncConnection | None = None
    ) -> ModelUsage | None:
        """Read which model played which part; None if there is no session."""
        return self._script_runner.run(self._scripts.model_usage(session_id), connection)

    async def amodel_usage(
        self, session_id: str, *, connection: AnyConnection | None = None
    ) -> ModelUsage | None:
        """As `model_usage`."""
        return await self._script_runner.arun(self._scripts.model_usage(session_id), connection)

    def update_model_usage(
        self,
        session_id: str,
        usage: ModelUsage | Mapping[str, str | None] | None,
        *,
        connection: SyncConnection | None = None,
    ) -> bool:
        """Set the parts that are named, and no other; None clears all of them.

        Raises:
            InvalidConfigError: There is no such part, or an id is too long.
        """
        return self._script_runner.run(
            self._scripts.update_model_usage(session_id, usage), connection
        )

    async def aupdate_model_usage(
        self,
        session_id: str,
        usage: ModelUsage | Mapping[str, str | None] | None,
        *,
        connection: AnyConnection | None = None,
    ) -> bool:
        """As `update_model_usage`."""
        script = self._scripts.update_model_usage(session_id, usage)
        return await self._script_runner.arun(script, connection)


_NO_STATE: Mapping[str, Any] = {"graph_state": None}

"""Saving: a checkpoint with what it changed, and the writes of a task."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import TASKS
from sqlalchemy import Connection

from langgraph_session_saver.chains import StoredBlob, Value, extend, whole
from langgraph_session_saver.changes import Changes
from langgraph_session_saver.codec import blob_key, dump, frame
from langgraph_session_saver.configs import Place, check_channels, configurable_of, place_of
from langgraph_session_saver.core import Core, Script, reading, writing
from langgraph_session_saver.engine import BrokenReferenceError
from langgraph_session_saver.errors import (
    CheckpointNotFoundError,
    HistoryLostError,
    InvalidConfigError,
    ProjectionError,
)
from langgraph_session_saver.operations import CheckpointRows, ParentGoneError
from langgraph_session_saver.projected import StaleViewError
from langgraph_session_saver.projections import Step, check_writes
from langgraph_session_saver.status import Incident, due_nodes, incidents, send_nodes
from langgraph_session_saver.threads import Head, ThreadRef

logger = logging.getLogger("langgraph_session_saver")

ATTEMPTS = 5
"""Times a step is encoded anew because others deleted or projected meanwhile."""

_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class _Saved:
    """One `put`, as LangGraph gives it, and as it is stored."""

    place: Place
    checkpoint: Checkpoint
    metadata: dict[str, Any]
    new_versions: ChannelVersions
    serde: SerializerProtocol
    values: list[tuple[str, Value]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"checkpoint {self.checkpoint['id']!r} of thread {self.place.thread.thread_id!r}"

    @property
    def run_id(self) -> str | None:
        run_id = self.metadata.get("run_id")
        return None if run_id is None else str(run_id)[:255]

    @property
    def step_number(self) -> int | None:
        number = self.metadata.get("step")
        return number if isinstance(number, int) else None

    def step(self, *, whole: bool) -> Step:
        thread, values = self.place.thread, self.checkpoint["channel_values"]
        return Step(
            session_id=thread.session_id or thread.thread_id,
            thread_id=thread.thread_id,
            checkpoint_id=self.checkpoint["id"],
            run_id=self.run_id,
            metadata=self.metadata,
            values=values,
            changed=frozenset(values if whole else self.new_versions),
            versions=self.checkpoint["channel_versions"],
        )


class Writing:
    """The scripts of `put` and `put_writes`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    # -- checkpoints ------------------------------------------------------------------------

    def put(
        self,
        serde: SerializerProtocol,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Script[RunnableConfig]:
        """Store a checkpoint; returns the config that names it."""
        place = place_of(config)
        yield from self._refuse_unknown_parent(place, checkpoint["id"])
        check_channels(list(checkpoint["channel_versions"]))
        saved = _Saved(place, checkpoint, _merged(config, metadata), new_versions, serde)
        if TASKS in checkpoint["channel_values"]:
            key = (place.thread.key, place.ns_key, checkpoint["id"])
            self._core.sends.put(key, send_nodes(checkpoint["channel_values"]))
        rows = self._encode(saved)
        changes = self._project(saved)
        for attempt in range(ATTEMPTS):
            try:
                yield writing(self._put_operation(saved, rows, changes))
                break
            except ParentGoneError:
                if _has_just_looked(saved):
                    raise _unknown_parent(place) from None
                self._core.forget_thread(place.thread.key)
                _refuse_lost_deltas(saved)
                rows = self._encode(saved, everything=True)
            except StaleViewError:
                self._core.views.forget(place.thread.key)
                changes = self._project(saved, whole=True)
            except BrokenReferenceError:
                if attempt == ATTEMPTS - 1:
                    raise
                self._core.forget_thread(place.thread.key)
                rows = self._encode(saved, everything=not rows.needs_parent)
        self._remember(saved, changes)
        return place.at(checkpoint["id"])

    def _put_operation(
        self, saved: _Saved, rows: CheckpointRows, changes: Changes | None
    ) -> Callable[[Connection], Head]:
        core, thread = self._core, saved.place.thread
        checkpoint_id = saved.checkpoint["id"]
        due = due_nodes(saved.checkpoint["channel_values"]) if saved.place.is_root else []

        def operation(conn: Connection) -> Head:
            head = core.operations.put(conn, rows)
            is_newest = head.checkpoint_id is None or checkpoint_id >= head.checkpoint_id
            if saved.place.is_root and is_newest:
                if changes is not None and checkpoint_id != head.checkpoint_id:
                    step = saved.step(whole=changes.is_whole)
                    core.projected.apply(conn, thread, head, step, changes)
                core.projected.note_checkpoint(
                    conn, thread, head, checkpoint_id, due, saved.step_number
                )
            return head

        return operation

    def _refuse_unknown_parent(self, place: Place, new_id: str | None = None) -> Script[None]:
        """Refuse to go on from a checkpoint that was looked for, unless it is there by now."""
        parent = place.checkpoint_id
        if parent is None or not place.is_root:
            return
        core, key = self._core, (place.thread.key, place.ns_key, parent)
        if core.not_found.get(key):
            if new_id is not None:  # its tasks may write before this is found to be refused
                core.doubtful.put((place.thread.key, place.ns_key, new_id), parent)
            if not (yield reading(lambda conn: core.operations.get_checkpoint(conn, *key))):
                raise _unknown_parent(place)
            core.not_found.put(key, False)  # noqa: FBT003

    def _encode(self, saved: _Saved, *, everything: bool = False) -> CheckpointRows:
        """Serialise a checkpoint and the channels that changed, or with `everything` all."""
        place, checkpoint = saved.place, saved.checkpoint
        values, versions = checkpoint["channel_values"], checkpoint["channel_versions"]
        plain = {name: value for name, value in checkpoint.items() if name != "channel_values"}
        absent = [channel for channel in versions if channel not in values]
        typ, data = dump(saved.serde, [plain, absent], saved.name)
        metadata_type, metadata = dump(saved.serde, saved.metadata, f"the metadata of {saved.name}")
        root_id = (saved.metadata.get("parents") or {}).get("")
        rows = CheckpointRows(
            thread=place.thread,
            checkpoint={
                "thread_key": place.thread.key,
                "ns_key": place.ns_key,
                "checkpoint_id": checkpoint["id"],
                "checkpoint_ns": place.checkpoint_ns,
                "parent_checkpoint_id": place.checkpoint_id,
                "root_checkpoint_id": None if place.is_root else root_id,
                "run_id": saved.run_id,
                "hidden": False,
                "type": typ,
                "data": self._core.check_size(frame(data), saved.name),
                "metadata_type": metadata_type,
                "metadata_data": self._core.check_size(
                    frame(metadata), f"the metadata of {saved.name}"
                ),
            },
            needs_parent=not everything,
        )
        saved.values = []
        for channel, version in (versions if everything else saved.new_versions).items():
            if channel in values:
                rows.blobs.append(self._encode_channel(saved, channel, version))
        return rows

    def _encode_channel(self, saved: _Saved, channel: str, version: Any) -> dict[str, Any]:
        place = saved.place
        what = f"channel {channel!r} of {saved.name}"
        key = blob_key(place.checkpoint_ns, channel, version)
        typed = dump(saved.serde, saved.checkpoint["channel_values"][channel], what)
        if _is_unique(version):
            previous = self._core.cache.tip(place.thread.key, place.ns_key, channel)
            value, stored = extend(previous, key, typed)
            saved.values.append((channel, value))
        else:
            value, stored = whole(key, typed)
        self._core.check_size(stored.data, what)
        return _blob_row(place.thread.key, channel, stored)

    def _remember(self, saved: _Saved, changes: Changes | None) -> None:
        core, place = self._core, saved.place
        core.not_found.put((place.thread.key, place.ns_key, saved.checkpoint["id"]), False)  # noqa: FBT003
        for channel, value in saved.values:
            core.cache.put(place.thread.key, value)
            core.cache.set_tip(place.thread.key, place.ns_key, channel, value.key)
        for channel, version in saved.new_versions.items():
            if channel not in saved.checkpoint["channel_values"]:
                key = blob_key(place.checkpoint_ns, channel, version)
                core.cache.set_empty(place.thread.key, key)
        core.threads.put(place.thread.key, place.thread)
        if changes is not None and changes.view is not None:
            core.views.put(place.thread.key, changes.view)
            for problem in changes.problems:
                logger.warning("%s: %s", saved.name, problem)

    # -- projections ------------------------------------------------------------------------

    def _project(self, saved: _Saved, *, whole: bool = False) -> Changes | None:
        """What the step changes in projected rows; None where it projects nothing.

        Raises:
            ProjectionError: Under the policy "raise", a value is bad that no write was.
        """
        core, place = self._core, saved.place
        if not place.is_root or not core.projector.projections:
            return None
        view = core.views.get(place.thread.key)
        changes = core.projector.project(
            saved.step(whole=whole), place.checkpoint_id, view, whole=whole
        )
        if core.policy == "raise":
            self._raise_first_problem(saved, changes)
        if not core.records_errors:
            changes.problems, unrecorded = [], changes.problems
            for problem in unrecorded:
                logger.warning("%s: %s", saved.name, problem)
        return changes

    def _raise_first_problem(self, saved: _Saved, changes: Changes) -> None:
        """Raise for a bad value, unless a reducer made it of writes that were good.

        LangGraph would reapply the stored writes at every resume, and the thread could never go
        on; such a value is recorded instead.
        """
        place = saved.place
        checked: frozenset[str] = frozenset()
        if place.checkpoint_id is not None:
            key = (place.thread.key, place.ns_key, place.checkpoint_id)
            checked = self._core.written.get(key) or frozenset()
        for problem in changes.problems:
            if problem.channel not in checked:
                raise ProjectionError(
                    f"{saved.name}: {problem}. The checkpoint was not saved: mend the node (or the "
                    "input) and run the thread again"
                )

    # -- writes -----------------------------------------------------------------------------

    def put_writes(
        self,
        serde: SerializerProtocol,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> Script[None]:
        """Check what a task wrote after a checkpoint; the script that is returned stores it.

        The check is done at once: LangGraph does not wait for it before it starts the next `put`,
        and that one asks which channels' writes were good.
        """
        place = place_of(config)
        if place.checkpoint_id is None:
            raise InvalidConfigError(
                f"put_writes for thread {place.thread.thread_id!r} names no checkpoint_id: writes "
                "belong to a checkpoint"
            )
        core, key = self._core, (place.thread.key, place.ns_key, place.checkpoint_id)
        check_channels([channel for channel, _ in writes])
        if core.policy == "raise" and place.is_root:
            check_writes(core.projector.projections, writes)
        core.written.put(key, (core.written.get(key) or frozenset()) | {c for c, _ in writes})
        return self._store_writes(serde, config, place, writes, task_id, task_path)

    def _store_writes(
        self,
        serde: SerializerProtocol,
        config: RunnableConfig,
        place: Place,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> Script[None]:
        core, key = self._core, (place.thread.key, place.ns_key, str(place.checkpoint_id))
        yield from self._refuse_unknown_parent(place)
        if parent := core.doubtful.get(key):
            yield from self._refuse_unknown_parent(replace(place, checkpoint_id=parent))
        regular, special = self._encode_writes(serde, place, writes, task_id, task_path)
        sends = core.sends.get(key) or ()
        found = incidents(writes, place.checkpoint_ns, task_id, task_path, sends)
        about = _about(config, place, task_id)
        for attempt in range(ATTEMPTS):
            thread = place.thread if found or self._must_lock(place.thread) else None
            try:
                yield writing(self._writes_operation(thread, regular, special, found, about))
                break
            except BrokenReferenceError:
                core.threads.forget(place.thread.key)
                if attempt == ATTEMPTS - 1:
                    raise
        core.threads.put(place.thread.key, place.thread)

    def _must_lock(self, thread: ThreadRef) -> bool:
        """Whether the thread may be missing, or disagree with what the call names."""
        known = self._core.threads.get(thread.key)
        return known is None or (thread.is_named and known != thread)

    def _writes_operation(
        self,
        thread: ThreadRef | None,
        regular: list[dict[str, Any]],
        special: list[dict[str, Any]],
        found: list[Incident],
        about: Mapping[str, Any],
    ) -> Callable[[Connection], None]:
        core = self._core

        def operation(conn: Connection) -> None:
            head = core.operations.put_writes(conn, thread, regular, special)
            if found and thread is not None and head is not None:
                core.projected.note_incidents(
                    conn, thread, head, found, about, record=core.records_errors
                )

        return operation

    def _encode_writes(
        self,
        serde: SerializerProtocol,
        place: Place,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        regular: dict[int, dict[str, Any]] = {}
        special: dict[int, dict[str, Any]] = {}
        for position, (channel, value) in enumerate(writes):
            idx = WRITES_IDX_MAP.get(channel, position)
            what = f"the write of task {task_id!r} to channel {channel!r}"
            typ, data = dump(serde, value, what)
            (special if channel in WRITES_IDX_MAP else regular)[idx] = {
                "thread_key": place.thread.key,
                "ns_key": place.ns_key,
                "checkpoint_id": place.checkpoint_id,
                "task_id": task_id,
                "idx": idx,
                "task_path": task_path,
                "channel": channel,
                "type": typ,
                "data": self._core.check_size(frame(data), what),
            }
        return list(regular.values()), list(special.values())


def _merged(config: RunnableConfig, metadata: CheckpointMetadata) -> dict[str, Any]:
    """LangGraph's merge of metadata and config, without what no text column takes."""
    merged = get_checkpoint_metadata(config, metadata)
    return {
        key: _SURROGATES.sub("", value) if isinstance(value, str) else value
        for key, value in merged.items()
    }


def _has_just_looked(saved: _Saved) -> bool:
    """Whether a step is the first of a call that has just asked for its parent in vain.

    LangGraph numbers a run's steps from -1 where it found no checkpoint to go on from.
    """
    source = saved.metadata.get("source")
    return saved.place.is_root and (source in {"update", "fork"} or saved.step_number == -1)


def _unknown_parent(place: Place) -> CheckpointNotFoundError:
    return CheckpointNotFoundError(
        f"thread {place.thread.thread_id!r} has no checkpoint {place.checkpoint_id!r}: leave "
        "checkpoint_id out to go on from the newest, or take one from list(). Nothing was written"
    )


def _refuse_lost_deltas(saved: _Saved) -> None:
    """A `DeltaChannel` between snapshots lives in its ancestors alone."""
    counters = saved.metadata.get("counters_since_delta_snapshot") or {}
    lost = [c for c in counters if c not in saved.checkpoint["channel_values"]]
    if lost:
        raise HistoryLostError(
            f"thread {saved.place.thread.thread_id!r} was deleted or pruned while it ran, and its "
            f"DeltaChannel {', '.join(map(repr, lost))} is stored as changes of what is gone: "
            f"{saved.name} was not saved. Run the thread again from its beginning"
        )


def _is_unique(version: Any) -> bool:
    """Whether a version can name one value only: plain numbers repeat across forks."""
    return isinstance(version, str) and "." in version


def _blob_row(thread_key: bytes, channel: str, stored: StoredBlob) -> dict[str, Any]:
    return {
        "thread_key": thread_key,
        "blob_key": stored.key,
        "base_key": stored.base,
        "depth": stored.depth,
        "level": stored.level,
        "channel": channel,
        "type": stored.type,
        "data": stored.data,
    }


def _about(config: RunnableConfig, place: Place, task_id: str) -> dict[str, Any]:
    """What an error's row says about where it happened."""
    ancestors = configurable_of(config).get("checkpoint_map") or {}
    metadata = config.get("metadata") or {}
    run_id = metadata.get("run_id") or configurable_of(config).get("run_id")
    step = metadata.get("langgraph_step")
    return {
        "checkpoint_id": place.checkpoint_id,
        "root_checkpoint_id": place.checkpoint_id if place.is_root else ancestors.get(""),
        "checkpoint_ns": place.checkpoint_ns,
        "run_id": None if run_id is None else str(run_id),
        "task_id": task_id,
        "step": step if isinstance(step, int) else None,
    }

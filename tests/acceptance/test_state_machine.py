"""Every public operation of the saver, in random order, beside a reference in Python.

Hypothesis draws programs of operations. After each operation all checkpoints, lists, pending
writes and rows are compared. A program that fails is shortened, and printed as Python.

    python -m pytest -n 0 -s -m heavy tests/acceptance/test_state_machine.py

runs at least 10,000 operations in all, other ones with `STATE_MACHINE_SEED=1`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.errors import (
    CheckpointNotFoundError,
    SessionConflictError,
    SessionDeletedError,
)
from tests.support.backends import BACKEND_NAMES, Sql
from tests.support.compare import comparable, ids
from tests.support.compare_rows import compare_records, compare_session, compare_tables
from tests.support.edits import edited, words
from tests.support.faces import FACE_NAMES
from tests.support.reference import Reference
from tests.support.reference_rows import Page, Session
from tests.support.rows import checkpoint_id, counts
from tests.support.savers import SaverFactory

T = TypeVar("T")

SEED = int(os.environ.get("STATE_MACHINE_SEED", "0"))
STEPS = 25
EXAMPLES = {"sqlite": 3, "postgresql": 1, "mariadb": 1}
HEAVY_STEPS = 50
HEAVY_EXAMPLES = 30
LEAST_STEPS = 10_000 // (len(BACKEND_NAMES) * len(FACE_NAMES)) + 1
"""Hypothesis ends some programs early; all backends and faces together take 10,000 steps."""

CHOICES = {
    "html": [f"<h1>{number}</h1>" for number in range(4)],
    "build_status": ["pending", "building", "success", "failed"],
    "product_type": ["landing", "shop"],
}
CHANNELS = ("items", "doc", "messages", *CHOICES)
TASKS = ("one", "two", "three")
PATHS = ("", "~__pregel_pull, one", "~__pregel_pull, two", "~__pregel_push, 0000000001")
WRITTEN = (*CHANNELS[:3], "__error__", "__interrupt__", "__resume__", "__scheduled__")
RUNS = ("run-1", "run-2", "run-3")
START = datetime.now(UTC).replace(microsecond=0) - timedelta(days=60)
"""When the first checkpoint was made; each following one is an hour younger."""


class Next(NamedTuple):
    """What a checkpoint is made from."""

    by: int
    """The process."""
    at: int
    """The thread."""
    changed: dict[str, str]
    """Channels, and how they are edited."""
    run: str
    early: list[tuple[str, int]]
    """Channels and seeds of writes that are sent before it, as LangGraph may do."""


numbers = st.integers(0, 2**16)
ways = st.sampled_from(["append", "append", "append", "edit", "edit", "remove", "none", "absent"])
changes = st.dictionaries(st.sampled_from(CHANNELS), ways, min_size=1, max_size=4)
writes = st.lists(st.tuples(st.sampled_from(WRITTEN), numbers), max_size=4)
processes = st.integers(0, 1)
following = st.builds(
    Next, processes, numbers, changes, st.sampled_from(RUNS), st.one_of(st.just([]), writes)
)


class Made(NamedTuple):
    """A checkpoint on its way to a saver, with what goes with it."""

    config: RunnableConfig
    checkpoint: Checkpoint
    metadata: dict[str, Any]
    new_versions: dict[str, Any]
    parent_values: Mapping[str, Any]


@dataclass
class World:
    """What all programs of a test share: a database, a loop, and the count of operations."""

    make_saver: SaverFactory
    sql: Sql
    directory: Path
    loop: asyncio.AbstractEventLoop
    steps: int = 0
    programs: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        backend, is_async = self.make_saver.backend, self.make_saver.face == "async"
        self.engine = backend.warm_async_engine() if is_async else backend.warm_engine()

    def saver(self, **options: Any) -> SessionSaver:
        """A saver that knows nothing yet, as another process would have."""
        return self.make_saver(engine=self.engine, **options)

    def wait(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a call on the test's loop: Hypothesis itself runs in a thread."""
        return asyncio.run_coroutine_threadsafe(call, self.loop).result()

    async def run_programs(self, programs: int, steps: int) -> None:
        """Run so many programs of so many operations; a failing one is shortened."""
        place = BACKEND_NAMES.index(self.make_saver.backend.name) * len(FACE_NAMES)
        machine = type("Program", (Operations,), {"world": self})
        seed(SEED * 100 + place + FACE_NAMES.index(self.make_saver.face))(machine)
        options = settings(
            max_examples=programs,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        await asyncio.to_thread(run_state_machine_as_test, machine, settings=options)


def has_threads(machine: Operations) -> bool:
    """Whether there is something to delete, prune or copy."""
    return bool(machine.reference.rows.threads)


def has_sessions(machine: Operations) -> bool:
    """Whether there is a session to change."""
    return bool(machine.reference.rows.sessions)


class Operations(RuleBasedStateMachine):
    """The operations, each on a saver and on the reference."""

    world: World

    @initialize(
        keep_last=st.sampled_from([None, None, 1, 2, 3]),
        keep_versions=st.sampled_from([None, 1, 2]),
    )
    def start(self, keep_last: int | None, keep_versions: int | None) -> None:
        """Two processes with the same policy, one of them with a small cache, and a reader."""
        self.policy: dict[str, Any] = {"keep_last": keep_last, "keep_versions": keep_versions}
        self.wait, self.sql = self.world.wait, self.world.sql
        self.reference = Reference(keep_last, keep_versions)
        self.rows = self.reference.rows
        self.savers = [self._new_saver(64 << 20), self._new_saver(3_000)]
        self.cold = self.world.saver(cache_bytes=0)
        self.name = next(self.world.programs)
        self.threads = [f"{self.name}/{name}" for name in ("a", "b", "c")]
        self.shared = f"{self.name}/shared"
        self.named = dict.fromkeys(self.threads[1:], self.shared)
        self.number = 0
        self.steps = count(1)
        self.makers: dict[tuple[str, str, str], int] = {}
        self.in_flight: list[Made] = []

    def _new_saver(self, cache_bytes: int) -> SessionSaver:
        return self.world.saver(cache_bytes=cache_bytes, **self.policy)

    def teardown(self) -> None:
        """Delete all that the program made: no row must be left in any table."""
        if not hasattr(self, "reference"):
            return
        for session in self.wait(self.cold.sessions.alist(deleted=True, limit=100)):
            self.wait(self.cold.sessions.adelete(session.id))
        assert set(counts(self.sql).values()) == {0}

    # -- choosing -----------------------------------------------------------------------------

    def _thread(self, number: int) -> str:
        return self.threads[number % len(self.threads)]

    def _existing(self, number: int) -> str:
        found = [name for name in self.threads if name in self.rows.threads]
        return found[number % len(found)]

    def _session(self, number: int) -> Session:
        found = list(self.rows.sessions.values())
        return found[number % len(found)]

    def _config(self, thread: str, ns: str, checkpoint_id: str | None = None) -> RunnableConfig:
        """A config as a run has it, which names the session."""
        config = plain_config(thread, ns, checkpoint_id)
        if thread in self.named:
            config["configurable"]["session_id"] = self.named[thread]
        return config

    def _is_hidden(self, thread: str) -> bool:
        """Whether the session that a thread has, or would join, is soft-deleted."""
        known = self.rows.threads.get(thread)
        by_name = self.rows.sessions.get(self.named.get(thread, thread))
        session = known.session if known else by_name
        return session is not None and session.status == "deleted"

    def _made(self, thread: str, ns: str) -> dict[str, Any]:
        """All checkpoints that were made in a namespace, deleted ones too, oldest first."""
        history = self.reference.history.get(thread, {})
        return {name: found for (at, name), found in sorted(history.items()) if at == ns}

    def _stored(self, thread: str, ns: str) -> list[str]:
        return sorted(name for at, name in self.reference.stored(thread) if at == ns)

    def _new_number(self) -> int:
        self.number += 1
        return self.number

    # -- saving -------------------------------------------------------------------------------

    @rule(new=following)
    def put(self, new: Next) -> None:
        """Save the next checkpoint of a thread."""
        self._step(new)

    @rule(new=following, back=st.integers(0, 2))
    def send_late(self, new: Next, back: int) -> None:
        """Make a checkpoint that others may overtake before it is saved."""
        self._step(new, back=back, is_late=True)

    @precondition(has_threads)
    @rule(new=following, back=st.integers(1, 4))
    def fork(self, new: Next, back: int) -> None:
        """Save a checkpoint that follows an older one, or in a run in progress a deleted one."""
        self._step(new, back=back)

    @precondition(has_threads)
    @rule(
        new=following,
        place=st.sampled_from(["memory", "call", "loose"]),
        back=st.sampled_from([0, 0, 0, 1, 2]),
    )
    def put_in_subgraph(self, new: Next, place: str, back: int) -> None:
        """Save a checkpoint of a subgraph that the newest root checkpoint called."""
        self._step(new, place, back=back)

    def _step(self, new: Next, place: str = "", *, back: int = 0, is_late: bool = False) -> None:
        by, thread = new.by, self._thread(new.at)
        root = self.reference.newest_root(thread)
        if place and root is None:
            return
        ns = {"call": f"node:{root}", "memory": "memory", "loose": "loose"}.get(place, "")
        made = list(self._made(thread, ns).values()) if back else []
        stored = self._stored(thread, ns)
        parent = made[-1 - back % len(made)] if made else None
        if not made and stored:
            parent = self._made(thread, ns)[stored[-1]]
        is_lost = False
        if parent is not None and not self.reference.has(thread, ids(parent.config)[1:]):
            is_lost = True
            # Only a run in progress continues from a deleted checkpoint: in its process.
            by = self.makers.get((thread, *ids(parent.config)[1:]), -1)
            if by < 0 or is_late:
                return
            # Which calls are new cannot be said once the parent's messages are deleted.
            new.changed.pop("messages", None)
        metadata: dict[str, Any] = {
            "source": "loop" if is_lost or parent else "input",
            "step": parent.metadata["step"] + 1 if parent else -1,
            "run_id": f"{new.run} of {self.name}",
            "odd": bool(new.at % 2),
        }
        if root is not None and place in {"memory", "call"}:
            metadata["parents"] = {"": root}
            metadata["run_id"] = self.reference.history[thread]["", root].metadata["run_id"]
        elif back and parent and not is_lost:
            metadata["source"] = "update"
        step = self._checkpoint(thread, ns, parent, new.changed, metadata, by)
        if new.early:
            self._write(by, thread, ns, step.checkpoint["id"], new.early, "early", "")
        if is_late:
            self.in_flight.append(step)
        else:
            self._put(by, step)

    def _checkpoint(
        self, thread: str, ns: str, parent: Any, changed: Mapping[str, str],
        metadata: dict[str, Any], by: int,
    ) -> Made:  # fmt: skip
        number = self._new_number()
        before = parent.checkpoint if parent else {"channel_values": {}, "channel_versions": {}}
        values, versions = dict(before["channel_values"]), dict(before["channel_versions"])
        for channel, how in changed.items():
            versions[channel] = self.savers[by].get_next_version(versions.get(channel), None)
            if how == "absent":
                values.pop(channel, None)
            else:
                values[channel] = new_value(channel, values.get(channel), how, number)
        checkpoint = Checkpoint(
            v=4,
            id=checkpoint_id(number),
            ts=(START + timedelta(hours=number)).isoformat(),
            channel_values=values,
            channel_versions=versions,
            versions_seen={"node": dict(versions)},
            updated_channels=sorted(changed),
        )
        parent_id = before["id"] if parent else None
        new_versions = {channel: versions[channel] for channel in changed}
        config = self._config(thread, ns, parent_id)
        return Made(config, checkpoint, metadata, new_versions, before["channel_values"])

    def _put(self, by: int, new: Made) -> None:
        config, checkpoint, metadata, new_versions, _ = new
        named = config["configurable"]
        given: Any = {**checkpoint, "channel_values": dict(checkpoint["channel_values"])}
        call = self.savers[by].aput(config, given, metadata, new_versions)  # type: ignore[arg-type]
        if self._is_hidden(named["thread_id"]):
            with pytest.raises(SessionDeletedError):
                self.wait(call)
            return
        self.reference.put(*new)
        told = self.wait(call)
        assert ids(told) == (named["thread_id"], named["checkpoint_ns"], checkpoint["id"])
        self.makers[ids(told)] = by

    @precondition(lambda self: self.in_flight)
    @rule(by=processes, number=numbers)
    def put_late(self, by: int, number: int) -> None:
        """Save a checkpoint of a run that others may have overtaken meanwhile."""
        new = self.in_flight.pop(number % len(self.in_flight))
        named = new.config["configurable"]
        parent_id = named.get("checkpoint_id")
        if parent_id is None or self.reference.has(named["thread_id"], ("", parent_id)):
            self._put(by, new)

    @precondition(has_threads)
    @rule(by=processes, at=numbers, number=numbers)
    def put_again(self, by: int, at: int, number: int) -> None:
        """Save a checkpoint a second time, as a retry does."""
        thread = self._thread(at)
        stored = self._stored(thread, "")
        if not stored:
            return
        found = self._made(thread, "")[stored[number % len(stored)]]
        parent_id = None if found.parent_config is None else ids(found.parent_config)[2]
        if parent_id in {None, *stored}:
            versions = found.checkpoint["channel_versions"]
            config = self._config(thread, "", parent_id)
            self._put(by, Made(config, found.checkpoint, found.metadata, versions, {}))

    @precondition(has_threads)
    @rule(by=processes, at=numbers, number=numbers)
    def put_copy(self, by: int, at: int, number: int) -> None:
        """Copy a checkpoint to the head of its thread, as `update_state(as_node="__copy__")`."""
        thread = self._thread(at)
        stored = self._stored(thread, "")
        if not stored:
            return
        found = self._made(thread, "")[stored[number % len(stored)]]
        metadata = {**found.metadata, "source": "fork", "step": found.metadata["step"] + 1}
        copy = self._checkpoint(thread, "", found, {}, metadata, by)
        parent = found.parent_config and self._made(thread, "").get(ids(found.parent_config)[2])
        parent_values = parent.checkpoint["channel_values"] if parent else {}
        parent_id = ids(found.parent_config)[2] if found.parent_config else None
        config = self._config(thread, "", parent_id)
        self._put(by, copy._replace(config=config, parent_values=parent_values))

    @precondition(has_threads)
    @rule(by=processes, at=numbers)
    def put_after_a_deleted_one(self, by: int, at: int) -> None:
        """Update the state at a checkpoint that does not exist any more."""
        thread = self._thread(at)
        gone = [name for name in self._made(thread, "") if name not in self._stored(thread, "")]
        if gone and not self._is_hidden(thread):
            found = self._made(thread, "")[gone[at % len(gone)]]
            metadata = {**found.metadata, "source": "update", "step": 9}
            new = self._checkpoint(thread, "", found, {"doc": "append"}, metadata, by)
            saver = self.savers[by]
            with pytest.raises(CheckpointNotFoundError):
                self.wait(
                    saver.aput(new.config, new.checkpoint, metadata, new.new_versions)  # type: ignore[arg-type]
                )

    @precondition(has_threads)
    @rule(
        by=processes, at=numbers, number=numbers, task=st.sampled_from(TASKS),
        path=st.sampled_from(PATHS), written=writes, place=st.sampled_from(["", "", "memory"]),
    )  # fmt: skip
    def put_writes(
        self, by: int, at: int, number: int, task: str, path: str,
        written: list[tuple[str, int]], place: str,
    ) -> None:  # fmt: skip
        """Save the writes of a task that ran after one of the newest checkpoints."""
        thread = self._thread(at)
        stored = self._stored(thread, place)
        if stored:
            name = stored[-1 - number % min(2, len(stored))]
            if place or name != stored[-1]:
                written = [(channel, value) for channel, value in written if channel in CHANNELS]
            self._write(by, thread, place, name, written, task, path)

    def _write(
        self, by: int, thread: str, ns: str, checkpoint_id: str,
        written: Sequence[tuple[str, int]], task: str, path: str,
    ) -> None:  # fmt: skip
        config = self._config(thread, ns, checkpoint_id)
        if ns and (root := self.reference.newest_root(thread)):
            config["configurable"]["checkpoint_map"] = {"": root}
        values = [(channel, new_value(channel, None, "append", seed)) for channel, seed in written]
        task = f"{task} of {checkpoint_id}"  # LangGraph's are unique, too
        call = self.savers[by].aput_writes(config, values, task, path)
        if self._is_hidden(thread) and values:
            with pytest.raises(SessionDeletedError):
                self.wait(call)
            return
        self.reference.put_writes(config, values, task, path, datetime.now(UTC).isoformat())
        self.wait(call)

    # -- deleting and copying -----------------------------------------------------------------

    @precondition(has_threads)
    @rule(by=processes, at=numbers, is_told=st.booleans())
    def delete_thread(self, by: int, at: int, is_told: bool) -> None:
        """Delete a thread, be it there or not."""
        thread, saver = self._thread(at), self.savers[by]
        existed = thread in self.rows.threads
        self.reference.delete_thread(thread)
        if is_told:
            assert self.wait(saver.threads.adelete(thread)) == existed
        else:
            self.wait(saver.adelete_thread(thread))

    @precondition(has_threads)
    @rule(by=processes, run=st.sampled_from(RUNS))
    def delete_for_runs(self, by: int, run: str) -> None:
        """Delete what a run has made."""
        run_id = f"{run} of {self.name}"
        self.reference.delete_for_runs([run_id])
        self.wait(self.savers[by].adelete_for_runs([run_id]))

    @precondition(has_threads)
    @rule(
        by=processes,
        at=numbers,
        strategy=st.sampled_from(["keep_latest", "keep_last", "keep_last", "delete"]),
        keep=st.integers(1, 4),
    )
    def prune(self, by: int, at: int, strategy: str, keep: int) -> None:
        """Prune a thread."""
        thread = self._thread(at)
        keep_last = keep if strategy == "keep_last" else None
        self.reference.prune(thread, strategy, keep_last)
        self.wait(self.savers[by].aprune([thread], strategy=strategy, keep_last=keep_last))

    @precondition(has_threads)
    @rule(by=processes, number=numbers)
    def sweep_old(self, by: int, number: int) -> None:
        """Delete old checkpoints everywhere, after a dry run."""
        youngest = START + timedelta(hours=number % (self.number + 1) + 0.5)
        expected = self.reference.sweep_old(lambda time: datetime.fromisoformat(time) < youngest)
        for dry_run in (True, False):
            older_than = datetime.now(UTC) - youngest
            found = self.wait(self.savers[by].asweep(older_than=older_than, dry_run=dry_run))
            assert (found.threads, found.checkpoints, found.deleted_threads) == expected

    @precondition(has_threads)
    @rule(by=processes, number=st.integers(0, 3))
    def sweep_idle(self, by: int, number: int) -> None:
        """Delete the threads that are idle: none since the first checkpoint, or all."""
        if number:
            limit, expected = datetime.now(UTC) - START + timedelta(days=1), (0, 0, 0)
        else:
            limit, expected = timedelta(microseconds=1), self.reference.sweep_idle()
        for dry_run in (True, False):
            found = self.wait(self.savers[by].asweep(idle_for=limit, dry_run=dry_run))
            assert (found.threads, found.checkpoints, found.deleted_threads) == expected

    @precondition(has_threads)
    @rule(by=processes, at=numbers, where=st.sampled_from(["own", "own", "shared"]))
    def copy_thread(self, by: int, at: int, where: str) -> None:
        """Copy a thread to a new one, in a session of its own or in one that others may have."""
        source, target = self._existing(at), f"{self.name}/copy {len(self.threads)}"
        shared = self.rows.sessions.get(self.shared)
        is_refused = where == "shared" and shared is not None and shared.status == "deleted"
        if len(self.threads) == 6 or is_refused:
            return
        self.threads.append(target)
        if where == "own":
            self.reference.copy_thread(source, target)
            self.wait(self.savers[by].acopy_thread(source, target))
        else:
            self.reference.copy_thread(source, target, self.shared)
            threads = self.savers[by].threads
            copied = self.wait(threads.acopy(source, target, session_id=self.shared))
            assert (copied.thread_id, copied.session_id) == (target, self.shared)

    @rule(by=processes, is_small=st.booleans())
    def reopen(self, by: int, is_small: bool) -> None:
        """Replace a process by one that knows nothing."""
        self.savers[by] = self._new_saver(3_000 if is_small else 64 << 20)
        self.wait(self.savers[by].asetup())
        self.makers = {key: maker for key, maker in self.makers.items() if maker != by}

    @precondition(has_threads)
    @rule(by=processes)
    def restore(self, by: int) -> None:
        """Lose everything, and restore it from a backup."""
        path = self.world.directory / f"{self.name} {self._new_number()}.backup"
        self.wait(self.savers[by].abackup(path))
        for session in self.rows.sessions:
            self.wait(self.savers[by].sessions.adelete(session))
        self.wait(self.savers[by].arestore(path))
        path.unlink()

    @precondition(has_threads)
    @rule(by=processes)
    def import_again(self, by: int) -> None:
        """Import what is there already, which changes nothing."""
        done = self.wait(self.savers[by].aimport_from(self.reference.checkpoints))
        assert done.checkpoints == 0

    # -- sessions -----------------------------------------------------------------------------

    @rule(by=processes, at=numbers)
    def create_session(self, by: int, at: int) -> None:
        """Create a session before its first thread; one that exists is refused."""
        name = [self.shared, self._thread(at)][at % 2]
        sessions = self.savers[by].sessions
        if name in self.rows.sessions:
            with pytest.raises(SessionConflictError):
                self.wait(sessions.acreate(name))
            return
        title = f"made {at}"
        self.rows.sessions[name] = Session(name, is_by_hand=True, title=title)
        self.wait(sessions.acreate(name, title=title))

    @precondition(has_sessions)
    @rule(by=processes, at=numbers, what=st.sampled_from(["title", "status", "product_type"]))
    def update_session(self, by: int, at: int, what: str) -> None:
        """Set a column by hand."""
        session, value = self._session(at), f"by hand {at}"
        changed: Any = {what: value}
        if what == "title":
            session.title, session.titled_by = value, None
        elif what == "status":
            session.status = changed[what] = ["active", None][at % 2]
        else:
            session.set_by_hand(product_type=value)
        self.wait(self.savers[by].sessions.aupdate(session.id, **changed))

    @precondition(has_sessions)
    @rule(by=processes, at=numbers, soft=st.sampled_from([True, True, False]))
    def delete_session(self, by: int, at: int, soft: bool) -> None:
        """Delete a session, or hide it."""
        session = self._session(at)
        if soft:
            session.status = "deleted"
        else:
            self.reference.delete_session(session.id)
        assert self.wait(self.savers[by].sessions.adelete(session.id, soft=soft))

    @precondition(has_sessions)
    @rule(by=processes, at=numbers, what=st.sampled_from(["message", "page", "call"]))
    def add_row(self, by: int, at: int, what: str) -> None:
        """Add a row that no graph projects."""
        session, sessions = self._session(at), self.savers[by].sessions
        text = f"by hand {self._new_number()}"
        if what == "message":
            session.added_messages.append(("system", text))
            self.wait(sessions.aadd_message(session.id, "system", text))
        elif what == "page":
            page = Page(session.next_number, text)
            session.add_page(page, self.policy["keep_versions"], is_current=True)
            told = self.wait(sessions.aadd_version(session.id, text))
            assert told.version == page.number
        else:
            session.added_calls.append((text, at, 7))
            self.wait(
                sessions.aadd_token_usage(
                    session.id, agent_type="tool", model=text, input_tokens=at, output_tokens=7
                )
            )

    @precondition(has_sessions)
    @rule(by=processes, at=numbers, what=st.sampled_from(["rollback", "pin", "unpin"]))
    def choose_page(self, by: int, at: int, what: str) -> None:
        """Make an older page the current one, or pin one."""
        session = self._session(at)
        if not session.pages:
            return
        page = session.pages[at % len(session.pages)]
        if what == "rollback":
            session.current_version = page.number
        else:
            page.is_pinned = what == "pin"
        method = getattr(self.savers[by].sessions, f"a{what}")
        assert self.wait(method(session.id, page.number)).html == page.html

    @precondition(has_sessions)
    @rule(by=processes, at=numbers, what=st.sampled_from(["save", "clear", "metadata"]))
    def set_state(self, by: int, at: int, what: str) -> None:
        """Set what a session shows of its graph's state."""
        session, state = self._session(at), self.savers[by].state
        session.set_by_hand()
        session.state = None if what == "clear" else {"by hand": at}
        call: Any = {
            "save": lambda: state.asave_state(session.id, {"by hand": at}),
            "clear": lambda: state.aclear_state(session.id),
            "metadata": lambda: state.aupdate_metadata(session.id, graph_state={"by hand": at}),
        }[what]
        assert self.wait(call())

    @precondition(has_sessions)
    @rule(by=processes, at=numbers, what=st.sampled_from(["build", "routing", "models"]))
    def set_columns(self, by: int, at: int, what: str) -> None:
        """Set columns of a session as a graph's step would."""
        session, state = self._session(at), self.savers[by].state
        if what == "build":
            session.set_by_hand(build_status="failed")
            call = state.aupdate_build_status(session.id, "failed")
        elif what == "routing":
            session.set_by_hand(product_type=f"kind {at}")
            call = state.aupdate_routing(session.id, {"product_type": f"kind {at}"})
        else:
            session.set_by_hand(model_writer=f"model {at}")
            call = state.aupdate_model_usage(session.id, {"writer": f"model {at}"})
        assert self.wait(call)

    # -- comparing ----------------------------------------------------------------------------

    @invariant()
    def everything_reads_the_same(self) -> None:
        """Compare all reads, through each saver in turn."""
        if hasattr(self, "reference"):
            self.world.steps += 1
            step = next(self.steps)
            self.wait(self._compare([*self.savers, self.cold][step % 3], Random(step)))

    async def _compare(self, saver: SessionSaver, rng: Random) -> None:
        for thread in self.threads:
            for ns, name in self.reference.history.get(thread, {}):
                await self._compare_one(saver, plain_config(thread, ns, name))
            for ns in {ns for ns, _ in self.reference.stored(thread)}:
                await self._compare_one(saver, plain_config(thread, ns))
            await self._compare_list(saver, {"configurable": {"thread_id": thread}})
        await self._compare_list(saver, None)
        await self._compare_part(saver, rng)
        await self._compare_history(saver, rng)
        compare_tables(self.sql, self.rows)
        await compare_records(saver, self.rows)
        if self.rows.sessions:
            await compare_session(saver, self.rows, rng.choice([*self.rows.sessions.values()]))

    async def _compare_one(self, saver: SessionSaver, config: RunnableConfig) -> None:
        expected = comparable(self.reference.checkpoints.get_tuple(config))
        assert comparable(await saver.aget_tuple(config)) == expected

    async def _compare_list(
        self, saver: SessionSaver, config: RunnableConfig | None, **options: Any
    ) -> None:
        def order(found: Any) -> Any:
            return found["config"][2], found["config"][0]

        memory = self.reference.checkpoints
        expected = [comparable(found) for found in memory.list(config, **options)]
        found = [comparable(item) async for item in saver.alist(config, **options)]
        names = [one["config"][2] for one in found]
        assert names == sorted(names, reverse=True)
        assert sorted(found, key=order) == sorted(expected, key=order)

    async def _compare_part(self, saver: SessionSaver, rng: Random) -> None:
        """Compare a list of a namespace with a bound, a limit and a filter."""
        thread = rng.choice(self.threads)
        made = list(self.reference.history.get(thread, {}))
        if not made:
            return
        ns, name = rng.choice(made)
        wanted = rng.choice(
            [{"odd": True}, {"odd": 0}, {"missing": None}, {"missing": 1}, {"step": 2},
             {"source": "loop", "run_id": f"run-1 of {self.name}"}]
        )  # fmt: skip
        await self._compare_list(
            saver,
            plain_config(thread, ns),
            before=plain_config(thread, ns, name) if rng.random() < 0.6 else None,
            limit=rng.choice([None, 0, 1, 2, 5]),
            filter=wanted if rng.random() < 0.6 else None,
        )

    async def _compare_history(self, saver: SessionSaver, rng: Random) -> None:
        """Compare a thread's history, and the difference of two of its checkpoints."""
        thread = rng.choice(self.threads)
        stored = self._stored(thread, "")
        if not stored:
            return
        history = await saver.ahistory(thread, limit=1_000)
        assert [entry.checkpoint_id for entry in history] == stored[::-1]
        a, b = rng.choice(stored), rng.choice(stored)
        made = self._made(thread, "")
        old, new = (made[name].checkpoint["channel_values"] for name in (a, b))
        assert {found.channel: found.kind for found in await saver.adiff(thread, a, b)} == {
            channel: "added"
            if channel not in old
            else "removed"
            if channel not in new
            else "changed"
            for channel in old.keys() | new.keys()
            if channel not in old or channel not in new or old[channel] != new[channel]
        }


def plain_config(thread: str, ns: str, checkpoint_id: str | None = None) -> RunnableConfig:
    """A config that names a namespace, or a checkpoint in it."""
    named = {"thread_id": thread, "checkpoint_ns": ns}
    return {"configurable": named | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


def new_value(channel: str, value: Any, how: str, number: int) -> Any:
    """A value for a channel, after an edit of the one before."""
    rng = Random(number)
    if how == "none":
        return None
    if channel == "messages":
        return edited_messages(value or [], how, rng, number)
    if channel in CHOICES:
        return rng.choice(CHOICES[channel])
    if channel.startswith("__"):
        return words(rng, 2)
    return edited(value, how, number)


def edited_messages(
    messages: list[AnyMessage], how: str, rng: Random, number: int
) -> list[AnyMessage]:
    """Messages after an edit: a turn more, another answer of the model, or one less."""
    if how == "append" or not messages:
        usage = {"input_tokens": number, "output_tokens": 1, "total_tokens": number + 1}
        answer = AIMessage(
            words(rng, 20), id=f"ai {number}", usage_metadata=usage,
            response_metadata={"model_name": "a model"},
        )  # fmt: skip
        return [*messages, HumanMessage(words(rng, 6), id=f"human {number}"), answer]
    at = rng.randrange(len(messages))
    if how == "remove":
        return [*messages[:at], *messages[at + 1 :]]
    if isinstance(messages[at], AIMessage):
        edit = messages[at].model_copy(update={"content": words(rng, 20)})
        return [*messages[:at], edit, *messages[at + 1 :]]
    return [*messages[at:], *messages[:at]]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Silence the warnings that random values cause in projections."""
    logging.getLogger("langgraph_session_saver").disabled = True
    yield
    logging.getLogger("langgraph_session_saver").disabled = False


@pytest.fixture
async def world(make_saver: SaverFactory, sql: Sql, tmp_path: Path) -> World:
    """A database for programs."""
    return World(make_saver, sql, tmp_path, asyncio.get_running_loop())


async def test_every_operation_gives_what_the_reference_says(world: World) -> None:
    examples = EXAMPLES[world.make_saver.backend.name]

    await world.run_programs(examples, STEPS)

    assert world.steps >= examples * STEPS


@pytest.mark.heavy
async def test_thousands_of_operations_give_what_the_reference_says(world: World) -> None:
    await world.run_programs(HEAVY_EXAMPLES, HEAVY_STEPS)

    backend, face = world.make_saver.backend.name, world.make_saver.face
    print(f"\n| {backend} | {face} | {world.steps:,} |")
    assert world.steps >= LEAST_STEPS

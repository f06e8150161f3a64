"""Random operations on the saver and on `InMemorySaver`; every read is compared."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.errors import CheckpointNotFoundError
from tests.support.backends import BackendName, Sql
from tests.support.compare import comparable, ids
from tests.support.edits import edited, words
from tests.support.savers import SaverFactory

EXAMPLES: dict[BackendName, int] = {"sqlite": 16, "postgresql": 5, "mariadb": 5}
CHANNELS = ("items", "doc", "page", "settings", "messages", "build_status")
NAMESPACES = ("", "", "", "inner", "node:6b1f")
TASKS = ("task-a", "task-b", "task-c")
PATHS = ("", "~__pregel_pull, one", "~__pregel_pull, two", "~__pregel_push, 0000000001")
WRITTEN = (*CHANNELS, "__error__", "__interrupt__", "__resume__", "__scheduled__", "__resume__")
RUNS = ("run-1", "run-2", "run-3")
CACHES = (0, 3_000, 20_000, 64 << 20)


class PlainJson:
    """A serialiser of its own: JSON text, with bytes as base64."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return "json", json.dumps(obj, default=self._hidden).encode()

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        assert data[0] == "json"
        return json.loads(data[1], object_hook=self._shown)

    @staticmethod
    def _hidden(obj: Any) -> Any:
        return {"base64": base64.b64encode(obj).decode()}

    @staticmethod
    def _shown(obj: dict[str, Any]) -> Any:
        return base64.b64decode(obj["base64"]) if obj.keys() == {"base64"} else obj


SERDES: dict[str, Callable[[], SerializerProtocol]] = {
    "LangGraph's": JsonPlusSerializer,
    "encrypted": lambda: EncryptedSerializer.from_pycryptodome_aes(key=b"sixteen byte key"),
    "JSON": PlainJson,
}


# -- scripts ------------------------------------------------------------------------------------

numbers = st.integers(0, 2**16)
where = st.tuples(st.integers(0, 1), st.sampled_from(NAMESPACES))
process = st.integers(0, 1)
changed = st.dictionaries(
    st.sampled_from(CHANNELS),
    st.sampled_from(
        ["append"] * 4 + ["edit"] * 3 + ["remove"] * 2 + ["new", "none", "absent", "number"]
    ),
    min_size=1,
    max_size=5,
)
writes = st.lists(st.tuples(st.sampled_from(WRITTEN), numbers), max_size=5)

operations = st.one_of(
    *[
        st.tuples(st.just("put"), process, where, st.booleans(), numbers, changed, writes)
        for _ in range(10)
    ],
    st.tuples(
        st.just("write"),
        process,
        where,
        numbers,
        st.sampled_from(TASKS),
        st.sampled_from(PATHS),
        writes,
    ),
    st.tuples(st.just("read"), process, where, numbers),
    st.tuples(st.just("read latest"), process, where),
    st.tuples(st.just("list some"), process, where, numbers, st.integers(0, 6), st.booleans()),
    st.tuples(st.just("cache"), process, st.sampled_from(CACHES)),
    st.tuples(st.just("delete thread"), process, where),
    st.tuples(st.just("delete run"), process, st.sampled_from(RUNS)),
    st.tuples(st.just("copy"), process, where, st.integers(0, 2)),
    st.tuples(st.just("prune"), process, where),
)
scripts = st.tuples(
    st.sampled_from(["LangGraph's", "LangGraph's", "encrypted", "JSON"]),
    st.lists(operations, min_size=24, max_size=40),
)


# -- running them -------------------------------------------------------------------------------


@dataclass
class Duel:
    """Two savers on one database, like two processes, and the `InMemorySaver` to compare with."""

    savers: tuple[SessionSaver, SessionSaver]
    cold: SessionSaver
    model: InMemorySaver
    name: str
    threads: list[str] = field(default_factory=list)
    made: dict[tuple[str, str], list[Checkpoint]] = field(default_factory=dict)
    makers: dict[tuple[str, str, str], int] = field(default_factory=dict)
    steps: Iterator[int] = field(default_factory=lambda: count(1))

    def thread(self, number: int) -> str:
        name = f"{self.name}/{number}"
        if name not in self.threads:
            self.threads.append(name)
        return name

    def config(self, thread: str, ns: str, checkpoint_id: str | None = None) -> RunnableConfig:
        named = {"thread_id": thread, "checkpoint_ns": ns}
        return {"configurable": named | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}

    def run_id(self, run: str) -> str:
        return f"{run} of {self.name}"

    def some(self, thread: str, ns: str, number: int) -> Checkpoint | None:
        made = self.made.get((thread, ns))
        return made[number % len(made)] if made else None

    # -- operations ---------------------------------------------------------------------------

    async def put(
        self, by: int, at: tuple[int, str], is_fork: bool, number: int,
        changed: dict[str, str], early: list[tuple[str, int]],
    ) -> None:  # fmt: skip
        thread, ns = self.thread(at[0]), at[1]
        parent = self.some(thread, ns, number if is_fork else -1)
        step = next(self.steps)
        known = self._stored(thread).get(ns, {})
        is_lost = parent is not None and parent["id"] not in known
        if parent is not None and is_lost:
            # Only a run in progress continues from a deleted checkpoint: in the process
            # that saved it.
            by = self.makers.get((thread, ns, parent["id"]), -1)
            if by < 0:
                return
        values = dict(parent["channel_values"]) if parent else {}
        versions = dict(parent["channel_versions"]) if parent else {}
        new_versions = {}
        for channel, how in changed.items():
            current = versions.get(channel)
            versions[channel] = self.savers[by].get_next_version(
                None if current is None else str(current), None
            )
            new_versions[channel] = versions[channel]
            if how == "absent":
                values.pop(channel, None)
            elif how in {"none", "number", "new"}:
                values[channel] = {"none": None, "number": number, "new": words(Random(step), 30)}[
                    how
                ]
            else:
                values[channel] = edited(values.get(channel), how, number + step)
        checkpoint = Checkpoint(
            v=4,
            id=str(uuid6(clock_seq=step)),
            ts=f"2026-01-01T00:00:{step:02}+00:00",
            channel_values=values,
            channel_versions=versions,
            versions_seen={"node": dict(versions)},
            updated_channels=sorted(changed),
        )
        if early:  # LangGraph may send them before their checkpoint
            await self._write(by, self.config(thread, ns, checkpoint["id"]), early, "early", "")
        config = self.config(thread, ns, parent["id"] if parent else None)
        metadata: Any = {
            "source": "loop" if is_lost else ("input", "loop", "update", "fork")[step % 4],
            "step": step,
            "run_id": self.run_id(RUNS[number % 3]),
            "nested": {"odd": bool(step % 2)},
        }
        self.model.put(config, checkpoint, metadata, versions if is_lost else new_versions)
        given = {**checkpoint, "channel_values": dict(values)}
        told = await self.savers[by].aput(config, given, metadata, new_versions)  # type: ignore[arg-type]
        assert ids(told) == (thread, ns, checkpoint["id"])
        self.made.setdefault((thread, ns), []).append(checkpoint)
        self.makers[thread, ns, checkpoint["id"]] = by

    async def write(
        self, by: int, at: tuple[int, str], number: int, task: str, path: str,
        written: list[tuple[str, int]],
    ) -> None:  # fmt: skip
        thread, ns = self.thread(at[0]), at[1]
        checkpoint = self.some(thread, ns, -1 - number % 2)
        if checkpoint and self._exists(thread, ns, checkpoint["id"]):
            config = self.config(thread, ns, checkpoint["id"])
            await self._write(by, config, written, task, path)

    async def _write(
        self, by: int, config: RunnableConfig, written: list[tuple[str, int]], task: str, path: str
    ) -> None:
        values = [(channel, edited(None, "new", seed)) for channel, seed in written]
        self.model.put_writes(config, values, task, path)
        await self.savers[by].aput_writes(config, values, task, path)

    async def read(self, by: int, at: tuple[int, str], number: int) -> None:
        thread, ns = self.thread(at[0]), at[1]
        checkpoint = self.some(thread, ns, number)
        name = checkpoint["id"] if checkpoint else str(uuid6())
        await self._compare_one(self.savers[by], self.config(thread, ns, name))

    async def read_latest(self, by: int, at: tuple[int, str]) -> None:
        await self._compare_one(self.savers[by], self.config(self.thread(at[0]), at[1]))

    async def list_some(
        self, by: int, at: tuple[int, str], number: int, limit: int, is_filtered: bool
    ) -> None:
        thread, ns = self.thread(at[0]), at[1]
        checkpoint = self.some(thread, ns, number)
        before = self.config(thread, ns, checkpoint["id"]) if checkpoint and number % 2 else None
        wanted = [
            {"run_id": self.run_id(RUNS[number % 3])},
            {"nested": {"odd": 1}},
            {"missing": None},
            {"step": number % 40, "source": "loop"},
            {"missing": 1},
        ][number % 5]
        options: dict[str, Any] = {
            "before": before,
            "limit": limit or None,
            "filter": wanted if is_filtered else None,
        }
        await self._compare_list(self.savers[by], self.config(thread, ns), options)

    async def cache(self, by: int, limit: int) -> None:
        self.savers[by]._context.blob_cache.values.limit = limit

    async def delete_thread(self, by: int, at: tuple[int, str]) -> None:
        thread = self.thread(at[0])
        self.model.delete_thread(thread)
        await self.savers[by].adelete_thread(thread)

    async def delete_run(self, by: int, run: str) -> None:
        run_id = self.run_id(run)
        for thread in self.threads:
            gone = {
                (ns, name)
                for ns, found in self._stored(thread).items()
                for name, saved in found.items()
                if self.model.serde.loads_typed(saved[1]).get("run_id") == run_id
            }
            self._drop(thread, gone)
        await self.savers[by].adelete_for_runs([run_id])

    async def copy(self, by: int, at: tuple[int, str], number: int) -> None:
        source, target = self.thread(at[0]), self.thread(3 + len(self.threads))
        for ns, found in self._stored(source).items():
            self.model.storage[target][ns] = dict(found)
            self.made[target, ns] = [*self.made.get((source, ns), [])]
        for key, written in list(self.model.writes.items()):
            if key[0] == source:
                self.model.writes[target, *key[1:]] = dict(written)
        for blob, typed in list(self.model.blobs.items()):
            if blob[0] == source:
                self.model.blobs[target, *blob[1:]] = typed
        await self.savers[by].acopy_thread(source, target)
        self.threads[number % 3 % len(self.threads)], self.threads[-1] = (
            self.threads[-1],
            self.threads[number % 3 % len(self.threads)],
        )

    async def prune(self, by: int, at: tuple[int, str]) -> None:
        thread = self.thread(at[0])
        gone = {
            (ns, name)
            for ns, found in self._stored(thread).items()
            for name in found
            if name != max(found)
        }
        self._drop(thread, gone)
        await self.savers[by].aprune([thread])

    # -- the model ----------------------------------------------------------------------------

    def _stored(self, thread: str) -> dict[str, Any]:
        return self.model.storage.get(thread, {})

    def _exists(self, thread: str, ns: str, checkpoint_id: str) -> bool:
        return checkpoint_id in self._stored(thread).get(ns, {})

    def _drop(self, thread: str, gone: set[tuple[str, str]]) -> None:
        for ns, name in gone:
            del self.model.storage[thread][ns][name]
            self.model.writes.pop((thread, ns, name), None)

    # -- comparing ----------------------------------------------------------------------------

    async def _compare_one(self, saver: SessionSaver, config: RunnableConfig) -> None:
        expected = comparable(self.model.get_tuple(config))
        assert comparable(await saver.aget_tuple(config)) == expected

    async def _compare_list(
        self, saver: SessionSaver, config: RunnableConfig, options: dict[str, Any]
    ) -> None:
        expected = [comparable(found) for found in self.model.list(config, **options)]
        found = [comparable(item) async for item in saver.alist(config, **options)]
        assert found == expected

    async def compare_everything(self) -> None:
        """Compare every checkpoint, by id and in lists, with warm and with cold caches."""
        for thread in self.threads:
            for saver in (self.savers[0], self.cold):
                await self._compare_thread(saver, thread)

    async def _compare_thread(self, saver: SessionSaver, thread: str) -> None:
        for ns, stored in self._stored(thread).items():
            await self._compare_one(saver, self.config(thread, ns))
            for name in stored:
                await self._compare_one(saver, self.config(thread, ns, name))
        everywhere = {"configurable": {"thread_id": thread}}
        expected = [comparable(found) for found in self.model.list(everywhere)]  # type: ignore[arg-type]
        found = [comparable(item) async for item in saver.alist(everywhere)]  # type: ignore[arg-type]
        assert found == sorted(expected, key=lambda one: one["config"][2], reverse=True)

    async def run(self, script: list[Any]) -> None:
        for name, *arguments in script:
            await getattr(self, name.replace(" ", "_"))(*arguments)
        await self.compare_everything()


class Property:
    """Runs Hypothesis in a thread, and its examples in the test's own event loop."""

    def __init__(self, examples: int) -> None:
        self._settings = settings(
            max_examples=examples,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )

    async def holds(self, run: Callable[[str, list[Any]], Coroutine[Any, Any, None]]) -> None:
        loop = asyncio.get_running_loop()

        @self._settings
        @given(scripts)
        def check(script: tuple[str, list[Any]]) -> None:
            asyncio.run_coroutine_threadsafe(run(*script), loop).result()

        await asyncio.to_thread(check)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Silence the warnings that random values cause in projections."""
    logging.getLogger("langgraph_session_saver").disabled = True
    yield
    logging.getLogger("langgraph_session_saver").disabled = False


async def test_random_operations_read_the_same_as_with_the_memory_saver(
    make_saver: SaverFactory, sql: Sql
) -> None:
    trios = {
        name: tuple(make_saver(serde=new_serde()) for _ in range(3))
        for name, new_serde in SERDES.items()
    }
    names = count()

    async def run(serde: str, script: list[Any]) -> None:
        first, second, cold = trios[serde]
        for saver in (first, second):
            saver._context.blob_cache.values.limit = CACHES[-1]
        cold._context.blob_cache.values.limit = 0
        memory = InMemorySaver(serde=SERDES[serde]())
        await Duel((first, second), cold, memory, f"example {next(names)}").run(script)

    await Property(EXAMPLES[make_saver.backend.name]).holds(run)

    links = sql("SELECT count(*) AS n FROM session_blobs WHERE base_key IS NOT NULL")
    assert links[0]["n"] > 0, "no change of another value was stored: nothing was tested"


async def test_reading_a_deleted_checkpoint_does_not_stop_the_run_that_made_it(
    make_saver: SaverFactory,
) -> None:
    saver, other, model = make_saver(), make_saver(), InMemorySaver()
    duel = Duel((saver, other), other, model, "watched")
    await duel.put(0, (0, ""), False, 1, {"doc": "new", "items": "append"}, [])
    await duel.delete_thread(1, (0, ""))
    await duel.read(0, (0, ""), -1)

    await duel.put(0, (0, ""), False, 1, {"doc": "edit"}, [("doc", 1)])

    await duel.compare_everything()


async def test_a_checkpoint_that_was_missing_when_read_can_be_a_parent_once_it_is_stored(
    make_saver: SaverFactory,
) -> None:
    saver, other, model = make_saver(), make_saver(), InMemorySaver()
    duel = Duel((saver, other), other, model, "early")
    await duel.put(0, (0, ""), False, 1, {"doc": "new"}, [])
    made = duel.some("early/0", "", -1)
    assert made is not None
    late = Checkpoint(**{**made, "id": str(uuid6())})
    await duel._compare_one(saver, duel.config("early/0", "", late["id"]))
    for each in (other.aput, model.aput):
        await each(duel.config("early/0", "", made["id"]), late, {}, {})
    duel.made["early/0", ""].append(late)

    await duel.write(0, (0, ""), 0, "task-a", "", [("doc", 1)])
    await duel.put(0, (0, ""), False, 1, {"doc": "edit"}, [])

    await duel.compare_everything()


@pytest.mark.parametrize(
    "metadata", [{"source": "update", "step": 3}, {"source": "input", "step": -1}]
)
async def test_a_put_after_a_deleted_checkpoint_raises(
    make_saver: SaverFactory, metadata: Any
) -> None:
    saver, model = make_saver(), InMemorySaver()
    duel = Duel((saver, saver), saver, model, "gone")
    await duel.put(0, (0, ""), False, 1, {"doc": "new"}, [])
    made = duel.some("gone/0", "", -1)
    assert made is not None
    await duel.delete_thread(0, (0, ""))
    config = duel.config("gone/0", "", made["id"])
    assert await saver.aget_tuple(config) is None

    with pytest.raises(CheckpointNotFoundError, match="Nothing was written"):
        await saver.aput(config, {**made, "id": str(uuid6())}, metadata, {})

    assert await saver.aget_tuple(duel.config("gone/0", "")) is None

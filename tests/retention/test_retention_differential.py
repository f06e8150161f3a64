"""Random graphs and operations on a saver with `keep_last` and on one that keeps everything.

Each script is made from a seed that is printed when it fails. Run more of them with
`RETENTION_SCRIPTS=2000 pytest tests/retention/test_retention_differential.py`, or a single one with
`RETENTION_SEED=17`.
"""

from __future__ import annotations

import logging
import operator
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Annotated, Any

import pytest
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import EmptyInputError
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from langgraph_session_saver import SessionSaver
from tests.support.backends import EACH_ONCE, Sql
from tests.support.faces import SyncFaceAdapter
from tests.support.graphs import ScriptRunner, extended, thread
from tests.support.kept import Beside, check_kept, in_tables
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE
SCRIPTS = int(os.environ.get("RETENTION_SCRIPTS", "100"))
ONLY = os.environ.get("RETENTION_SEED")
COUNTS = (1, 2, 3, 5, 8)


def merged(old: dict[str, int], new: dict[str, int]) -> dict[str, int]:
    return {**old, **new}


def greater(old: str, new: str) -> str:
    return max(old, new)


class Plain(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    marks: Annotated[dict[str, int], merged]
    total: Annotated[int, operator.add]
    text: Annotated[str, greater]


class Often(Plain, total=False):
    items: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=3)]


class Seldom(Plain, total=False):
    items: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=7)]


class Never(Plain, total=False):
    items: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=1_000)]
    more: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=2)]


STATES: tuple[Any, ...] = (Plain, Plain, Often, Seldom, Never)


class NotTodayError(Exception):
    """Raised by a node that is told to fail."""


class RandomGraph:
    """A graph of hubs in a row, with a random subgraph between each two."""

    def __init__(self, rng: Random) -> None:
        self.broken: set[str] = set()
        self.names: list[str] = []
        self.hubs: list[str] = []
        self.kinds: Counter[str] = Counter()
        self._rng = rng
        self.state = rng.choice(STATES)
        self.builder = self._graph("", rng.randint(1, 2), depth=0)

    def _graph(self, prefix: str, layers: int, depth: int) -> StateGraph[Any]:
        builder: StateGraph[Any] = StateGraph(self.state)
        for number in range(layers + 1):
            hub = f"{prefix}h{number}"
            builder.add_node(hub, self._writes(hub))
            if not depth:
                self.hubs.append(hub)
        builder.add_edge(START, f"{prefix}h0")
        builder.add_edge(f"{prefix}h{layers}", END)
        for number in range(layers):
            kinds: list[Callable[..., None]] = [
                self._single, self._parallel, self._sends, self._asks, self._several_ask,
            ]  # fmt: skip
            if depth < 2:
                kinds += [self._subgraph, self._subgraph, self._sent_subgraphs]
            made = self._rng.choice(kinds)
            self.kinds[made.__name__] += 1
            made(builder, f"{prefix}h{number}", f"{prefix}h{number + 1}", depth)
        return builder

    # -- between two hubs ---------------------------------------------------------------------

    def _single(self, builder: Any, before: str, after: str, depth: int) -> None:
        self._between(builder, before, after, {f"{before}s": self._writes(f"{before}s")})

    def _parallel(self, builder: Any, before: str, after: str, depth: int) -> None:
        names = [f"{before}p{number}" for number in range(self._rng.randint(2, 3))]
        self._between(builder, before, after, {name: self._writes(name) for name in names})

    def _asks(self, builder: Any, before: str, after: str, depth: int) -> None:
        name, times = f"{before}a", self._rng.randint(1, 2)
        self._between(builder, before, after, {name: self._asking(name, times)})

    def _several_ask(self, builder: Any, before: str, after: str, depth: int) -> None:
        names = [f"{before}t{number}" for number in range(self._rng.randint(2, 3))]
        self._between(builder, before, after, {name: self._asking(name, 1) for name in names})

    def _sends(self, builder: Any, before: str, after: str, depth: int) -> None:
        name = f"{before}w"
        worker = self._rng.choice([self._writes(name), self._asking(name, 1)])
        self._sent(builder, before, after, name, worker)

    def _sent_subgraphs(self, builder: Any, before: str, after: str, depth: int) -> None:
        name = f"{before}g"
        inner = self._graph(name, 1, depth=2).compile()
        self._sent(builder, before, after, name, inner)

    def _subgraph(self, builder: Any, before: str, after: str, depth: int) -> None:
        name, keeps = f"{before}b", self._rng.choice([None, True])
        self.kinds["stateful" if keeps else "stateless"] += 1
        inner = self._graph(name, self._rng.randint(1, 2), depth + 1).compile(checkpointer=keeps)
        self._between(builder, before, after, {name: inner})

    def _between(self, builder: Any, before: str, after: str, nodes: dict[str, Any]) -> None:
        for name, node in nodes.items():
            builder.add_node(name, node)
            builder.add_edge(before, name)
        builder.add_edge(list(nodes), after)

    def _sent(self, builder: Any, before: str, after: str, name: str, node: Any) -> None:
        number = self._rng.randint(2, 3)
        builder.add_node(name, node)

        def spread(state: Any) -> list[Send]:
            return [Send(name, {"log": [], "total": i, "text": "sent"}) for i in range(number)]

        builder.add_conditional_edges(before, spread, [name])
        builder.add_edge(name, after)

    # -- nodes --------------------------------------------------------------------------------

    def _writes(self, name: str) -> Any:
        given = self.update(name)
        self.names.append(name)

        def node(state: Any) -> Any:
            if name in self.broken:
                raise NotTodayError(name)
            return given

        return node

    def _asking(self, name: str, times: int) -> Any:
        self.names.append(name)

        def node(state: Any) -> Any:
            if name in self.broken:
                raise NotTodayError(name)
            answers = [
                interrupt(f"{name} {number} {state.get('total')}") for number in range(times)
            ]
            return {"log": [f"{name} {answers}"], "total": 1}

        return node

    def update(self, name: str) -> dict[str, Any]:
        rng = self._rng
        words = " ".join(rng.choices(["alpha", "beta", "gamma", "delta"], k=rng.randint(1, 60)))
        every = {
            "log": [f"{name}: {words[:40]}"],
            "marks": {name: rng.randrange(9)},
            "total": rng.randrange(5),
            "text": words,
            "items": [f"item of {name}"],
            "more": [words[:20]],
        }
        known = self.state.__annotations__.keys() | Plain.__annotations__.keys()
        chosen = [channel for channel in every if channel in known and rng.random() < 0.6]
        return {channel: every[channel] for channel in chosen or ["log"]}


class RandomScript:
    """Operations on one thread, drawn one by one: its state decides what is possible."""

    def __init__(
        self,
        seed: int,
        savers: Sequence[SessionSaver],
        cold: SessionSaver,
        count: int,
        sql: Sql,
    ) -> None:
        self.rng = Random(seed)
        self.graph = RandomGraph(self.rng)
        self.name = f"script {seed}"
        self.everything = InMemorySaver()
        self.is_sync = isinstance(cold, SyncFaceAdapter)
        self.besides = [Beside(saver, self.everything) for saver in savers]
        self.drivers = [self._script_runner(beside) for beside in self.besides]
        self.savers, self.cold, self.count, self.sql = savers, cold, count, sql
        self.by = 0
        self.did: list[str] = []
        # One node at a time, but not async: LangGraph would leave coroutines unawaited.
        self.alone: Any = {"max_concurrency": 1} if self.is_sync else {}
        self.config: Any = {**thread(self.name), **self.alone}

    def _script_runner(self, saver: Any) -> ScriptRunner:
        return ScriptRunner(self.graph.builder, saver, is_sync=self.is_sync)

    @property
    def driver(self) -> ScriptRunner:
        return self.drivers[self.by]

    async def run(self) -> None:
        await self._operate("invoke")
        for _ in range(self.rng.randint(2, 4)):
            await self._operate(
                self.rng.choice(
                    [
                        "invoke",
                        "resume",
                        "resume",
                        "resume",
                        "update",
                        "fork",
                        "fork",
                        "replay",
                        "fail",
                        "restart",
                        "update inner",
                        "copy",
                    ]
                )
            )
        await self._compare_states()

    async def _operate(self, operation: str) -> None:
        self.did.append(operation)
        self.by = self.rng.randrange(len(self.drivers))
        await getattr(self, f"_{operation.replace(' ', '_')}")()
        await self.besides[self.by].settled()
        everything, sql = self.everything, self.sql
        await check_kept(self.savers[self.by], everything, sql, self.name, self.count)

    # -- operations ---------------------------------------------------------------------------

    async def _invoke(self) -> None:
        await self._go(self.graph.update("in"))

    async def _restart(self) -> None:
        """Start the next turn, with all interrupts answered."""
        for _ in range(3):
            if not (await self.driver.state(self.config)).next:
                break
            await self._resume()
        await self._invoke()

    async def _resume(self) -> None:
        state = await self.driver.state(self.config)
        waiting = list(state.interrupts)
        if not waiting:
            await self._go(None)
            return
        chosen = waiting[: self.rng.randint(1, len(waiting))]
        answers = {item.id: f"answer {self.rng.randrange(9)}" for item in chosen}
        await self._go(Command(resume=answers))

    async def _update(self) -> None:
        hub = self.rng.choice(self.graph.hubs)
        await self.driver.update(self.config, self.graph.update("by hand"), as_node=hub)

    async def _update_inner(self) -> None:
        """Update the state of an interrupted subgraph."""
        state = await self.driver.state(self.config, subgraphs=True)
        inner = [task for task in state.tasks if getattr(task.state, "config", None)]
        if inner:
            at = self.rng.choice(inner).state.config
            await self.driver.update(at, {"log": ["by hand, inside"]})
            if self.rng.random() < 0.5:
                await self._resume()

    async def _fork(self) -> None:
        past = self._some_kept()
        hub = self.rng.choice(self.graph.hubs)
        fork = await self.driver.update(past, self.graph.update("fork"), as_node=hub)
        if self.rng.random() < 0.7:
            await self._go(None, {**fork, **self.alone})

    async def _copy(self) -> None:
        """Copy a kept checkpoint to the head of the thread; its parent may have been pruned."""
        copy = await self.driver.update(self._some_kept(), None, as_node="__copy__")
        if self.rng.random() < 0.7:
            await self._go(None, {**copy, **self.alone})

    async def _replay(self) -> None:
        given = self.rng.choice([None, None, self.graph.update("again")])
        await self._go(given, {**self._some_kept(), **self.alone})

    async def _fail(self) -> None:
        self.graph.broken.add(self.rng.choice(self.graph.names))
        await self._go(self.rng.choice([None, self.graph.update("risky")]))
        self.graph.broken.clear()
        if self.rng.random() < 0.8:
            self.by = self.rng.randrange(len(self.drivers))
            await self._go(None)

    async def _go(self, given: Any, config: Any = None) -> None:
        durability = self.rng.choice(["sync", "async", "exit"])
        try:
            await self.driver.invoke(given, config or self.config, durability=durability)
        except NotTodayError:
            self.did.append("failed")
            await self.besides[self.by].settled()
        except EmptyInputError:  # raised by LangGraph for a replay that has nothing to do
            self.did.append("was empty")

    def _some_kept(self) -> Any:
        roots = in_tables(self.sql, self.name).roots
        return thread(self.name, checkpoint_id=self.rng.choice(roots))

    # -- the end ------------------------------------------------------------------------------

    async def _compare_states(self) -> None:
        """Compare every kept state, with replayed values and subgraphs, read with empty caches."""
        cold = self._script_runner(self.cold)
        whole = ScriptRunner(self.graph.builder, self.everything, is_sync=True)
        for name in in_tables(self.sql, self.name).roots:
            at = thread(self.name, checkpoint_id=name)
            ours = await cold.state(at, subgraphs=True)
            theirs = await whole.state(at, subgraphs=True)
            assert told(ours) == told(theirs)
        assert told(await cold.state(self.config)) == told(await whole.state(self.config))


def told(state: Any) -> Any:
    """What a state snapshot says."""
    return {
        "values": state.values,
        "next": state.next,
        "metadata": state.metadata,
        "created": state.created_at,
        "interrupts": state.interrupts,
        "tasks": [
            (task.id, task.name, task.path, repr(task.error), task.interrupts, task.result,
             told(task.state) if hasattr(task.state, "next") else task.state)
            for task in state.tasks
        ],
    }  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Silence the warnings that random values cause in projections."""
    logging.getLogger("langgraph_session_saver").disabled = True
    yield
    logging.getLogger("langgraph_session_saver").disabled = False


def seeds_of(backend_name: str, face: str) -> list[int]:
    """The seeds that this pair of backend and face runs."""
    share = EACH_ONCE.index((backend_name, face))
    seeds = [seed for seed in range(SCRIPTS) if seed % len(EACH_ONCE) == share]
    return seeds if ONLY is None else [int(ONLY)]


async def test_a_thread_with_keep_last_runs_like_one_that_keeps_everything(
    make_saver: SaverFactory, sql: Sql
) -> None:
    savers = {count: [make_saver(keep_last=count) for _ in range(2)] for count in COUNTS}
    cold = make_saver()
    cold._context.blob_cache.values.limit = 0
    kinds: Counter[str] = Counter()
    for seed in seeds_of(make_saver.backend.name, make_saver.face):
        count = COUNTS[seed // len(EACH_ONCE) % len(COUNTS)]
        script = RandomScript(seed, savers[count], cold, count, sql)
        try:
            await script.run()
        except BaseException as error:
            error.add_note(
                f"RETENTION_SEED={seed}, keep_last={count}, {script.graph.state.__name__}, "
                f"{dict(script.graph.kinds)}: {', '.join(script.did)}"
            )
            raise
        kinds += script.graph.kinds + Counter(script.did)

    assert (
        SCRIPTS < 100
        or ONLY
        or {"failed", "resume", "fork", "stateful", "stateless", "_sends"} <= kinds.keys()
    )

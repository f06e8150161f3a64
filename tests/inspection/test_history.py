"""`history` and `diff` of real threads, on every backend, through every face."""

from __future__ import annotations

import importlib
import json
import operator
import sqlite3
import sys
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt
from sqlalchemy import create_engine
from typing_extensions import TypedDict

from langgraph_session_saver import (
    CheckpointNotFoundError,
    CorruptBlobError,
    History,
    InvalidConfigError,
    Older,
    SessionSaver,
    SessionSaverError,
    ThreadNotFoundError,
)
from tests.support.backends import EACH_ONCE, Sql
from tests.support.graphs import ScriptRunner, engine_of, extended, line_of, thread
from tests.support.savers import SaverFactory
from tests.support.statements import recorded_statements

BACKENDS_AND_FACES = EACH_ONCE


class Chat(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    words: Annotated[list[str], operator.add]
    score: float
    page: str
    facts: dict[str, Any]


def answers(state: Chat) -> Chat:
    return {"messages": [AIMessage("hi", id="a1")], "score": 3.5}


def asks(state: Chat) -> Chat:
    return {"words": [interrupt("sure?")]}


def fails(state: Chat) -> Chat:
    if state.get("score", 0) < 9:
        raise ValueError("no good")
    return {"words": ["good"]}


ASKING = line_of(("answer", answers), ("ask", asks), state=Chat)


def steps(history: History) -> list[tuple[Any, ...]]:
    return [(e.step, e.source, e.ran, e.status, e.nodes) for e in history]


# -- what a page says ---------------------------------------------------------------------------


async def test_a_finished_thread_shows_each_step(saver: SessionSaver) -> None:
    driver = ScriptRunner(line_of(("answer", answers), state=Chat), saver)
    await driver.invoke({"messages": [HumanMessage("yo", id="h1")]}, thread("plain"))

    history = await saver.ahistory("plain")

    assert steps(history) == [
        (1, "loop", ("answer",), "done", ()),
        (0, "loop", ("__start__",), "passed", ("answer",)),
        (-1, "input", (), "passed", ("__start__",)),
    ]
    assert {"messages", "score"} <= set(history[0].changed)
    assert history[0].parent_id == history[1].checkpoint_id
    assert history[2].parent_id is None
    assert history.older is None
    assert all(e.time is not None and e.size is not None and e.stored > 0 for e in history)


async def test_sizes_are_those_of_the_serialised_values(saver: SessionSaver, sql: Sql) -> None:
    def adds(state: Chat) -> Chat:
        return {"words": [f"word {len(state['words'])} " * 40]}

    driver = ScriptRunner(line_of(*((f"n{i}", adds) for i in range(12)), state=Chat), saver)
    await driver.invoke({"words": ["first"]}, thread("sizes"))

    history = await saver.ahistory("sizes")

    assert any(row["depth"] for row in sql("SELECT depth FROM session_blobs"))
    found = [
        sum(
            len(saver.serde.dumps_typed(value)[1])
            for value in item.checkpoint["channel_values"].values()
        )
        async for item in saver.alist(thread("sizes"))
    ]
    assert [entry.size for entry in history] == found
    stored = 0
    for table, columns in {
        "session_checkpoints": ("data", "metadata_data"),
        "session_blobs": ("data",),
        "session_writes": ("data",),
    }.items():
        for row in sql(f"SELECT * FROM {table}"):
            stored += sum(len(row[column]) for column in columns)
    assert sum(entry.stored for entry in history) == stored


async def test_an_interrupt_is_shown_until_it_is_answered(saver: SessionSaver) -> None:
    driver = ScriptRunner(ASKING, saver)
    await driver.invoke({"score": 1.0}, thread("asked"))
    before = await saver.ahistory("asked")
    await driver.invoke(Command(resume="yes"), thread("asked"))

    after = await saver.ahistory("asked")

    assert (before[0].status, before[0].nodes) == ("interrupted", ("ask",))
    assert [e.status for e in after] == ["done", "passed", "passed", "passed"]
    assert (await saver.ahistory("asked", limit=1, before=after[0].checkpoint_id))[
        0
    ].status == "passed"


async def test_an_error_is_shown_until_the_node_succeeds(saver: SessionSaver) -> None:
    driver = ScriptRunner(line_of(("fail", fails), state=Chat), saver)
    with pytest.raises(ValueError, match="no good"):
        await driver.invoke({"score": 1.0}, thread("failed"))
    before = await saver.ahistory("failed")
    await driver.update(thread("failed"), {"score": 9.5}, as_node="__start__")
    await driver.invoke(None, thread("failed"))

    after = await saver.ahistory("failed")

    assert (before[0].status, before[0].nodes) == ("error", ("fail",))
    assert [(e.source, e.status) for e in after] == [
        ("loop", "done"), ("update", "passed"), ("loop", "error"), ("input", "passed"),
    ]  # fmt: skip


async def test_an_input_that_replaces_a_pending_node_shows_that_none_ran(
    saver: SessionSaver,
) -> None:
    driver = ScriptRunner(ASKING, saver)
    for _ in range(2):
        await driver.invoke({"score": 1.0}, thread("again"))

    history = await saver.ahistory("again")

    assert [e.ran for e in history if e.source == "input"] == [(), ()]
    assert [e.status for e in history] == [
        "interrupted", "passed", "passed", "interrupted", "passed", "passed",
    ]  # fmt: skip


async def test_a_static_breakpoint_is_pending_with_its_node(saver: SessionSaver) -> None:
    driver = ScriptRunner(ASKING, saver)
    await driver.invoke({"score": 1.0}, thread("held"), interrupt_before=["answer"])

    history = await saver.ahistory("held")

    assert (history[0].status, history[0].nodes) == ("pending", ("answer",))
    assert "pending: answer" in str(history)


async def test_tasks_of_sends_and_joins_are_named(saver: SessionSaver) -> None:
    def works(state: Any) -> Chat:
        return {"words": ["w"]}

    builder: StateGraph[Any] = StateGraph(Chat)
    for name in ("plan", "left", "work", "meet"):
        builder.add_node(name, works)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges(
        "plan", lambda _: [Send("work", {}), Send("work", {}), "left"], ["work", "left"]
    )
    builder.add_edge(["plan", "left"], "meet")
    await ScriptRunner(builder, saver).invoke({"words": []}, thread("fan"), durability="sync")

    history = await saver.ahistory("fan")

    assert [(sorted(e.ran), e.status, sorted(e.nodes)) for e in history][:3] == [
        (["meet"], "done", []),
        (["left", "work", "work"], "passed", ["meet"]),
        (["plan"], "passed", ["left", "work", "work"]),
    ]
    assert "left, work x2" in str(history) or "work x2, left" in str(history)


async def test_a_subgraph_has_a_history_of_its_own(saver: SessionSaver) -> None:
    inner = line_of(("inside", answers), ("ask", asks), state=Chat).compile()
    driver = ScriptRunner(line_of(("outer", inner), state=Chat), saver)
    await driver.invoke({"score": 1.0}, thread("nested"))
    spaces = {
        item.config["configurable"]["checkpoint_ns"] async for item in saver.alist(thread("nested"))
    }
    [namespace] = spaces - {""}

    history = await saver.ahistory("nested", checkpoint_ns=namespace)

    assert history[0].ran == ("inside",)
    assert (history[0].status, history[0].nodes) == ("interrupted", ("ask",))
    assert namespace in str(history)
    root = await saver.ahistory("nested")
    assert (root[0].status, root[0].nodes) == ("interrupted", ("outer",))


async def test_a_run_saved_at_its_exit_is_shown(saver: SessionSaver) -> None:
    driver = ScriptRunner(line_of(("answer", answers), state=Chat), saver)
    await driver.invoke({"score": 1.0}, thread("exit"), durability="exit")

    history = await saver.ahistory("exit")

    assert [e.status for e in history] == ["done"]
    assert "score" in history[0].changed


async def test_a_checkpoint_shows_that_its_parent_was_pruned(saver: SessionSaver) -> None:
    driver = ScriptRunner(ASKING, saver)
    await driver.invoke({"score": 1.0}, thread("pruned"))
    await saver.aprune(["pruned"])

    history = await saver.ahistory("pruned")

    assert len(history) == 1
    assert (history[0].parent_is_listed, history[0].status) == (False, "interrupted")
    assert history[0].parent_id is not None


# -- the tree -------------------------------------------------------------------------------------

FORKED = {  # id: parent, oldest first
    "1": None, "2": "1", "3": "2", "4": "2", "5": "3", "6": "2", "7": "4", "8": "6",
}  # fmt: skip


def an_id(name: str) -> str:
    return f"00000000-0000-6000-8000-00000000000{name}"


async def save(saver: SessionSaver, name: str, parent: str | None, **values: Any) -> None:
    """Save a checkpoint that is the same in every run."""
    checkpoint = empty_checkpoint() | {
        "id": an_id(name),
        "ts": f"2026-01-0{1 + int(name, 16) // 5}T10:00:0{int(name, 16) % 10}+00:00",
        "channel_values": values,
        "channel_versions": {channel: f"{int(name, 16):08}.{name}" for channel in values},
    }
    config = thread("tree", checkpoint_ns="")
    if parent is not None:
        config["configurable"]["checkpoint_id"] = an_id(parent)
    versions = checkpoint["channel_versions"]
    metadata: Any = {"source": "loop", "step": int(name, 16), "parents": {}}
    await saver.aput(config, checkpoint, metadata, versions)


async def save_tree(saver: SessionSaver) -> None:
    for name, parent in FORKED.items():
        await save(saver, name, parent, words=["word"] * int(name))


GOLDEN = """\
thread 'tree': 8 checkpoints, newest first
      checkpoint                           step source ran changed status time        size  stored
      2026-01-02 (UTC)
*     00000000-0000-6000-8000-000000000008    8 loop       words   done   10:00:08    41 B   232 B
| *   00000000-0000-6000-8000-000000000007    7 loop       words   done   10:00:07    36 B   227 B
* |   00000000-0000-6000-8000-000000000006    6 loop       words   →      10:00:06    31 B   222 B
| | * 00000000-0000-6000-8000-000000000005    5 loop       words   done   10:00:05    26 B   217 B
      2026-01-01 (UTC)
| * | 00000000-0000-6000-8000-000000000004    4 loop       words   →      10:00:04    21 B   212 B
| | * 00000000-0000-6000-8000-000000000003    3 loop       words   →      10:00:03    16 B   207 B
|/_/
*     00000000-0000-6000-8000-000000000002    2 loop       words   →      10:00:02    11 B   202 B
*     00000000-0000-6000-8000-000000000001    1 loop       words   →      10:00:01     6 B   197 B
"""


async def test_forks_are_drawn_as_a_tree(saver: SessionSaver) -> None:
    await save_tree(saver)

    history = await saver.ahistory("tree")

    drawn = [line for e in history for line in (e.graph_above, f"{e.graph} {e.checkpoint_id[-1]}")]
    assert [line for line in drawn if line.strip()] == [
        "* 8",
        "| * 7",
        "* | 6",
        "| | * 5",
        "| * | 4",
        "| | * 3",
        "|/_/",
        "* 2",
        "* 1",
    ]


async def test_the_pages_of_a_tree_join_into_one(saver: SessionSaver) -> None:
    await save_tree(saver)
    whole = await saver.ahistory("tree")
    for size in range(1, 9):
        pages = [await saver.ahistory("tree", limit=size)]
        while pages[-1].older is not None:
            pages.append(await saver.ahistory("tree", limit=size, before=pages[-1].older))
        joined = [entry for page in pages for entry in page]
        assert [len(page) for page in pages[:-1]] == [size] * (len(pages) - 1)
        assert [(e.checkpoint_id, e.graph, e.graph_above) for e in joined] == [
            (e.checkpoint_id, e.graph, e.graph_above) for e in whole
        ]
        assert [e.changed for e in joined] == [e.changed for e in whole]


async def test_a_small_fork_prints_like_this(sync_saver: SessionSaver) -> None:
    await save_tree(sync_saver)

    text = str(sync_saver.history("tree"))

    assert text == GOLDEN.rstrip()
    assert max(map(len, text.splitlines())) <= 100


# -- what it costs --------------------------------------------------------------------------------


async def test_a_page_takes_the_same_number_of_statements_for_any_thread(
    saver: SessionSaver,
) -> None:
    driver = ScriptRunner(ASKING, saver)
    await driver.invoke({"score": 1.0}, thread("short"))
    for _ in range(30):
        await driver.invoke({"score": 1.0}, thread("long"))
    taken = []
    for name, limit in (("short", 50), ("long", 50), ("long", 10)):
        with recorded_statements(engine_of(saver)) as seen:
            await saver.ahistory(name, limit=limit)
        taken.append(seen)

    assert [len(seen) for seen in taken] == [3, 4, 4]


class CountingCursor(sqlite3.Cursor):
    """Counts what is fetched: rows, and the bytes of their texts and blobs."""

    rows = 0
    fetched = 0

    def fetchall(self) -> list[Any]:
        return self._counted(super().fetchall())

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        return self._counted(super().fetchmany(size))

    def fetchone(self) -> Any:
        row = super().fetchone()
        self._counted([] if row is None else [row])
        return row

    def _counted(self, rows: list[Any]) -> list[Any]:
        CountingCursor.rows += len(rows)
        for row in rows:
            CountingCursor.fetched += sum(len(v) for v in row if isinstance(v, str | bytes))
        return rows


class CountingConnection(sqlite3.Connection):
    def cursor(self, factory: Any = CountingCursor) -> Any:
        return super().cursor(factory)


class Cost(NamedTuple):
    """What one page of a history costs."""

    statements: int
    rows: int
    fetched: int
    memory: int


def test_a_page_of_2000_checkpoints_costs_as_much_as_one_of_100(tmp_path: Path) -> None:
    engine = create_engine(
        f"sqlite:///{tmp_path / 'long.db'}", connect_args={"factory": CountingConnection}
    )
    saver = SessionSaver(engine, projections=False)

    def cost(name: str, before: Any = None) -> tuple[History, Cost]:
        saver.history(name, before=before)  # whose statements are then compiled
        CountingCursor.rows = CountingCursor.fetched = 0
        tracemalloc.start()
        with recorded_statements(engine) as seen:
            history = saver.history(name, before=before)
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return history, Cost(len(seen), CountingCursor.rows, CountingCursor.fetched, memory)

    costs = {}
    for name, length in (("short", 100), ("long", 2_000)):
        config, words = thread(name, checkpoint_ns=""), []
        for n in range(length):
            words.append(f"word number {n:06}")
            version = {"words": f"{n:08}.a"}
            made: Any = empty_checkpoint() | {
                "id": f"{n:08}", "channel_values": {"words": words}, "channel_versions": version,
            }  # fmt: skip
            metadata: Any = {"source": "loop", "step": n, "parents": {}}
            config = saver.put(config, made, metadata, version)  # type: ignore[arg-type]
        history, costs[name] = cost(name)
        assert len(history) == 50
        assert history[0].size == len(saver.serde.dumps_typed(words)[1])
    _, costs["in its middle"] = cost("long", f"{1_000:08}")
    engine.dispose()

    short = costs.pop("short")
    for each in costs.values():
        assert each[:2] == short[:2]
        assert each.fetched < 1.25 * short.fetched + 2_000
        assert each.memory < 1.25 * short.memory + 20_000


async def test_a_diff_takes_four_statements(saver: SessionSaver) -> None:
    driver = ScriptRunner(ASKING, saver)
    for _ in range(10):
        await driver.invoke({"score": 1.0}, thread("cheap"))
    history = await saver.ahistory("cheap")
    with recorded_statements(engine_of(saver)) as seen:
        await saver.adiff("cheap", history[-1].checkpoint_id, history[0].checkpoint_id)
    assert len(seen) == 4


# -- what differs ---------------------------------------------------------------------------------


async def test_values_are_compared_one_by_one(saver: SessionSaver) -> None:
    page = "\n".join(f"<p>line {n}</p>" for n in range(50))
    await save(
        saver, "1", None, score=7.0, page=page, gone=1, kept="same", tags=["a", "b", "c"],
        facts={"deep": {"x": 1, "y": 2}},
        messages=[HumanMessage("a", id="1"), AIMessage("b", id="2")],
    )  # fmt: skip
    await save(
        saver, "2", "1", score=10.5, page=page.replace("line 25<", "line XXV<"), new=[1],
        kept="same", tags=["a", "c", "d"], facts={"deep": {"x": 1, "y": 3, "z": 4}},
        messages=[HumanMessage("a!", id="1"), AIMessage("c", id="3")],
    )  # fmt: skip

    diff = await saver.adiff("tree", an_id("1"), an_id("2"))

    assert {found.channel: found.kind for found in diff} == {
        "score": "changed", "page": "changed", "gone": "removed", "new": "added",
        "tags": "changed", "facts": "changed", "messages": "changed",
    }  # fmt: skip
    assert diff.same == ("kept",)
    said = {
        found.channel: [(change.kind, change.path) for change in found.changes] for found in diff
    }
    assert said["messages"] == [("dropped", "[1]"), ("changed", "[0].content"), ("appended", "[1]")]
    assert said["facts"] == [("changed", "deep.y"), ("added", "deep.z")]
    assert said["tags"] == [("edited", "[1]"), ("edited", "[2]")]
    assert diff["score"].changes[0].by == 3.5
    assert diff["page"].changes[0].text == (
        "@@ -23,7 +23,7 @@", " <p>line 22</p>", " <p>line 23</p>", " <p>line 24</p>",
        "-<p>line 25</p>", "+<p>line XXV</p>",
        " <p>line 26</p>", " <p>line 27</p>", " <p>line 28</p>",
    )  # fmt: skip
    assert "7.0 → 10.5 (+3.5)" in str(diff)
    json.dumps(diff.to_dict())


async def test_b_defaults_to_the_newest_and_ids_may_be_prefixes(saver: SessionSaver) -> None:
    await ScriptRunner(ASKING, saver).invoke({"score": 1.0}, thread("cut"))
    history = await saver.ahistory("cut")
    shortest = str(history).splitlines()[-1].split()[1]

    diff = await saver.adiff("cut", shortest)

    assert (diff.a, diff.b) == (history[-1].checkpoint_id, history[0].checkpoint_id)
    assert diff["messages"].kind == "added"


async def test_a_huge_value_is_cut_with_a_note(saver: SessionSaver) -> None:
    await save(saver, "1", None, words=["old"], big=b"a" * (17 << 20))
    await save(saver, "2", "1", words=["x" * 100_000] * 150, big=b"b" * (17 << 20))

    diff = await saver.adiff("tree", an_id("1"))

    assert len(diff["words"].changes) == 100
    assert diff["words"].more == 50
    assert "over 16.8 MB" in str(diff["big"].note)
    assert len(str(diff)) < 20_000
    assert "(100,000 characters)" in str(diff)
    assert len(json.dumps(diff.to_dict())) < 4_000_000


class Deltas(TypedDict, total=False):
    rare: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=1_000)]
    often: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=3)]


async def test_delta_channels_are_rebuilt_from_their_writes(saver: SessionSaver) -> None:
    def node(state: Deltas) -> Deltas:
        word = f"w{len(state['rare'])}"
        return {"rare": [word], "often": [word]}

    nodes = [(f"n{n}", node) for n in range(6)]
    driver = ScriptRunner(line_of(*nodes, state=Deltas), saver)
    await driver.invoke({"rare": ["w0"], "often": ["w0"]}, thread("deltas"))
    history = await saver.ahistory("deltas")

    diff = await saver.adiff("deltas", history[3].checkpoint_id)

    for channel in ("rare", "often"):
        changes = diff[channel].changes
        assert [(c.kind, c.path, c.after) for c in changes] == [
            ("appended", f"[{n}]", f"w{n}") for n in (4, 5, 6)
        ]
        assert {"rare", "often"} <= set(history[0].changed)
    assert "DeltaChannel" in str(diff)


async def test_a_delta_channel_with_a_damaged_write_cannot_be_decoded(
    saver: SessionSaver, sql: Sql
) -> None:
    def node(state: Deltas) -> Deltas:
        return {"rare": ["w"], "often": ["w"]}

    driver = ScriptRunner(line_of(("a", node), ("b", node), state=Deltas), saver)
    await driver.invoke({"rare": ["w"], "often": ["w"]}, thread("deltas"))
    sql("UPDATE session_writes SET data = :junk WHERE channel = 'rare'", junk=b"\x07")
    history = await saver.ahistory("deltas")

    diff = await saver.adiff("deltas", history[1].checkpoint_id)

    assert "after: cannot be decoded: the write of task" in str(diff["rare"].note)
    assert [change.kind for change in diff["often"].changes] == ["appended"]


# -- nothing is imported ------------------------------------------------------------------------


async def test_a_stored_type_is_named_and_never_imported(
    saver: SessionSaver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.modules.pop("somebody_elses", None)
    module = tmp_path / "somebody_elses.py"
    module.write_text(
        "from dataclasses import dataclass\n"
        "@dataclass\nclass Thing:\n    name: str\n    size: int\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    thing = importlib.import_module("somebody_elses").Thing
    await save(saver, "1", None, thing=thing("a", 1))
    await save(saver, "2", "1", thing=thing("a", 2), other=thing("b", 3))
    module.write_text("raise SystemExit('imported')\n")
    del sys.modules["somebody_elses"]
    importlib.invalidate_caches()

    await saver.ahistory("tree")
    diff = await saver.adiff("tree", an_id("1"))

    assert diff["other"].value == {"$type": "somebody_elses.Thing", "name": "b", "size": 3}
    assert [(c.path, c.before, c.after, c.by) for c in diff["thing"].changes] == [
        ("size", 1, 2, 1.0)
    ]
    assert "Thing(name='b', size=3)" in str(diff)
    assert "somebody_elses" not in sys.modules


async def test_an_encrypted_thread_is_shown_only_with_its_key(make_saver: SaverFactory) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    saver = make_saver(serde=serde)
    await ScriptRunner(ASKING, saver).invoke({"score": 1.0}, thread("secret"))

    history = await saver.ahistory("secret")
    diff = await saver.adiff("secret", history[-1].checkpoint_id)
    stranger = await make_saver().ahistory("secret")

    assert (history[0].status, history[0].nodes) == ("interrupted", ("ask",))
    assert diff["score"].value == 3.5
    assert [e.checkpoint_id for e in stranger] == [e.checkpoint_id for e in history]
    assert {e.status for e in stranger} == {"unknown"}
    assert "encrypted (msgpack+aes)" in str(stranger[0].problem)
    assert "cannot be" in str(stranger)
    with pytest.raises(CorruptBlobError, match="encrypted"):
        await make_saver().adiff("secret", history[-1].checkpoint_id)


async def test_a_value_that_cannot_be_decoded_is_shown_as_such(
    saver: SessionSaver, sql: Sql
) -> None:
    await save(saver, "1", None, good=1, bad=[1], raw=[1], odd=[1])
    await save(saver, "2", "1", good=2, bad=[2], raw=[2], odd=[2])
    sql("UPDATE session_blobs SET type = 'pickle' WHERE channel = 'bad'")
    sql("UPDATE session_blobs SET data = :junk WHERE channel = 'raw'", junk=b"\x00\xc1\xc1")
    sql("UPDATE session_blobs SET data = :junk WHERE channel = 'odd'", junk=b"\x07")

    history = await saver.ahistory("tree")
    diff = await saver.adiff("tree", an_id("1"))

    assert len(history) == 2
    assert diff["good"].changes[0].by == 1.0
    for channel in ("bad", "raw", "odd"):
        assert "cannot be decoded: " in str(diff[channel].note)
    assert "'pickle'" in str(diff["bad"].note)
    assert str(diff).count("cannot be decoded") == 6


async def test_an_undecodable_checkpoint_is_shown_among_the_others(
    saver: SessionSaver, sql: Sql
) -> None:
    await save_tree(saver)
    sql(
        "UPDATE session_checkpoints SET data = :junk WHERE checkpoint_id = :id",
        junk=b"\x00\xc1",
        id=an_id("4"),
    )

    history = await saver.ahistory("tree")

    problems = {e.checkpoint_id[-1]: e.problem for e in history if e.problem}
    assert problems.keys() == {"4"}
    assert "cannot be decoded" in problems["4"]
    assert history[4].step == 4
    assert len(str(history).splitlines()) == 13


# -- printing -------------------------------------------------------------------------------------

NASTY = "<script>alert('x')</script>\x1b[31m\"&"


class Tags(HTMLParser):
    """The elements of some HTML, and what it leaves open."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.names.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_html(text: str) -> None:
    tags = Tags()
    tags.feed(text)
    tags.close()
    assert not tags.open
    assert tags.names <= {
        "style", "div", "p", "table", "thead", "tbody", "tr", "th", "td", "pre", "code",
    }  # fmt: skip
    assert "<script" not in text
    assert "\x1b" not in text


async def test_untrusted_state_is_harmless_in_html_and_in_a_terminal(saver: SessionSaver) -> None:
    def speaks(state: Any) -> Any:
        return {"words": [NASTY], "page": NASTY * 9, "facts": {NASTY: NASTY}}

    driver = ScriptRunner(line_of((NASTY.replace(":", ""), speaks), state=Chat), saver)
    await driver.invoke({"words": [NASTY], "page": "x" * 99}, thread(NASTY))
    history = await saver.ahistory(NASTY)
    diff = await saver.adiff(NASTY, history[1].checkpoint_id)

    for shown in (history, diff):
        check_html(shown._repr_html_())
        assert "\x1b" not in str(shown)
    assert "&lt;script&gt;" in history._repr_html_()
    assert "&lt;script&gt;" in diff._repr_html_()


async def test_everything_is_available_as_plain_data(saver: SessionSaver) -> None:
    await ScriptRunner(ASKING, saver).invoke({"score": 1.0}, thread("data"))
    history = await saver.ahistory("data", limit=1)

    plain = json.loads(json.dumps(history.to_dict()))

    assert plain["entries"][0]["status"] == "interrupted"
    assert plain["older"]["checkpoint_id"] == history[0].checkpoint_id
    assert str(history.older) == history[0].checkpoint_id


# -- bad input ------------------------------------------------------------------------------------


async def test_a_thread_that_does_not_exist_raises(saver: SessionSaver) -> None:
    with pytest.raises(ThreadNotFoundError, match="there is no thread 'none'") as caught:
        await saver.ahistory("none")
    assert isinstance(caught.value, LookupError)
    assert isinstance(caught.value, SessionSaverError)
    with pytest.raises(ThreadNotFoundError, match="there is no thread 'none'"):
        await saver.ahistory("none", before="1")
    with pytest.raises(ThreadNotFoundError, match="there is no thread 'none'"):
        await saver.adiff("none", "1")


async def test_a_namespace_without_checkpoints_names_those_that_have(saver: SessionSaver) -> None:
    await save_tree(saver)
    with pytest.raises(CheckpointNotFoundError, match=r"'inner': it has checkpoints in ''"):
        await saver.ahistory("tree", checkpoint_ns="inner")


async def test_a_page_before_the_first_checkpoint_is_empty(saver: SessionSaver) -> None:
    await save_tree(saver)
    history = await saver.ahistory("tree", before=an_id("1"))
    assert (len(history), history.older) == (0, None)
    assert str(history) == "thread 'tree': 0 checkpoints, newest first"
    check_html(history._repr_html_())


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "5", None, 1_001])
async def test_an_invalid_limit_is_refused(saver: SessionSaver, limit: Any) -> None:
    with pytest.raises(InvalidConfigError, match="limit is"):
        await saver.ahistory("tree", limit=limit)


@pytest.mark.parametrize("before", ["", 5, Older("")])
async def test_an_invalid_before_is_refused(saver: SessionSaver, before: Any) -> None:
    with pytest.raises(InvalidConfigError, match="before is"):
        await saver.ahistory("tree", before=before)


async def test_a_checkpoint_of_another_thread_raises(saver: SessionSaver) -> None:
    await ScriptRunner(ASKING, saver).invoke({"score": 1.0}, thread("mine"))
    await ScriptRunner(ASKING, saver).invoke({"score": 1.0}, thread("theirs"))
    mine, theirs = await saver.ahistory("mine"), await saver.ahistory("theirs")

    with pytest.raises(
        CheckpointNotFoundError, match=r"b: .* belongs to another thread than thread 'mine'"
    ):
        await saver.adiff("mine", mine[0].checkpoint_id, theirs[0].checkpoint_id)
    with pytest.raises(CheckpointNotFoundError, match=r"a: .* has no checkpoint"):
        await saver.adiff("mine", "f" * 36)
    with pytest.raises(CheckpointNotFoundError, match=r"a: .* has no checkpoint"):
        await saver.adiff("mine", "zz")


async def test_an_ambiguous_checkpoint_prefix_is_refused(saver: SessionSaver) -> None:
    await save_tree(saver)
    with pytest.raises(InvalidConfigError, match=r"several checkpoints .* start with it"):
        await saver.adiff("tree", an_id("1")[:-1])


@pytest.mark.parametrize("a", [None, "", 5, "nul\x00", "\ud800"])
async def test_an_invalid_id_is_refused(saver: SessionSaver, a: Any) -> None:
    with pytest.raises(InvalidConfigError):
        await saver.adiff("tree", a)

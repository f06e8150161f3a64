"""Importing from other savers: threads continue here with their whole history."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.errors import ThreadNotFoundError, ValueTooLargeError, WrongFaceError
from langgraph_session_saver.transfer import Imported, Progress
from tests.conftest import MakeBackend
from tests.support.backends import EACH_ONCE, Backend
from tests.support.compare import comparable
from tests.support.forwarding import ForwardingSaver
from tests.support.graphs import DELTA, Log, ask, line_of, nested, says, thread
from tests.support.houses import RECORDS, everything
from tests.support.peers import (
    BACKEND_OF,
    PEER_NAMES,
    Numbered,
    PeerName,
    opened_async_peer,
    opened_peer,
)
from tests.support.rows import chain, config
from tests.support.savers import SaverFactory
from tests.support.zygote import Zygote

BACKENDS_AND_FACES = EACH_ONCE

ASKED = line_of(("say", says("said")), ("ask", ask("how many?")), ("end", says("done")))


def fan_out() -> Any:
    """A fan-out in which two tasks finish, one asks and one fails; a resume finishes all."""
    failures = iter([True])

    def fails(_state: Log) -> Log:
        if next(failures, False):
            raise RuntimeError("the oven is cold")
        return {"log": ["d"]}

    builder: Any = StateGraph(Log)
    nodes = {"c": says("c"), "b": says("b"), "a": ask("how many?"), "d": fails}
    for name, node in nodes.items():
        builder.add_node(name, _counted(node))
        builder.add_edge(START, name)
    return builder


def _counted(node: Any) -> Any:
    def run(state: Log) -> Log:
        return {"log": node(state)["log"]}

    return run


def furnish(peer: BaseCheckpointSaver[Any]) -> None:
    """Create finished, interrupted and failed threads, with subgraphs, forks and delta channels."""
    asked = ASKED.compile(checkpointer=peer)
    asked.invoke({"log": []}, thread("asked"))
    nested(None).compile(checkpointer=peer).invoke({"log": []}, thread("nested"))
    parallel = fan_out().compile(checkpointer=peer)
    with pytest.raises(RuntimeError, match="oven"):
        # In turn: a failing task cancels those that are not done.
        parallel.invoke({"log": []}, {**thread("parallel"), "max_concurrency": 1})
    written = chain(peer, {"title": "Bakery", "note": "x"}, {"build_status": "success"})
    written.invoke({"messages": [HumanMessage("A page, please", id="m1")]}, config("written"))
    forks = line_of(("one", says("one")), ("two", says("two"))).compile(checkpointer=peer)
    forks.invoke({"log": []}, thread("forked"))
    middle = list(forks.get_state_history(thread("forked")))[1].config
    for branch in ("left", "right"):
        forks.invoke(None, forks.update_state(middle, {"log": [branch]}))


def history(saver: BaseCheckpointSaver[Any]) -> dict[str, list[Any]]:
    """Every checkpoint of every thread, oldest first."""
    found: dict[str, list[Any]] = {}
    for one in saver.list(None):
        found.setdefault(one.config["configurable"]["thread_id"], []).append(comparable(one))
    return {name: sorted(all_, key=lambda c: str(c["config"])) for name, all_ in found.items()}


@pytest.fixture(scope="module", params=PEER_NAMES)
def peer_name(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def peer(peer_name: PeerName, make_lasting_backend: MakeBackend) -> Any:
    """Each official saver with threads. Tests must not change it."""
    with opened_peer(peer_name, make_lasting_backend(BACKEND_OF[peer_name])) as saver:
        furnish(saver)
        yield saver


@pytest.fixture
def ours(make_backend: MakeBackend) -> Any:
    """A saver over an empty SQLite database."""
    with SessionSaver.from_conn_string(make_backend("sqlite").url) as saver:
        yield saver


@pytest.fixture
def memory() -> InMemorySaver:
    """An `InMemorySaver` with threads."""
    saver = InMemorySaver()
    furnish(saver)
    return saver


# -- what comes over ------------------------------------------------------------------------------


def test_every_checkpoint_is_imported_unchanged(
    peer: BaseCheckpointSaver[Any], ours: SessionSaver
) -> None:
    """With values, metadata, parent and writes in order, in every namespace."""
    done = ours.import_from(peer)

    there = history(peer)
    if type(peer).__name__ == "PyMySQLSaver":  # which returns writes in no order
        there = history(ours) if _sorted(there) == _sorted(history(ours)) else there
    assert history(ours) == there
    assert (done.threads, done.skipped) == (5, {})
    assert done.checkpoints == sum(len(found) for found in there.values())


def _sorted(found: dict[str, list[Any]]) -> Any:
    return {
        name: [{**one, "writes": sorted(one["writes"], key=repr)} for one in all_]
        for name, all_ in found.items()
    }


def test_an_interrupted_thread_resumes_after_the_import(
    peer: BaseCheckpointSaver[Any], ours: SessionSaver
) -> None:
    ours.import_from(peer)
    answer: Any = Command(resume="three")
    expected = {
        "asked": (ASKED, ["said", "how many? three", "done"]),
        "nested": (nested(None), ["prepared", "deep? three", "told"]),
    }
    for name, (builder, log) in expected.items():
        found = builder.compile(checkpointer=ours).invoke(answer, thread(name))
        assert [word for word in log if word in found["log"]] == log


def test_finished_tasks_do_not_run_again_after_the_import(ours: SessionSaver) -> None:
    runs = []

    def done(_state: Log) -> Log:
        runs.append("done")
        return {"log": ["done"]}

    builder: Any = StateGraph(Log)
    builder.add_node("done", done)
    builder.add_node("asks", ask("how many?"))
    builder.add_edge(START, "done")
    builder.add_edge(START, "asks")
    peer = InMemorySaver()
    builder.compile(checkpointer=peer).invoke({"log": []}, thread("t"))
    ours.import_from(peer)

    state = builder.compile(checkpointer=ours).invoke(Command(resume="3"), thread("t"))

    assert runs == ["done"]
    assert sorted(state["log"]) == ["done", "how many? 3"]


def test_every_imported_checkpoint_can_be_resumed_from(
    memory: InMemorySaver, ours: SessionSaver
) -> None:
    ours.import_from(memory)
    graph = line_of(("one", says("one")), ("two", says("two"))).compile(checkpointer=ours)
    for state in list(graph.get_state_history(thread("forked"))):
        if state.next:
            replayed = graph.invoke(None, state.config)
            assert replayed["log"][: len(state.values["log"])] == state.values["log"]


def test_the_projected_rows_are_those_of_a_native_run(
    memory: InMemorySaver, backend: Backend
) -> None:
    with SessionSaver.from_conn_string(backend.url) as ours:
        ours.import_from(memory)

    rows = everything(backend)
    [columns] = [records.columns for records in RECORDS if records.name == "session_threads"]
    at = columns.index("status")
    status = {row[1]: row[at] for row in rows["session_threads"]}
    assert [row[1] for row in rows["sessions"] if row[0] == "written"] == ["Bakery"]
    assert [row[3] for row in rows["messages"]] == ["A page, please"]
    assert status == {
        "asked": "interrupted", "nested": "interrupted", "parallel": "error",
        "written": "done", "forked": "done",
    }  # fmt: skip
    failed = [row for row in rows["session_errors"] if row[4] == "parallel"]
    assert ("error", "d") in {(row[9], row[10]) for row in failed}


def test_an_imported_delta_channel_has_its_values_and_continues(
    peer_name: PeerName, make_backend: MakeBackend, ours: SessionSaver
) -> None:
    with opened_peer(peer_name, make_backend(BACKEND_OF[peer_name])) as peer:
        there, here = DELTA.compile(checkpointer=peer), DELTA.compile(checkpointer=ours)
        for _ in range(3):
            there.invoke({"items": ["in"], "rare": ["in"]}, thread("t"))

        ours.import_from(peer)

        for graph in (there, here):
            graph.invoke({"items": ["more"]}, thread("t"))
        assert here.get_state(thread("t")).values == there.get_state(thread("t")).values
        states = [[s.values for s in g.get_state_history(thread("t"))] for g in (there, here)]
        assert states[0] == states[1]


# -- versions and order ---------------------------------------------------------------------------


def test_forks_with_the_same_version_numbers_keep_separate_values(
    make_backend: MakeBackend, ours: SessionSaver
) -> None:
    path = str(make_backend("sqlite").path)
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        peer = Numbered(connection)
        furnish(peer)

        ours.import_from(peer)

        for name, there in history(peer).items():
            here = history(ours)[name]
            assert [_without_versions(one) for one in here] == [
                _without_versions(one) for one in there
            ]
            assert [_numbers(one) for one in here] == [_numbers(one) for one in there]
        resumed = [
            ASKED.compile(checkpointer=saver).invoke(Command(resume="three"), thread("asked"))
            for saver in (peer, ours)
        ]
        assert resumed[0] == resumed[1]
    versions = [
        one["checkpoint"]["channel_versions"].get("log", "") for one in history(ours)["forked"]
    ]
    assert len(set(versions)) > len({version.partition(".")[0] for version in versions})


def _without_versions(one: Any) -> Any:
    names = ("channel_versions", "versions_seen")
    return {
        **one, "checkpoint": {k: v for k, v in one["checkpoint"].items() if k not in names},
    }  # fmt: skip


def _numbers(one: Any) -> Any:
    """The counters of a checkpoint's versions, ours or plain."""

    def number(version: Any) -> int:
        return int(str(version).partition(".")[0])

    found = one["checkpoint"]
    channels = {channel: number(v) for channel, v in found["channel_versions"].items()}
    seen = {
        node: {channel: number(v) for channel, v in versions.items()}
        for node, versions in found["versions_seen"].items()
    }
    return channels, seen


def test_task_paths_of_the_other_saver_are_kept(
    peer: BaseCheckpointSaver[Any], ours: SessionSaver
) -> None:
    ours.import_from(peer)
    engine = ours._runner.sync_engine
    with engine.connect() as conn:
        paths = conn.exec_driver_sql("SELECT task_path FROM session_writes").scalars().all()
    assert "~__pregel_pull, b" in paths
    assert not [path for path in paths if path.isdecimal()]


def test_writes_of_an_unknown_saver_keep_their_order(
    memory: InMemorySaver, ours: SessionSaver
) -> None:
    ours.import_from(ForwardingSaver(memory))
    assert history(ours) == history(memory)


# -- again ----------------------------------------------------------------------------------------


def test_importing_twice_changes_nothing(
    peer: BaseCheckpointSaver[Any], make_backend: MakeBackend
) -> None:
    backend = make_backend("sqlite")
    with SessionSaver.from_conn_string(backend.url) as ours:
        first = ours.import_from(peer)
        before = everything(backend)

        assert ours.import_from(peer) == Imported(threads=5, kept=first.checkpoints)
    assert everything(backend) == before


def test_importing_again_adds_what_the_other_saver_got_since(ours: SessionSaver) -> None:
    peer = InMemorySaver()
    graph = ASKED.compile(checkpointer=peer)
    graph.invoke({"log": []}, thread("asked"))
    ours.import_from(peer)
    graph.invoke(Command(resume="three"), thread("asked"))

    done = ours.import_from(peer)

    assert done.checkpoints > 0
    assert history(ours) == history(peer)


def test_a_thread_that_continued_here_is_not_changed(
    memory: InMemorySaver, ours: SessionSaver
) -> None:
    ours.import_from(memory)
    ASKED.compile(checkpointer=ours).invoke(Command(resume="three"), thread("asked"))
    before = history(ours)

    done = ours.import_from(memory)

    assert history(ours) == before
    assert list(done.skipped) == ["asked"]
    assert "checkpoints here that the other saver has not" in done.skipped["asked"]


def test_a_different_thread_with_the_same_id_is_not_changed(
    memory: InMemorySaver, ours: SessionSaver
) -> None:
    chain(ours, {"note": "mine"}).invoke({"note": "x"}, config("written"))
    before = history(ours)["written"]

    done = ours.import_from(memory)

    assert list(done.skipped) == ["written"]
    assert history(ours)["written"] == before
    assert done.threads == 4


def test_a_killed_import_continues(
    make_backend: MakeBackend, backend: Backend, zygote: Zygote
) -> None:
    path = str(make_backend("sqlite").path)
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        peer = SqliteSaver(connection)
        furnish(peer)
        child = zygote.spawn(
            "tests.transfer.test_importing:import_and_tell", {"path": path, "url": backend.url}
        )
        child.wait_for("imported 9")
        child.kill()
        assert child.wait() == -signal.SIGKILL

        with SessionSaver.from_conn_string(backend.url) as ours:
            done = ours.import_from(peer)

            assert done.kept >= 9
            assert history(ours) == history(peer)


def import_and_tell(path: str, url: str) -> None:
    """Import a SqliteSaver's file and print each checkpoint. Runs in a process."""

    def tell(progress: Progress) -> None:
        print("imported", progress.done, flush=True)
        if progress.done == 12:
            signal.pause()

    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        SessionSaver.from_conn_string(url).import_from(SqliteSaver(connection), tell)


def test_keep_last_applies_to_imported_threads(
    memory: InMemorySaver, make_backend: MakeBackend
) -> None:
    backend = make_backend("sqlite")
    with SessionSaver.from_conn_string(backend.url, keep_last=2) as ours:
        ours.import_from(memory)
        roots = {
            name: [c for c in all_ if not c["config"][1]] for name, all_ in history(ours).items()
        }
        there = {
            name: [c for c in all_ if not c["config"][1]] for name, all_ in history(memory).items()
        }
        assert roots == {name: all_[-2:] for name, all_ in there.items()}
        before = everything(backend)
        ours.import_from(memory)
    assert everything(backend) == before


# -- what is odd ----------------------------------------------------------------------------------


def test_a_pruned_parent_is_still_named(ours: SessionSaver) -> None:
    peer = InMemorySaver()
    furnish(peer)
    for names in peer.storage["forked"].values():
        del names[min(names)]

    ours.import_from(peer, thread_ids=["forked"])

    assert history(ours)["forked"] == history(peer)["forked"]


def test_a_value_over_the_limit_of_the_database_is_reported(
    memory: InMemorySaver, make_backend: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = make_backend("sqlite")
    SessionSaver(backend.engine()).setup()
    with SessionSaver(backend.engine()) as ours:
        monkeypatch.setattr(ours._context.dialect, "value_limit", lambda _conn: 20)
        with pytest.raises(ValueTooLargeError, match="takes at most 20"):
            ours.import_from(memory)


def test_only_the_named_threads_are_imported(memory: InMemorySaver, ours: SessionSaver) -> None:
    told: list[Progress] = []

    ours.import_from(memory, told.append, thread_ids=["asked", "written"])

    assert sorted(history(ours)) == ["asked", "written"]
    total = sum(len(found) for found in history(ours).values())
    assert (told[-1].done, told[-1].total) == (total, total)


def test_a_thread_that_the_other_saver_lacks_is_reported(
    memory: InMemorySaver, ours: SessionSaver
) -> None:
    with pytest.raises(ThreadNotFoundError, match="InMemorySaver has no thread 'none'"):
        ours.import_from(memory, thread_ids=["none"])


def test_threads_of_another_session_saver_are_imported(
    memory: InMemorySaver, ours: SessionSaver, make_backend: MakeBackend
) -> None:
    with SessionSaver.from_conn_string(make_backend("sqlite").url) as other:
        other.import_from(memory)
        ours.import_from(other)
    assert history(ours) == history(memory)


# -- faces ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sqlite", "postgres"])
async def test_async_savers_are_read_by_the_async_method(
    name: Any, make_backend: MakeBackend, make_saver: SaverFactory
) -> None:
    backend = make_backend(BACKEND_OF[name])
    with opened_peer(name, backend) as peer:
        furnish(peer)
        there = history(peer)
    saver = make_saver()

    async with opened_async_peer(name, backend) as other:
        if make_saver.face == "sync":  # which calls import_from
            with pytest.raises(WrongFaceError, match="call aimport_from in place of import_from"):
                await saver.aimport_from(other)
            return
        done = await saver.aimport_from(other)

    assert done.checkpoints == sum(len(found) for found in there.values())
    found = [comparable(one) async for one in saver.alist(thread("parallel"))]
    assert sorted(found, key=lambda c: str(c["config"])) == there["parallel"]


async def test_sync_savers_are_read_on_every_face(
    memory: InMemorySaver, make_saver: SaverFactory
) -> None:
    saver = make_saver()
    await saver.aimport_from(memory)
    found = [comparable(one) async for one in saver.alist(thread("nested"))]
    assert sorted(found, key=lambda c: str(c["config"])) == history(memory)["nested"]

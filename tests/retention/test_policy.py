"""The pure retention policy: which checkpoints of a history are kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langgraph_session_saver.encoding.references import References
from langgraph_session_saver.retention.lineage import Origin, Stored, caller_of, origin_of
from langgraph_session_saver.retention.policy import (
    keep_last,
    keep_last_and_running,
    keep_latest,
    keep_since,
)


def stored(
    name: int,
    ns: str = "",
    parent: int | None = None,
    root: int | None = None,
    *,
    is_hidden: bool = False,
    caller: tuple[str, str] | None = None,
    replayed: Iterable[str] = (),
    valued: Iterable[str] = (),
) -> Stored:
    """A checkpoint as retention sees it."""
    ts = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=name)).isoformat()
    return Stored(
        ns_key=ns.encode(),
        checkpoint_id=f"{name:04}",
        checkpoint_ns=ns,
        parent_id=None if parent is None else f"{parent:04}",
        root_id=None if root is None else f"{root:04}",
        run_id=None,
        is_hidden=is_hidden,
        refs=References(ts, tuple(replayed), dict.fromkeys(valued, b""), caller),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Stored]:
    """A thread with forks, stateless and stateful subgraphs, and a replayed channel."""
    rows: list[Stored] = []
    roots: list[int] = []
    for name in range(1, draw(st.integers(1, 25)) + 1):
        kind = draw(st.sampled_from(["root", "root", "root", "call", "memory", "foreign"]))
        if kind == "root" or not roots:
            parent = draw(st.sampled_from([*roots[-1:] * 3, *roots])) if roots else None
            valued = frozenset({"delta"} if draw(st.integers(0, 3)) == 0 else ())
            replayed = frozenset({"delta"})
            rows.append(stored(name, parent=parent, replayed=replayed, valued=valued))
            roots.append(name)
        elif kind == "foreign":
            rows.append(stored(name, "foreign"))
        else:
            root = draw(st.sampled_from([*roots[-1:] * 3, *roots]))
            ns = "memory" if kind == "memory" else f"call:{root}"
            rows.append(stored(name, ns, root=root))
    order: list[Stored] = draw(st.permutations(rows))
    return list(order)


pure = settings(max_examples=150, derandomize=True, deadline=None, database=None)


def newest_roots(rows: list[Stored], count: int) -> list[str]:
    names = (row.checkpoint_id for row in rows if not row.checkpoint_ns and not row.is_hidden)
    return sorted(names, reverse=True)[:count]


@pure
@given(histories(), st.integers(1, 8))
def test_the_kept_roots_are_the_newest(rows: list[Stored], count: int) -> None:
    kept = keep_last(rows, count).kept

    assert newest_roots(list(kept), 100) == newest_roots(rows, count)


@pure
@given(histories(), st.integers(1, 8))
def test_everything_that_started_from_a_kept_root_stays(rows: list[Stored], count: int) -> None:
    kept = keep_last(rows, count).kept
    roots = set(newest_roots(rows, count))

    assert {row for row in rows if row.root_id in roots} <= kept


@pure
@given(histories(), st.integers(1, 8))
def test_the_newest_stateful_subgraph_checkpoint_before_each_kept_root_stays(
    rows: list[Stored], count: int
) -> None:
    kept = keep_last(rows, count).kept
    memories = sorted(row.checkpoint_id for row in rows if row.checkpoint_ns == "memory")
    kept_ids = {row.checkpoint_id for row in kept}

    for root in newest_roots(rows, count):
        before = [name for name in memories if name < root]
        assert set(before[-1:]) <= kept_ids


@pure
@given(histories(), st.integers(1, 8))
def test_the_ancestors_that_a_delta_channel_needs_stay(rows: list[Stored], count: int) -> None:
    kept, hidden = keep_last(rows, count)
    by_name = {row.checkpoint_id: row for row in rows if not row.checkpoint_ns}

    assert not kept & hidden
    for row in kept:
        at = row
        while (
            at.references.replayed
            and "delta" not in at.references.blobs
            and at.parent_id is not None
        ):
            at = by_name[at.parent_id]
            assert at in kept | hidden


@pure
@given(histories(), st.integers(1, 8))
def test_subgraph_calls_older_than_the_oldest_kept_root_are_removed(
    rows: list[Stored], count: int
) -> None:
    kept = keep_last(rows, count).kept
    oldest = newest_roots(rows, count)[-1]

    calls = [row for row in kept if row.checkpoint_ns.startswith("call:")]
    assert all(str(row.root_id) >= oldest for row in calls)
    assert sum(row.checkpoint_ns == "foreign" for row in kept) <= count


def test_a_subgraph_call_stays_as_long_as_its_caller() -> None:
    waiting = stored(2, "memory", root=1)
    call = stored(3, "memory|call:a", root=1, caller=("memory", "0002"))
    deeper = stored(4, "memory|call:a|call:b", root=1, caller=("memory|call:a", "0003"))
    other = stored(5, "memory|call:c", root=1, caller=("memory", "0001"))
    rows = [stored(1), waiting, call, deeper, other, stored(6, parent=1)]

    assert keep_last(rows, 1).kept == {rows[-1], waiting, call, deeper}
    moved_on = stored(7, "memory", root=6)
    assert keep_last([*rows, moved_on, stored(8, parent=6)], 1).kept == {
        waiting, call, deeper, moved_on, stored(8),
    }  # fmt: skip
    assert keep_last([*rows, moved_on, stored(8, parent=6), stored(9, parent=8)], 1).kept == {
        moved_on, stored(9),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("namespace", "caller"),
    [
        ("", None),
        ("node:a", ("", "r")),
        ("node:a|1", ("", "r")),
        ("memory", ("", "r")),
        ("memory|node:a", ("memory", "m")),
        ("memory|node:a|2|node:b", ("memory|node:a|2", "n")),
        ("elsewhere|node:a", None),
    ],
)
def test_the_caller_is_the_parent_in_the_enclosing_namespace(namespace: str, caller: Any) -> None:
    parents = {"": "r", "memory": "m", "memory|node:a|2": "n", "memory|node:a": "o"}

    assert caller_of(namespace, {"parents": parents}) == caller
    assert caller_of(namespace, {}) is None


def origins(*made: tuple[str, str, int]) -> list[Origin]:
    """Origins of root checkpoints 1, 2 …, each given by its parent, source and step."""
    known: dict[str, Origin] = {}
    for number, (parent, source, step) in enumerate(made, 1):
        about = {"source": source, "step": step}
        known[f"{number}"] = origin_of(f"{number}", parent or None, about, known.get(parent))
    return list(known.values())


def test_a_run_from_the_newest_checkpoint_needs_no_earlier_subgraph_state() -> None:
    found = origins(("", "input", -1), ("1", "loop", 0), ("2", "input", 1), ("3", "loop", 2))

    assert [origin.run for origin in found] == [None] * 4
    assert [origin.replay for origin in found] == ["1", "2", "3", "4"]


def test_every_step_of_a_replay_refers_to_the_checkpoint_it_started_from() -> None:
    found = origins(("", "input", -1), ("1", "loop", 0), ("1", "fork", 0), ("3", "loop", 1))

    assert [origin.run for origin in found[2:]] == ["1", "1"]
    assert [origin.replay for origin in found[2:]] == ["1", "4"]


def test_a_replay_of_a_manual_update_refers_to_the_updated_checkpoint() -> None:
    found = origins(("", "loop", 0), ("1", "update", 1), ("2", "fork", 2), ("3", "loop", 3))

    assert [origin.run for origin in found] == [None, "1", "1", "1"]
    assert found[1].replay == "1"


def test_a_copied_checkpoint_refers_to_the_parent_of_its_original() -> None:
    found = origins(("", "loop", 0), ("1", "update", 1), ("2", "loop", 2), ("2", "fork", 3))

    assert (found[3].run, found[3].replay) == ("2", "2")


@pure
@given(histories(), st.integers(1, 8))
def test_keep_last_is_idempotent(rows: list[Stored], count: int) -> None:
    kept, hidden = keep_last(rows, count)
    left = [*kept, *(replace(row, is_hidden=True) for row in hidden)]

    assert keep_last(left, count) == (kept, hidden)


@pure
@given(histories(), st.integers(1, 8))
def test_keeping_fewer_keeps_a_subset(rows: list[Stored], count: int) -> None:
    more, fewer = keep_last(rows, count + 1), keep_last(rows, count)

    roots = {row for row in fewer.kept if not row.checkpoint_ns}
    assert roots <= more.kept
    assert keep_latest(rows).kept <= keep_last(rows, 1).kept


@pure
@given(histories(), st.integers(-1, 30))
def test_keeping_by_age_keeps_the_newest_root_and_all_young_ones(
    rows: list[Stored], day: int
) -> None:
    cutoff = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)
    roots = newest_roots(rows, 100)
    young = [name for name in roots if int(name) >= day]

    assert newest_roots(list(keep_since(rows, cutoff).kept), 100) == (young or roots[:1])


def due(name: int, parent: int) -> Stored:
    """The last checkpoint of a run that goes on."""
    return stored(name, parent=parent, valued={"branch:to:node"})


def within_an_hour(rows: Iterable[Stored]) -> list[Stored]:
    """The same checkpoints, all made at one time."""
    return [replace(row, refs=row.references._replace(ts=stored(1).references.ts)) for row in rows]


def test_the_end_of_each_overtaken_run_stays_with_the_subgraph_calls_of_its_next_step() -> None:
    call = stored(3, "call:a", root=2)
    rows = within_an_hour([stored(1), due(2, 1), call, stored(4, parent=1)])

    kept, hidden = keep_last_and_running(rows, 1)

    assert (kept, hidden) == ({stored(4)}, {stored(2), call})


def test_an_input_to_a_running_thread_does_not_continue_the_run() -> None:
    second_input = stored(3, parent=2, valued={"__start__"})
    rows = within_an_hour([stored(1), due(2, 1), second_input, stored(4, parent=3)])

    assert keep_last_and_running(rows, 1).hidden == {stored(2)}
    continued = within_an_hour([*rows, stored(5, parent=2)])
    assert keep_last_and_running(continued, 1) == ({stored(5)}, set())


def test_the_ends_of_sixteen_overtaken_runs_stay_and_none_longer_than_an_hour() -> None:
    rows = [stored(1), *(due(name, 1) for name in range(2, 42)), stored(50, parent=1)]

    assert {row.checkpoint_id for row in keep_last_and_running(within_an_hour(rows), 1).hidden} == {
        f"{name:04}" for name in range(26, 42)
    }
    assert keep_last_and_running(rows, 1).hidden == set()

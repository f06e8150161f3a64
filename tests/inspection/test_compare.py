"""Decoded values: how they are compared and shown."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Send

from langgraph_session_saver.inspection import compare as compare_module
from langgraph_session_saver.inspection.compare import (
    DEEPEST,
    MOST_CHANGES,
    MOST_MATCHED,
    Change,
    Work,
    _hash,
    _is_same,
    compare,
)
from langgraph_session_saver.inspection.decode import Decoder, Undecodable, replay
from langgraph_session_saver.inspection.diff import ChannelDiff, Diff
from langgraph_session_saver.inspection.text import brief, format_bytes
from tests.support.limits import limit_memory, limit_time
from tests.support.zygote import Zygote

SERDE = JsonPlusSerializer()
DECODER = Decoder(SERDE)

HARD_SECONDS = 30
"""Of processor time: several times what it takes."""


@pytest.fixture(scope="module")
def limited() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float


def decoded(value: Any) -> Any:
    return DECODER.loads_typed(SERDE.dumps_typed(value))


def said(before: Any, after: Any) -> list[tuple[str, str]]:
    return [(change.kind, change.path) for change in compare(before, after)[0]]


# -- decoding ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (b"\x00\x01", b"\x00\x01"),
        ({"a": [1, 2.5, "x", None, True]}, {"a": [1, 2.5, "x", None, True]}),
        (Point(1, 2.0), {"$type": f"{__name__}.Point", "x": 1, "y": 2.0}),
        (Colour.RED, {"$type": f"{__name__}.Colour", "value": "red"}),
        (Decimal("1.50"), {"$type": "decimal.Decimal", "value": "1.50"}),
        (UUID(int=1), {"$type": "uuid.UUID", "value": "0" * 31 + "1"}),
        ({"only"}, {"$type": "builtins.set", "value": ["only"]}),
        (deque([1]), {"$type": "collections.deque", "value": [1]}),
        (date(2026, 1, 2), {"$type": "datetime.date", "args": [2026, 1, 2]}),
        (timedelta(days=1), {"$type": "datetime.timedelta", "args": [1, 0, 0]}),
        (
            datetime(2026, 1, 2, tzinfo=UTC),
            {"$type": "datetime.datetime", "value": "2026-01-02T00:00:00+00:00"},
        ),
        (Send("work", {"i": 1}), {"$type": "langgraph.types.Send", "args": ["work", {"i": 1}]}),
        (_DeltaSnapshot([1]), {"$type": "DeltaChannel snapshot", "value": [1]}),
    ],
)
def test_stored_types_become_plain_structures_that_name_them(value: Any, expected: Any) -> None:
    assert decoded(value) == expected


def test_a_message_is_decoded_with_its_fields() -> None:
    found = decoded([HumanMessage("hi", id="1")])[0]
    assert found["$type"] == "langchain_core.messages.human.HumanMessage"
    assert (found["content"], found["id"]) == ("hi", "1")


def test_an_array_is_named_by_its_shape_and_contents() -> None:
    packed = ormsgpack.packb(("<i4", [2, 2], "C", bytes(16)))
    found = DECODER.loads_typed(("msgpack", ormsgpack.packb(ormsgpack.Ext(6, packed))))
    assert (found["$type"], found["dtype"], found["shape"]) == ("numpy.ndarray", "<i4", [2, 2])


def test_old_json_is_decoded_without_reviving_anything() -> None:
    data = b'{"lc": 2, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "x"}}'
    assert DECODER.loads_typed(("json", data)) == {"$type": "os.system", "command": "x"}


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (("pickle", b"cos\nsystem\n(S'x'\ntR."), "'pickle'"),
        (("own", b""), "'own'"),
        (("msgpack+aes", b"xxx"), "encrypted"),
        (("msgpack", b"\xc1"), ""),
        (("json", b"{"), ""),
        (("msgpack", ormsgpack.packb(ormsgpack.Ext(5, b"\x01"))), ""),
    ],
)
def test_undecodable_values_give_the_reason(typed: tuple[str, bytes], reason: str) -> None:
    found = DECODER.loads_typed(typed)
    assert isinstance(found, Undecodable)
    assert reason in str(found)
    assert str(found).startswith("cannot be decoded: ")


def test_a_part_that_cannot_be_decoded_does_not_hide_the_others() -> None:
    data = ormsgpack.packb(["read", ormsgpack.Ext(5, b"\x01")])
    before, after = DECODER.loads_typed(("msgpack", data)), DECODER.loads_typed(("msgpack", data))

    assert brief(before).startswith("['read', <cannot be decoded: ")
    assert said(before, after) == [("edited", "[1]")]  # nobody knows whether they are equal


def test_too_deeply_nested_types_cannot_be_decoded() -> None:
    data = b"\xc0"
    for _ in range(500):
        data = ormsgpack.packb(ormsgpack.Ext(7, data))
    assert "nested too deeply" in str(DECODER.loads_typed(("msgpack", data)))


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_reported_as_undecodable(data: bytes) -> None:
    DECODER.loads_typed(("msgpack", data))


# -- comparing --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (1, 1, []),
        (1, True, [("changed", "")]),
        ([1], [True], [("edited", "[0]")]),
        (math.nan, math.nan, []),
        ("a", "b", [("changed", "")]),
        ({"a": 1}, {"a": 1, "b": 2}, [("added", "b")]),
        ({"a": 1, "b": 2}, {"a": 1}, [("removed", "b")]),
        ({"a b": {"c": 1}}, {"a b": {"c": 2}}, [("changed", "['a b'].c")]),
        ({1: "x"}, {1: "y"}, [("edited", "[1]")]),
        ([1, 2], [1, 2, 3, 4], [("appended", "[2]"), ("appended", "[3]")]),
        ([1, 2, 3], [1, 3], [("dropped", "[1]")]),
        ([1, 3], [1, 2, 3], [("inserted", "[1]")]),
        ([1, 2, 3], [1, 9, 3], [("edited", "[1]")]),
        ([], [1], [("appended", "[0]")]),
        ([1, 2, 3, 4], [2, 3, 4, 5, 6],
         [("dropped", "[0]"), ("appended", "[3]"), ("appended", "[4]")]),
        ([{"id": "a", "n": 1}, {"id": "b"}], [{"id": "b"}, {"id": "a", "n": 2}],
         [("changed", "[1].n"), ("reordered", "")]),
        ([{"id": 1}, {"id": 3}], [{"id": 1}, {"id": 2}, {"id": 3}], [("inserted", "[1]")]),
        ({"$type": "A", "x": 1}, {"$type": "B", "x": 1}, [("changed", "")]),
        ([1], {"a": 1}, [("changed", "")]),
    ],
)  # fmt: skip
def test_differences_are_listed_by_path(before: Any, after: Any, expected: Any) -> None:
    assert said(before, after) == expected


@pytest.mark.parametrize(
    ("before", "after", "by"),
    [
        (7, 10.5, 3.5),
        (0.1, 0.3, 0.2),
        (Decimal("1.10"), Decimal("1.05"), -0.05),
        (1, "1", None),
        (1.0, math.inf, None),
        (10**400, 1, None),
    ],
    ids=["up", "decimal", "stored Decimal", "text", "infinite", "too far"],
)
def test_differences_of_numbers_show_the_amount(before: Any, after: Any, by: float | None) -> None:
    if isinstance(before, Decimal):
        before, after = decoded(before), decoded(after)
    [change] = compare(before, after)[0]
    assert change.by == by


def test_a_snapshot_is_compared_by_its_value() -> None:
    assert said(decoded(_DeltaSnapshot(["a"])), ["a", "b"]) == [("appended", "[1]")]


def test_one_long_line_shows_the_place_that_changed() -> None:
    before = "word " * 10_000 + "old end"
    after = "word " * 10_000 + "new end"
    [change] = compare(before, after)[0]
    assert change.text is not None
    assert [line[:1] for line in change.text] == ["@", "-", "+"]
    assert change.text[1].endswith("word old end")
    assert all(len(line) < 200 for line in change.text)


def test_the_diff_of_a_rewritten_text_is_bounded() -> None:
    before = "\n".join(f"line {n}" for n in range(100_000))
    [change] = compare(before, before.replace("line", "row"))[0]
    assert change.text is not None
    assert len(change.text) == 201
    assert change.text[-1].endswith("more lines")


def test_changes_beyond_the_limit_are_counted() -> None:
    changes, more = compare({n: n for n in range(500)}, {n: n + 1 for n in range(500)})
    assert (len(changes), more) == (MOST_CHANGES, 500 - MOST_CHANGES)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(JSON, JSON)
def test_any_two_values_can_be_compared_and_shown(before: Any, after: Any) -> None:
    assert said(before, before) == []
    for change in compare(before, after)[0]:
        assert brief(change.before).isprintable()
        assert len(brief(change.after, 50)) <= 80


# -- replaying --------------------------------------------------------------------------------


def test_writes_are_combined_like_list_reducers_do() -> None:
    kind = "langchain_core.messages."
    one = {"$type": f"{kind}ai.AIMessage", "id": "1", "content": "a"}
    edited = one | {"content": "b"}
    gone = {"$type": f"{kind}modifier.RemoveMessage", "id": "1"}
    assert replay(["a"], [["b"], "c"]) == ["a", "b", "c"]
    assert replay(None, [[one], [edited]]) == [edited]
    assert replay([one], ["x", [gone]]) == ["x"]
    assert replay([1], [{"$type": "langgraph.types.Overwrite", "value": [2]}, [3]]) == [2, 3]
    assert replay({"a": 1}, ["w"]) == {"snapshot": {"a": 1}, "writes": ["w"]}


# -- showing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [(None, "?"), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_999, "1.0 MB"),
     (1_234_567, "1.2 MB"), (10**10, "10.0 GB"), (5 * 10**12, "5 TB")],
)  # fmt: skip
def test_byte_counts_are_short(size: int | None, expected: str) -> None:
    assert format_bytes(size) == expected


def test_values_are_shown_like_code_and_stay_short() -> None:
    assert brief(decoded(Point(1, 2.0))) == "Point(x=1, y=2.0)"
    assert brief(decoded(Decimal("1.5"))) == "Decimal('1.5')"
    assert brief(decoded(Send("w", 1))) == "Send('w', 1)"
    assert brief(decoded([HumanMessage("hi", id="1")])) == "[HumanMessage(content='hi', id='1')]"
    assert brief(b"\x00\xff") == "<2 bytes: 00 ff>"
    assert brief("x" * 10_000, 60).endswith("… (10,000 characters)")
    assert len(brief([list(range(1000))] * 1000, 60)) <= 60
    assert brief(decoded(Path("/a"))) == "PosixPath('/', 'a')"
    assert brief("\x1b[31m\u202e") == r"'\x1b[31m\u202e'"


def test_a_value_nested_too_deeply_for_python_is_cut() -> None:
    value: Any = 1
    for _ in range(5_000):
        value = [value]
    assert brief(value, 10_000).endswith("[[…")


# -- bounds -----------------------------------------------------------------------------------


class Counted(str):
    """A text that counts how often it is compared."""

    __slots__ = ()
    compared: ClassVar[int] = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str(self) == other

    def __hash__(self) -> int:
        return hash(str(self))


def test_items_with_long_equal_beginnings_are_compared_a_few_times_each() -> None:
    start = "x" * 20_000
    before = [Counted(f"{start}{n}") for n in range(MOST_MATCHED)]
    after = [Counted(f"{start}{n * 7}") for n in range(MOST_MATCHED - 1)]
    Counted.compared = 0

    changes, _ = compare(before, after)

    assert changes
    assert Counted.compared < 4 * MOST_MATCHED


def test_each_part_of_a_deep_value_is_compared_once_a_level() -> None:
    before: Any = Counted("x")
    after: Any = Counted("x")
    for _ in range(400):
        before, after = [before], [after]
    Counted.compared = 0

    assert said([before, 1], [after, 2]) == [("edited", "[1]")]
    assert Counted.compared <= 4


def test_only_listed_changes_of_text_have_a_diff() -> None:
    before = {f"k{n:04}": Counted("a line\n" * 50) for n in range(2 * MOST_CHANGES)}
    after = {key: Counted(f"{text}more") for key, text in before.items()}
    Counted.compared = 0

    changes, more = compare(before, after)

    assert (len(changes), more) == (MOST_CHANGES, MOST_CHANGES)
    assert all(change.text for change in changes)
    assert Counted.compared < 3 * len(before)


@given(JSON, JSON)
def test_values_that_are_the_same_have_the_same_hash(one: Any, other: Any) -> None:
    assert _is_same(one, deepcopy(one), Work())
    assert _hash(one, Work()) == _hash(deepcopy(one), Work())
    if _is_same(one, other, Work()):
        assert _hash(one, Work()) == _hash(other, Work())


# Two values each, which once took minutes or gigabytes to compare.


def colliding(n: int) -> list[float]:
    """One of many lists of numbers that have the same hash."""
    return [2.0 ** (61 * (n // 16**digit % 16)) for digit in range(3)]


def wide_and_deep(last: int) -> Any:
    value: Any = [*[0] * 300_000, last]
    for _ in range(DEEPEST + 9):
        value = [value]
    return value


def nested_keys(value: int) -> Any:
    inner: Any = {f"k{n}": n + value for n in range(20_000)}
    for n in range(8):
        inner = {f"{n}" * 500_000: inner}
    return inner


HARD: dict[str, Callable[[], tuple[Any, Any]]] = {
    "equal beginnings of equal hashes": lambda: (
        [[*[7] * 2_000, *colliding(n)] for n in range(400)],
        [[*[7] * 2_000, *colliding(n)] for n in range(3_000, 3_399)],
    ),
    "wide at the deepest level": lambda: (wide_and_deep(1), wide_and_deep(2)),
    "many lists to match": lambda: (
        [[n % 2 for n in range(400)] for _ in range(500)],
        [[n % 3 % 2 for n in range(399)] for _ in range(500)],
    ),
    "many texts to match": lambda: (
        {n: "".join(f"{k % 100}\n" for k in range(1_990)) for n in range(100)},
        {n: "".join(f"{k * k % 100}\n" for k in range(1_990)) for n in range(100)},
    ),
    "many lines": lambda: ("\n" * 16_000_000 + "x", "\r" * 16_000_000),
    "one line": lambda: ("x" * 16_000_000, "x" * 15_000_000 + "y" * 1_000_000),
    "long keys": lambda: (nested_keys(0), nested_keys(1)),
    "other ids": lambda: (
        [{"id": n, "n": n} for n in range(200_000)],
        [{"id": n, "n": n} for n in range(200_000, 0, -1)],
    ),
    "exponents": lambda: (
        [{"$type": "decimal.Decimal", "value": f"1e{n}"} for n in range(99_999)],
        [{"$type": "decimal.Decimal", "value": f"1e-{n}"} for n in range(99_999)],
    ),
}


def compare_hard(name: str) -> None:
    """Compare two values and show the changes, with little memory and processor time."""
    before, after = HARD[name]()
    limit_memory(1 << 30)
    limit_time(math.ceil(time.process_time()) + HARD_SECONDS)
    changes, more = compare(before, after)
    shown = str(diff_of(changes, more))
    print(len(changes), len(shown) < 1_000_000)


def diff_of(changes: tuple[Change, ...], more: int) -> Diff:
    channel = ChannelDiff("x", "changed", None, None, changes=changes, more=more)
    return Diff("t", "", "a", "b", (channel,), ())


@pytest.mark.parametrize("name", HARD)
def test_values_that_are_hard_to_compare_take_bounded_time_and_memory(
    name: str, limited: Zygote
) -> None:
    child = limited.spawn(f"{__name__}:compare_hard", {"name": name})

    assert child.wait() == 0, child.text
    assert child.lines[-1].endswith(" True")


PARTS = st.sampled_from(
    [0, 1, True, 0.0, math.nan, 2.0**61, -1, -2, "", "x", "x" * 99, "a\n" * 99, b"x", None]
)
VALUES = st.recursive(
    PARTS,
    lambda inner: (
        st.lists(inner, max_size=9) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=5)
    ),
    max_leaves=60,
)


@given(VALUES, VALUES, st.integers(0, 60), st.integers(0, 3_000))
def test_with_little_work_left_values_differ_exactly_if_they_do_with_much(
    before: Any, after: Any, parts: int, steps: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_module, "MOST_COMPARED", parts)
        patch.setattr(compare_module, "MOST_STEPS", steps)
        few, _ = compare(before, after)
        none, _ = compare(before, deepcopy(before))

    assert bool(few) == bool(compare(before, after)[0])
    assert none == ()

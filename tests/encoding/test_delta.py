"""Deltas: their size, and that values read back unchanged."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

import ormsgpack
import pytest
import zstandard
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from langgraph_session_saver.encoding import framing
from langgraph_session_saver.encoding.chains import (
    FANOUT,
    StoredBlob,
    Value,
    extend,
    resolve,
    whole,
)
from langgraph_session_saver.encoding.delta import (
    Change,
    appending,
    combine,
    diff,
    pack,
    read_number,
    rebuild,
    target_length,
    unpack,
    write_number,
)
from langgraph_session_saver.encoding.framing import frame, unframe
from langgraph_session_saver.errors import CorruptBlobError, HistoryLostError

quick = settings(max_examples=200, derandomize=True, deadline=None, database=None)
slow = settings(max_examples=40, derandomize=True, deadline=None, database=None)

PER_CHANGE = 24
"""Bytes that naming what is kept around one changed region may take."""

PACKERS: Mapping[int, Callable[[bytes], bytes]] = {
    framing.ZLIB: zlib.compress,
    framing.ZSTD: zstandard.compress,
}
"""What makes the content of each packed kind of frame."""

seeds = st.integers(0, 2**32 - 1)
# Few different bytes, so that there are equal runs in many places: the hard case.
repetitive = st.lists(st.sampled_from([b"a", b"ab", b"abcabc" * 8, b"\x00" * 40, b"xyz"])).map(
    b"".join
)
values = st.one_of(st.binary(max_size=300), repetitive)


# -- changes ------------------------------------------------------------------------------------


def apply(change: Change, base: bytes) -> bytes:
    return rebuild([change], base)


@quick
@given(values, values)
def test_applying_a_diff_to_the_first_value_gives_the_second(base: bytes, target: bytes) -> None:
    change = diff(base, target)

    assert apply(change, base) == target
    assert target_length(change) == len(target)


@quick
@given(st.lists(values), st.lists(values))
def test_a_change_of_an_array_that_was_appended_to_leads_from_one_to_the_other(
    items: list[bytes], more: list[bytes]
) -> None:
    base, target = ormsgpack.packb(items), ormsgpack.packb(items + more)
    change = appending(base, target)

    assert apply(change, base) == target
    assert target_length(change) == len(target)


@quick
@given(values, values)
def test_unpacking_a_packed_change_gives_it_back(base: bytes, target: bytes) -> None:
    change = diff(base, target)

    assert unpack(pack(change)) == change


@quick
@given(values, values, values)
def test_a_combined_change_gives_the_same_value_as_its_parts_in_turn(
    first: bytes, second: bytes, third: bytes
) -> None:
    earlier, later = diff(first, second), diff(second, third)

    assert apply(combine(later, earlier), first) == third
    assert rebuild([later, earlier], first) == third


@quick
@given(values, values, values, values)
def test_combining_changes_is_associative(
    first: bytes, second: bytes, third: bytes, fourth: bytes
) -> None:
    a, b, c = diff(first, second), diff(second, third), diff(third, fourth)

    assert combine(combine(c, b), a) == combine(c, combine(b, a))


@quick
@given(values, values)
def test_a_truncated_packed_change_is_an_error(base: bytes, target: bytes) -> None:
    packed = pack(diff(base, target))
    assume(packed)

    try:
        shorter = unpack(packed[:-1])
    except ValueError:
        return
    assert apply(shorter, base) != target


@quick
@given(st.integers(0, 2**70), st.binary(max_size=5), st.binary(max_size=5))
def test_a_packed_number_reads_back_with_its_end(number: int, before: bytes, after: bytes) -> None:
    written = write_number(number)

    assert read_number(before + written + after, len(before)) == (
        number,
        len(before) + len(written),
    )


def test_a_truncated_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="middle of a number"):
        read_number(write_number(1 << 40)[:-1], 0)


# -- what changes cost --------------------------------------------------------------------------


def append(rng: Random, value: bytes, size: int) -> tuple[bytes, int]:
    return value + rng.randbytes(size), size


def prepend(rng: Random, value: bytes, size: int) -> tuple[bytes, int]:
    return rng.randbytes(size) + value, size


def insert(rng: Random, value: bytes, size: int) -> tuple[bytes, int]:
    at = rng.randrange(len(value) + 1)
    return value[:at] + rng.randbytes(size) + value[at:], size


def overwrite(rng: Random, value: bytes, size: int) -> tuple[bytes, int]:
    at = rng.randrange(max(1, len(value) - size))
    return value[:at] + rng.randbytes(size) + value[at + size :], size


def remove(rng: Random, value: bytes, size: int) -> tuple[bytes, int]:
    at = rng.randrange(max(1, len(value) - size))
    return value[:at] + value[at + size :], 0


Edit = Callable[[Random, bytes, int], tuple[bytes, int]]
EDITS: list[Edit] = [append, prepend, insert, overwrite, remove]
edits = st.sampled_from(EDITS)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
@slow
@given(seed=seeds, size=st.integers(1, 5_000))
@example(seed=0, size=100_000)
def test_one_edit_of_a_large_value_costs_the_changed_bytes(
    edit: Edit, seed: int, size: int
) -> None:
    rng = Random(seed)
    base = rng.randbytes(300_000)
    target, changed = edit(rng, base, size)

    assert len(pack(diff(base, target))) <= changed + PER_CHANGE


@slow
@given(seeds, st.lists(st.tuples(edits, st.integers(1, 2_000)), min_size=2, max_size=12))
# Nearer together, the equal bytes between two edits may be taken for changed ones.
def test_several_edits_far_apart_cost_their_changed_bytes(
    seed: int, script: list[tuple[Edit, int]]
) -> None:
    rng = Random(seed)
    base = target = b""
    total = 0
    for edit, size in script:
        before, edited, after = (rng.randbytes(8_000) for _ in range(3))
        base += before + edited + after
        edited, changed = edit(rng, edited, size)
        target += before + edited + after
        total += changed

    assert len(pack(diff(base, target))) <= total + PER_CHANGE * len(script)


@slow
@given(seeds, st.lists(st.tuples(edits, st.integers(1, 2_000)), min_size=2, max_size=12))
@example(seed=592, script=[(insert, 513), (prepend, 465), (insert, 1)])
def test_several_edits_cost_a_small_part_of_a_large_value(
    seed: int, script: list[tuple[Edit, int]]
) -> None:
    rng = Random(seed)
    base = target = rng.randbytes(300_000)
    total = 0
    for edit, size in script:
        target, changed = edit(rng, target, size)
        total += changed

    # Of two edits, the bytes between them may count too if those are fewer than the longer's.
    longest = max(size for _, size in script)
    assert len(pack(diff(base, target))) <= total + (longest + PER_CHANGE) * len(script)


def test_an_append_with_a_changed_length_header_costs_both_changes() -> None:
    body = Random(1).randbytes(100_000)
    base, target = b"\xdd\x00\x00\x01\x00" + body, b"\xdd\x00\x00\x01\x01" + body + b"new" * 50

    assert len(pack(diff(base, target))) <= 1 + 150 + 2 * PER_CHANGE


# -- chains -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A stored blob as a query gives it back."""

    blob_key: bytes
    base_key: bytes | None
    depth: int
    level: int
    type: str
    data: bytes
    channel: str = "doc"


class Store:
    """Rows by key, and the value that the next delta is taken against."""

    def __init__(self, *, remember: bool = True) -> None:
        self.remember = remember
        self.rows: dict[bytes, Row] = {}
        self.values: dict[bytes, bytes] = {}
        self.tip: Value | None = None

    def add(self, data: bytes, *, typ: str = "msgpack", forgotten: bool = False) -> StoredBlob:
        key = len(self.rows).to_bytes(16, "big")
        self.tip, blob = extend(None if forgotten else self.tip, key, (typ, data))
        assert blob.base_key is None or blob.base_key in self.rows
        self.rows[key] = Row(key, blob.base_key, blob.depth, blob.level, blob.type, blob.data)
        if self.remember:
            self.values[key] = data
        return blob

    def read(self, key: bytes, known: dict[bytes, Value] | None = None) -> Value:
        return resolve(key, self.rows.get, (known or {}).get)

    @property
    def stored(self) -> int:
        return sum(len(row.data) for row in self.rows.values())


@slow
@given(
    seeds,
    st.lists(
        st.tuples(
            edits,
            st.integers(1, 300),
            st.sampled_from(["next", "next", "next", "forget", "fork", "retype", "read back"]),
        ),
        max_size=150,
    ),
)
def test_every_value_of_a_chain_resolves_with_and_without_known_bytes(
    seed: int, script: list[tuple[Edit, int, str]]
) -> None:
    rng, store = Random(seed), Store()
    store.add(rng.randbytes(rng.randrange(4_000)))
    known: dict[bytes, Value] = {}
    for edit, size, how in script:
        if how == "fork":
            store.tip = store.read(rng.choice(list(store.rows)), known)
        elif how == "read back" and store.tip is not None:
            store.tip = store.read(store.tip.key)
        assert store.tip is not None
        changed, _ = edit(rng, store.values[store.tip.key], size)
        typ = "bytes" if how == "retype" else "msgpack"
        store.add(changed, typ=typ, forgotten=how == "forget")
        if rng.random() < 0.2:
            known[store.tip.key] = store.tip

    for key, data in store.values.items():
        cold, warm = store.read(key), store.read(key, known)
        assert cold.typed == warm.typed == (store.rows[key].type, data)
        assert (cold.key, cold.root) == (warm.key, warm.root) == (key, cold.root)
        assert [link.key for link in cold.links] == [link.key for link in warm.links]
        assert [link.level for link in cold.links] == [link.level for link in warm.links]
        assert cold.root_size == warm.root_size


@slow
@given(seeds, st.lists(st.tuples(edits, st.integers(1, 300)), min_size=1, max_size=100))
def test_a_chain_is_extended_alike_from_a_read_and_from_a_written_value(
    seed: int, script: list[tuple[Edit, int]]
) -> None:
    rng, store = Random(seed), Store()
    data = rng.randbytes(3_000)
    store.add(data)
    for edit, size in script:
        data, _ = edit(rng, data, size)
        store.add(data)
    assert store.tip is not None
    read = store.read(store.tip.key)
    data, _ = append(rng, data, 100)

    assert (
        extend(read, b"next", ("msgpack", data))[1]
        == extend(store.tip, b"next", ("msgpack", data))[1]
    )


@pytest.mark.parametrize("kept", ["the value's size", "growing"])
@pytest.mark.parametrize("changed", [40, 100, 1_000])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_long_history_stores_at_most_log_n_times_the_changed_bytes_plus_one_value(
    kept: str, changed: int, seed: int
) -> None:
    rng, store, steps = Random(seed), Store(remember=False), 2_000
    data = rng.randbytes(100_000)
    store.add(data)
    for _ in range(steps):
        data, _ = (append if kept == "growing" else overwrite)(rng, data, changed)
        store.add(data)
        assert store.tip is not None
        read = store.tip.root_size + sum(link.size for link in store.tip.links)
        assert read <= 2 * len(data)

    assert store.stored <= (2 + math.log2(steps)) * steps * changed + len(data)
    assert store.read(store.tip.key if store.tip else b"").typed[1] == data


def test_a_chain_has_few_links_however_long_the_history() -> None:
    rng, store, steps = Random(3), Store(remember=False), 10_000
    data = rng.randbytes(1_000_000)
    store.add(data)
    longest = 0
    for _ in range(steps):
        data, _ = overwrite(rng, data, 40)
        longest = max(longest, store.add(data).depth)

    levels = 1 + math.ceil(math.log(steps, FANOUT))
    assert longest <= (FANOUT - 1) * levels
    assert sum(blob.base_key is None for blob in store.rows.values()) == 1
    assert store.stored <= (2 + math.log2(steps)) * steps * 40 + len(data)


def test_a_value_that_changed_altogether_is_stored_whole() -> None:
    rng, store = Random(4), Store()
    store.add(rng.randbytes(5_000))

    blob = store.add(rng.randbytes(5_000))

    assert (blob.base_key, blob.depth, blob.level) == (None, 0, 0)


def test_a_chain_without_its_base_raises_lost_history_with_the_blob() -> None:
    rng, store = Random(5), Store()
    data = rng.randbytes(5_000)
    store.add(data)
    store.add(data + b"more")
    first, second = store.rows
    del store.rows[first]

    with pytest.raises(HistoryLostError, match=first.hex()):
        store.read(second)


def test_an_undecodable_link_raises_corrupt_blob_with_its_channel() -> None:
    rng, store = Random(6), Store()
    data = rng.randbytes(5_000)
    store.add(data)
    store.add(data + rng.randbytes(100))
    _, second = store.rows
    row = store.rows[second]
    damaged = frame(unframe(row.data)[:-1])
    store.rows[second] = Row(second, row.base_key, row.depth, row.level, row.type, damaged)

    with pytest.raises(CorruptBlobError, match="'doc'"):
        store.read(second)


def test_a_link_that_points_outside_its_base_raises_corrupt_blob() -> None:
    rng, store = Random(7), Store()
    data = rng.randbytes(5_000)
    store.add(data)
    store.add(data + rng.randbytes(100))
    store.add(data + rng.randbytes(200))
    _, second, third = store.rows
    outside: Change = ((0, 50_000),)
    for key in (second, third):
        row = store.rows[key]
        store.rows[key] = Row(
            key, row.base_key, row.depth, row.level, row.type, frame(pack(outside))
        )

    for key in (second, third):
        with pytest.raises(CorruptBlobError, match="'doc'"):
            store.read(key)


# -- frames -------------------------------------------------------------------------------------


@quick
@given(st.one_of(values, values.map(lambda value: value * 20)))
def test_a_frame_unpacks_to_the_original_bytes(data: bytes) -> None:
    framed = frame(data)

    assert unframe(framed) == data
    assert len(framed) <= len(data) + 1


def test_repetitive_bytes_are_compressed() -> None:
    assert len(frame(b"the same words " * 1_000)) < 500


def test_random_bytes_are_not_compressed() -> None:
    data = Random(8).randbytes(10_000)

    assert frame(data) == bytes((framing.RAW,)) + data


@quick
@given(st.binary(max_size=200))
def test_bytes_that_are_no_frame_raise_only_corrupt_blob(data: bytes) -> None:
    try:
        unpacked = unframe(data)
    except CorruptBlobError:
        return
    assert data[0] in {framing.RAW, framing.ZLIB, framing.ZSTD}
    assert len(unpacked) >= 0


@quick
@given(st.data())
def test_a_truncated_compressed_frame_raises_corrupt_blob(data: st.DataObject) -> None:
    framed = frame(b"the same words " * 100)
    end = data.draw(st.integers(0, len(framed) // 2))

    with pytest.raises(CorruptBlobError):
        unframe(framed[:end])


def test_a_frame_of_an_unknown_kind_raises_corrupt_blob() -> None:
    with pytest.raises(CorruptBlobError, match="start with 9"):
        unframe(b"\x09abc")


def test_an_empty_frame_raises_corrupt_blob() -> None:
    with pytest.raises(CorruptBlobError, match="None"):
        unframe(b"")


@pytest.mark.parametrize("kind", PACKERS)
def test_a_frame_never_unpacks_to_more_than_its_declared_size(kind: int) -> None:
    bomb = bytes((kind,)) + write_number(1_000) + PACKERS[kind](bytes(50_000_000))

    with pytest.raises(CorruptBlobError, match="unpack"):
        unframe(bomb)


def test_a_frame_that_an_earlier_version_packed_with_zlib_is_read() -> None:
    data = b"the same words " * 100

    assert unframe(bytes((framing.ZLIB,)) + write_number(len(data)) + zlib.compress(data)) == data


@pytest.mark.parametrize("kind", PACKERS)
def test_a_frame_with_an_impossible_declared_size_is_refused_before_it_is_unpacked(
    kind: int,
) -> None:
    claim = bytes((kind,)) + write_number(framing.ALWAYS_UNPACKED + 1) + PACKERS[kind](b"")

    with pytest.raises(CorruptBlobError, match="claim"):
        unframe(claim)


def test_a_whole_value_is_its_own_root() -> None:
    value, blob = whole(b"key", ("msgpack", b"data"))

    assert (value.root, value.links, blob.base_key) == (b"key", (), None)
    assert unframe(blob.data) == b"data"


def test_bytes_that_look_like_a_truncated_list_are_compared_as_bytes() -> None:
    earlier, later = b"\xdc\x01", b"\xdc\x01" + b"\x00" * 3_000
    before, _ = whole(b"first", ("bytes", earlier))

    value, stored = extend(before, b"second", ("bytes", later))

    assert value.typed == ("bytes", later)
    assert stored.blob_key == b"second"

"""Stored bytes that somebody forged or damaged: an error that names the row, in bounded memory."""

from __future__ import annotations

import logging
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import ormsgpack
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from sqlalchemy import create_engine, text

from langgraph_session_saver import CorruptBlobError, SessionSaver, SessionSaverError
from langgraph_session_saver.cli.target import Database
from langgraph_session_saver.encoding.chains import (
    LONGEST,
    StoredBlob,
    extend,
    resolve,
    unframe_write,
    whole,
)
from langgraph_session_saver.encoding.delta import Change, diff, pack, unpack, write_number
from langgraph_session_saver.encoding.framing import (
    ALWAYS_UNPACKED,
    ZLIB,
    ZSTD,
    frame,
    most_unpacked,
    unframe,
)
from langgraph_session_saver.encoding.keys import blob_key, thread_key
from langgraph_session_saver.encoding.nesting import (
    HIGHEST_CODE,
    TooManyPartsError,
    count_parts,
)
from langgraph_session_saver.encoding.serde import load
from langgraph_session_saver.errors import HistoryLostError
from langgraph_session_saver.inspection.damage import NAMED
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.graphs import thread
from tests.support.limits import limit_memory, limit_time
from tests.support.rows import checkpoint_id, config, listed, put
from tests.support.savers import SaverFactory
from tests.support.zygote import Zygote

BACKENDS_AND_FACES = EACH_ONCE
STEPS = 5
BOMB = bytes((ZSTD,)) + write_number(1 << 31) + bytes(65_000)
"""A frame of 65 KB that claims to be 2 GB."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip

quick = settings(max_examples=300, derandomize=True, deadline=None, database=None)


@dataclass
class Link:
    """A value in another."""

    within: Any


async def save(saver: SessionSaver) -> None:
    """Save steps that append to a text of 4 KB, so that each is a change of the one before."""
    where = config()
    for step in range(STEPS):
        doc = "".join(f"{n:04} " for n in range(800 + 20 * step))
        where = await put(saver, step, {"doc": doc}, where)


def key_of(step: int) -> bytes:
    return blob_key("", "doc", f"{step:010}.{step:012x}")


def forge(sql: Sql, row: StoredBlob) -> None:
    """Store a blob in place of the one with its key."""
    sql("DELETE FROM session_blobs WHERE blob_key = :key", key=row.blob_key)
    sql(
        "INSERT INTO session_blobs (thread_key, blob_key, base_key, depth, level, channel, type, "
        "data) VALUES (:thread, :blob_key, :base_key, :depth, :level, 'doc', :type, :data)",
        thread=thread_key("t"),
        **row._asdict(),
    )


def forge_chain(sql: Sql, links: int, change: Change) -> None:
    """Make the newest value the end of a chain of equal changes."""
    newest = STEPS - 1
    keys = [b"%015d" % n + b"k" for n in range(links)] + [key_of(newest)]
    forge(sql, whole(keys[0], ("msgpack", ormsgpack.packb("x" * 64)))[1])
    for n, (base, key) in enumerate(pairwise(keys), 1):
        forge(sql, StoredBlob(key, base, n, 0, "msgpack", frame(pack(change))))


# -- chains ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, STEPS - 1])
async def test_a_cycle_of_changes_is_an_error_that_names_the_checkpoint(
    make_saver: SaverFactory, sql: Sql, length: int
) -> None:
    await save(make_saver())
    sql(
        "UPDATE session_blobs SET base_key = :key WHERE depth = :depth",
        key=key_of(STEPS - 1),
        depth=STEPS - length,
    )

    with pytest.raises(CorruptBlobError, match=r"checkpoint .* of thread 't': .*does not end"):
        await make_saver().aget_tuple(config())
    assert len(await listed(make_saver(), config())) == STEPS - length
    assert len(await make_saver().ahistory("t")) == STEPS


@pytest.mark.parametrize(
    ("links", "change", "said"),
    [
        (40, ((0, 66), (0, 66)), "copies a part of its base twice"),
        (1, ((0, 1 << 40),), "copies from outside its base"),
        (LONGEST + 1, ((0, 66),), "does not end"),
    ],
    ids=["doubling", "a terabyte", "too many"],
)
async def test_a_chain_of_impossible_changes_is_an_error(
    make_saver: SaverFactory, sql: Sql, links: int, change: Change, said: str
) -> None:
    await save(make_saver())
    forge_chain(sql, links, change)

    with pytest.raises(CorruptBlobError, match=said):
        await make_saver().aget_tuple(config())


async def test_the_longest_chain_is_read(make_saver: SaverFactory, sql: Sql) -> None:
    await save(make_saver())
    forge_chain(sql, LONGEST, ((0, 66),))

    found = await make_saver().aget_tuple(config())

    assert found is not None
    assert found.checkpoint["channel_values"] == {"doc": "x" * 64}


def test_a_chain_unpacks_to_no_more_than_its_rows_may() -> None:
    size = ALWAYS_UNPACKED - 100
    rows = {b"root": whole(b"root", ("bytes", bytes(size)))[1]}
    base = b"root"
    for n in range(5):
        change = frame(pack((bytes(size),)))
        rows[b"%d" % n] = StoredBlob(b"%d" % n, base, n + 1, 0, "bytes", change)
        base = b"%d" % n
    held = {key: zstd(row) for key, row in rows.items()}

    with pytest.raises(CorruptBlobError, match="its chain unpacks to"):
        resolve(base, held.get)


def zstd(row: StoredBlob) -> Any:
    """A row packed by zstd more than `frame` does, as a forger would."""
    data = unframe(row.data)
    packed = zstandard.ZstdCompressor(write_content_size=False).compress(data)
    return with_channel(row._replace(data=bytes((ZSTD,)) + write_number(len(data)) + packed))


def with_channel(row: StoredBlob) -> SimpleNamespace:
    """A row of `session_blobs`."""
    return SimpleNamespace(**row._asdict(), channel="doc")


async def test_a_checkpoint_that_is_its_own_ancestor_is_an_error_in_a_replay(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver()
    await save(saver)
    await saver.aput_writes(await put(saver, STEPS, {"doc": "x"}), [("log", ["a"])], "task")
    sql("UPDATE session_checkpoints SET parent_checkpoint_id = checkpoint_id")

    with pytest.raises(CorruptBlobError, match="among its own ancestors"):
        await make_saver().aget_delta_channel_history(config=config(), channels=["log"])


# -- what bytes unpack to -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1_000, 100_000, 20_000_000])
def test_the_most_repetitive_value_is_packed_to_no_less_than_may_be_unpacked(size: int) -> None:
    data = b"x" * size
    framed = frame(data)

    assert unframe(framed) == data
    assert size <= most_unpacked(len(framed))
    assert len(framed) < max(1_000, size // 100) + 10


def test_a_length_in_the_header_of_zstd_does_not_override_that_of_the_frame() -> None:
    with_size = zstandard.ZstdCompressor().compress(bytes(50_000_000))

    with pytest.raises(CorruptBlobError, match="50,000,000"):
        unframe(bytes((ZSTD,)) + write_number(1_000) + with_size)


@quick
@given(st.binary(min_size=16, max_size=64), st.integers(0, 1 << 20))
def test_a_flipped_bit_of_packed_bytes_is_noticed(unit: bytes, bit: int) -> None:
    data = unit * 100
    framed = bytearray(frame(data))
    bit %= 8 * (len(framed) - 1)
    framed[1 + bit // 8] ^= 1 << bit % 8

    with suppress(CorruptBlobError):
        assert unframe(bytes(framed)) == data


def test_a_number_without_end_is_refused_at_its_eleventh_byte() -> None:
    with pytest.raises(CorruptBlobError, match="more than 11 bytes"):
        unframe(bytes((ZSTD,)) + b"\x80" * 1_000_000)


@pytest.mark.parametrize("segments", [b"\x00\x00", b"\x01", b"\x03a\x03a"])
def test_segments_that_no_change_has_are_refused(segments: bytes) -> None:
    with pytest.raises(ValueError, match="empty or a divided segment"):
        unpack(segments * 1_000)


BOMBS = {
    "metadata": "UPDATE session_checkpoints SET metadata_data = :bomb",
    "checkpoint": "UPDATE session_checkpoints SET data = :bomb",
    "value": "UPDATE session_blobs SET data = :bomb",
    "write": "UPDATE session_writes SET data = :bomb",
}


@pytest.fixture(scope="module")
def limited() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


def read_everything(url: str) -> None:
    """Read a thread in each way, with little memory and time, and print what came of it."""
    logging.disable(logging.CRITICAL)
    limit_memory(1 << 30)
    limit_time(60)
    with SessionSaver.from_conn_string(url) as saver:
        ids = [checkpoint_id(step) for step in (0, STEPS - 1)]
        ways: dict[str, Callable[[], Any]] = {
            "get_tuple": lambda: saver.get_tuple(config()),
            "list": lambda: list(saver.list(config())),
            "filtered": lambda: list(saver.list(config(), filter={"step": 1})),
            "history": lambda: str(saver.history("t")),
            "diff": lambda: str(saver.diff("t", *ids)),
            "as data": lambda: (saver.history("t").to_dict(), saver.diff("t", *ids).to_dict()),
            "threads": lambda: saver.threads.list(metadata={"step": 1}),
            "sessions": saver.sessions.list,
            "doctor": lambda: find_undecodable(url),
        }
        for name, read in ways.items():
            try:
                read()
                print(name, "ok")
            except SessionSaverError as error:
                print(name, type(error).__name__)
    print("end")


def find_undecodable(url: str) -> None:
    with Database.from_conn_string(url, auto_setup=False) as database:
        database.find_undecodable(None)


@pytest.mark.parametrize("what", BOMBS)
@pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)
@pytest.mark.parametrize("face", ["sync"], indirect=True)
async def test_bytes_that_unpack_to_gigabytes_are_refused_before_memory_is_taken(
    make_saver: SaverFactory, backend: Backend, sql: Sql, limited: Zygote, what: str
) -> None:
    saver = make_saver()
    await save(saver)
    where = config(checkpoint_ns="", checkpoint_id=checkpoint_id(STEPS - 1))
    await saver.aput_writes(where, [("doc", "x")], "task")
    sql(BOMBS[what], bomb=BOMB)

    child = limited.spawn(f"{__name__}:read_everything", {"url": backend.url})

    assert child.wait() == 0, child.text
    assert child.lines[0] == "get_tuple CorruptBlobError"
    assert child.lines[-1] == "end"


def packed_by_zlib(data: bytes) -> bytes:
    """A frame of a thousandth of its content, which `unframe` takes."""
    return bytes((ZLIB,)) + write_number(len(data)) + zlib.compress(data, 9)


def within_extensions(data: bytes, levels: int, around: bytes = b"") -> bytes:
    """A value in extensions of LangGraph's around each other, and lists around each of them."""
    for level in range(levels):
        data = around + ormsgpack.packb(ormsgpack.Ext(level % (HIGHEST_CODE + 1), data))
    return data


def in_map(value: bytes) -> bytes:
    return b"\x81\xa1x" + value


MANY = 60_000_000
"""Parts of a frame of 60 KB."""

MANY_PARTS: list[Callable[[], bytes]] = [
    lambda: b"\xdd" + MANY.to_bytes(4, "big") + b"\x90" * MANY,
    lambda: b"\xdd" + (MANY // 3).to_bytes(4, "big") + b"\xd4\x07\xc0" * (MANY // 3),
    lambda: b"\xdf" + (MANY // 4).to_bytes(4, "big") + b"\xa2xy\xc0" * (MANY // 4),
    lambda: within_extensions(b"\xc6" + MANY.to_bytes(4, "big") + bytes(MANY), 60),
]
"""Lists, extensions, the keys of a map, and copies of what is in extensions."""


@pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)
@pytest.mark.parametrize("face", ["sync"], indirect=True)
async def test_metadata_of_many_parts_is_refused_before_they_are_made(
    make_saver: SaverFactory, backend: Backend, sql: Sql, limited: Zygote
) -> None:
    await save(make_saver())
    for step, make in enumerate(MANY_PARTS):
        bomb = packed_by_zlib(in_map(make()))
        assert len(bomb) < 200_000
        newest = checkpoint_id(STEPS - 1 - step)
        sql(f"{BOMBS['metadata']} WHERE checkpoint_id = :id", bomb=bomb, id=newest)

    child = limited.spawn(f"{__name__}:read_everything", {"url": backend.url})

    assert child.wait() == 0, child.text
    assert child.lines[0] == "get_tuple CorruptBlobError"
    assert child.lines[-1] == "end"


NESTED = {
    "3,000 extensions": lambda: within_extensions(b"\xc0", 3_000),
    "lists and extensions": lambda: within_extensions(b"\xc0", 60, b"\x91" * 1_000),
    "lists and a few extensions": lambda: within_extensions(b"\xc0", 13, b"\x91" * 1_000),
    "maps and extensions": lambda: within_extensions(b"\xc0", 500, b"\x81\xc0" * 1_000),
    "lists behind text": lambda: b"\x92" + ormsgpack.packb("\u05d0" * 9_000)
    + within_extensions(b"\xc0", 200, b"\x92\xa3x\xc8\x00" + b"\x91" * 900),
}  # fmt: skip


@pytest.mark.parametrize("nested", NESTED)
@pytest.mark.parametrize("what", BOMBS)
@pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)
@pytest.mark.parametrize("face", ["sync"], indirect=True)
async def test_a_value_nested_in_extensions_ends_no_process(
    make_saver: SaverFactory, backend: Backend, sql: Sql, limited: Zygote, what: str, nested: str
) -> None:
    saver = make_saver()
    await save(saver)
    where = config(checkpoint_ns="", checkpoint_id=checkpoint_id(STEPS - 1))
    await saver.aput_writes(where, [("doc", "x")], "task")
    sql("UPDATE session_blobs SET base_key = NULL")
    sql(BOMBS[what], bomb=frame(NESTED[nested]()))

    child = limited.spawn(f"{__name__}:read_everything", {"url": backend.url})

    assert child.wait() == 0, child.text
    assert child.lines[0] in {"get_tuple UnreadableValueError", "get_tuple CorruptBlobError"}
    assert child.lines[-1] == "end"


@pytest.mark.parametrize("make", [list, tuple, deque, Link], ids=["list", "tuple", "deque", "own"])
def test_all_that_the_serialiser_can_nest_is_read_back(make: Callable[[Any], Any]) -> None:
    serialiser, value, deepest = JsonPlusSerializer(allowed_msgpack_modules=[Link]), "x", None
    for _ in range(1_000):
        value = make([value])
        try:
            deepest = serialiser.dumps_typed(value)
        except (TypeError, RecursionError):
            break

    assert deepest is not None
    assert deepest == serialiser.dumps_typed(load(serialiser, deepest, "the value"))


@quick
@given(JSON, st.lists(st.sampled_from([list, tuple, deque, Link]), max_size=9))
def test_parts_are_counted_as_they_are_decoded(value: Any, around: list[Any]) -> None:
    for make in around:
        value = make([value])
    data = JsonPlusSerializer().dumps_typed([value])[1]

    assert count_parts(data) >= data.count(b"\xc7")
    with pytest.raises(TooManyPartsError):
        count_parts(data, count_parts(data) - 1)
    for end in range(len(data)):
        assert count_parts(data[:end]) <= count_parts(data)


# -- damaged rows ---------------------------------------------------------------------------------

DAMAGE = {
    "checkpoint": "UPDATE session_checkpoints SET data = :bytes WHERE checkpoint_id = :id",
    "no checkpoint": "UPDATE session_checkpoints SET data = :packed WHERE checkpoint_id = :id",
    "references": "UPDATE session_checkpoints SET refs = :bytes WHERE checkpoint_id = :id",
    "metadata": "UPDATE session_checkpoints SET metadata_data = :bytes WHERE checkpoint_id = :id",
    "no metadata": "UPDATE session_checkpoints SET metadata_data = :packed "
    "WHERE checkpoint_id = :id",
    "write": "UPDATE session_writes SET data = :bytes",
    "value": "UPDATE session_blobs SET data = :bytes, base_key = NULL WHERE blob_key = :key",
    "raw value": "UPDATE session_blobs SET data = :raw, base_key = NULL WHERE blob_key = :key",
    "nested lists": "UPDATE session_blobs SET data = :lists, base_key = NULL WHERE blob_key = :key",
}


@pytest.mark.parametrize("what", DAMAGE)
async def test_one_damaged_row_does_not_hide_the_other_checkpoints(
    make_saver: SaverFactory, sql: Sql, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    newest = STEPS - 1
    saver = make_saver()
    await save(saver)
    at = config(checkpoint_ns="", checkpoint_id=checkpoint_id(newest))
    await saver.aput_writes(at, [("note", "x")], "task")
    values = {
        "id": checkpoint_id(newest), "key": key_of(newest), "bytes": b"\x02\x10damaged",
        "packed": frame(ormsgpack.packb(["x", 1])), "raw": b"\x00\xdd\xff\xff\xff\xff",
        "lists": frame(b"\x91" * 100_000 + b"\xc0"),
    }  # fmt: skip
    used = {name: value for name, value in values.items() if f":{name}" in DAMAGE[what]}
    sql(DAMAGE[what], **used)

    found = await listed(make_saver(), config())

    assert found == [checkpoint_id(step) for step in range(newest - 1, -1, -1)]
    [warning] = caplog.records
    assert f"checkpoint '{checkpoint_id(newest)}' of thread 't'" in warning.getMessage()
    with pytest.raises(CorruptBlobError, match=checkpoint_id(newest)):
        await make_saver().aget_tuple(config())
    assert len(await make_saver().ahistory("t")) == STEPS


async def test_the_limit_of_a_listing_counts_what_it_lists(
    make_saver: SaverFactory, sql: Sql
) -> None:
    await save(make_saver())
    for step in (STEPS - 1, STEPS - 3):
        sql("UPDATE session_blobs SET data = :x WHERE blob_key = :key", x=b"\x09", key=key_of(step))
    sql("UPDATE session_blobs SET data = :x WHERE depth = 1", x=b"\x09")
    await put(make_saver(), STEPS, {"note": "x"})

    for limited_to in (1, 2, 9):
        found = [
            one.checkpoint["id"]
            async for one in make_saver().alist(config(), filter={}, limit=limited_to)
        ]
        assert found == [checkpoint_id(STEPS), checkpoint_id(0)][:limited_to]


class OtherKey:
    """A serialiser that cannot read what another has written."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        raise NotImplementedError

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        raise ValueError("wrong key")


async def test_a_listing_of_which_nothing_can_be_read_raises(make_saver: SaverFactory) -> None:
    await save(make_saver())

    with pytest.raises(CorruptBlobError, match="wrong key"):
        await listed(make_saver(serde=OtherKey()), config())


# -- anything -------------------------------------------------------------------------------------

TYPED = ("msgpack", ormsgpack.packb(["a line of text"] * 200))
edits = st.tuples(
    st.sampled_from(["cut", "flip", "insert", "tag", "length", "splice"]),
    st.integers(0, 1 << 20),
    st.binary(min_size=1, max_size=12),
)


def edited(data: bytes, kind: str, at: int, new: bytes) -> bytes:
    """Damage bytes."""
    at %= max(len(data), 1)
    match kind:
        case "cut":
            return data[:at]
        case "flip":
            return data[:at] + bytes((data[at] ^ (new[0] or 1),)) + data[at + 1 :] if data else b""
        case "insert":
            return data[:at] + new + data[at:]
        case "tag":
            return new[:1] + data[1:]
        case "length":
            return data[:1] + b"\xff" * len(new) + data[1:]
    return data[:at] + data[-at // 2 :]


@quick
@given(st.lists(edits, min_size=1, max_size=3), st.integers(0, 3))
def test_damaged_chains_read_as_some_value_of_a_possible_size_or_raise(
    made: list[tuple[str, int, bytes]], damaged: int
) -> None:
    """Not every flipped bit is noticed: literal bytes have no checksum."""
    value, row = whole(b"0", TYPED)
    rows = [row]
    for n in range(1, 4):
        data = ormsgpack.packb(["a line of text"] * 200 + [n] * n)
        value, row = extend(value, b"%d" % n, ("msgpack", data))
        rows.append(row)
    stored = {row.blob_key: with_channel(row) for row in rows}
    for edit in made:
        stored[b"%d" % damaged].data = edited(stored[b"%d" % damaged].data, *edit)

    try:
        found = resolve(value.key, stored.get)
    except (CorruptBlobError, HistoryLostError):
        return
    assert found.size <= most_unpacked(sum(len(row.data) for row in stored.values()))
    with suppress(SessionSaverError):
        load(serde(), found.typed, "the value")


@quick
@given(edits, st.booleans())
def test_damaged_writes_read_as_some_value_or_raise(
    edit: tuple[str, int, bytes], is_change: bool
) -> None:
    value, _ = whole(b"k" * 16, TYPED)
    change = b"\x03" + value.key + frame(pack(diff(TYPED[1], TYPED[1] + b"more")))
    with suppress(CorruptBlobError, HistoryLostError):
        unframe_write(
            edited(change if is_change else frame(TYPED[1]), *edit), {value.key: value}.get
        )


def serde() -> Any:
    with SessionSaver(create_engine("sqlite://"), auto_setup=False) as saver:
        return saver.serde


COLUMNS = {
    "session_checkpoints": ("data", "metadata_data", "refs"),
    "session_blobs": ("data", "base_key"),
    "session_writes": ("data",),
}


def read_damaged(url: str) -> None:
    """Damage one column at a time, and read the thread in each way; print what is undocumented."""
    logging.disable(logging.CRITICAL)
    limit_memory(1 << 30)
    engine = create_engine(url)

    @settings(max_examples=100, derandomize=True, deadline=None, database=None)
    @given(
        st.sampled_from([(table, column) for table in COLUMNS for column in COLUMNS[table]]),
        st.integers(0, 1 << 20),
        edits,
    )
    def damage(where: tuple[str, str], row: int, edit: tuple[str, int, bytes]) -> None:
        table, column = where
        with engine.begin() as conn:
            rows = conn.execute(text(f"SELECT rowid, {column} FROM {table}")).all()
            rowid, data = rows[row % len(rows)]
            update = text(f"UPDATE {table} SET {column} = :data WHERE rowid = {rowid}")
            conn.execute(update, {"data": edited(data or b"", *edit)})
        try:
            read_all(url)
        finally:
            with engine.begin() as conn:
                conn.execute(update, {"data": data})

    damage()
    print("end")


def read_all(url: str) -> None:
    """Read a thread in each way; only documented errors may come of it."""
    with SessionSaver.from_conn_string(url) as saver:
        ways: list[Callable[[], Any]] = [
            lambda: saver.get_tuple(thread("t")),
            lambda: list(saver.list(thread("t"))),
            lambda: saver.get_delta_channel_history(config=thread("t"), channels=["log"]),
            lambda: str(saver.history("t")),
            lambda: saver.diff("t", *(one.checkpoint_id for one in list(saver.history("t"))[:2])),
        ]
        for read in ways:
            with suppress(SessionSaverError):
                read()


@pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)
@pytest.mark.parametrize("face", ["sync"], indirect=True)
async def test_a_thread_with_any_damaged_column_reads_or_raises_a_documented_error(
    make_saver: SaverFactory, backend: Backend, limited: Zygote
) -> None:
    saver = make_saver()
    await save(saver)
    where = config("t", checkpoint_ns="", checkpoint_id=checkpoint_id(STEPS - 1))
    await saver.aput_writes(where, [("doc", "x" * 5_000), ("log", ["a"])], "task")

    child = limited.spawn(f"{__name__}:read_damaged", {"url": backend.url})

    assert child.wait() == 0, child.text
    assert child.lines[-1] == "end"


# -- finding damage -------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "read"), [(None, STEPS), (2, 2), (STEPS, STEPS)])
async def test_as_many_rows_are_decoded_as_are_asked_for(
    make_saver: SaverFactory, backend: Backend, sql: Sql, most: int | None, read: int
) -> None:
    await save(make_saver())
    sql("UPDATE session_checkpoints SET refs = :x", x=b"\xc1")

    with Database.from_conn_string(backend.url, auto_setup=False) as database:
        checkpoints, blobs, writes = database.find_undecodable(most)

    assert (checkpoints.read, checkpoints.count) == (read, read)
    assert checkpoints.is_all == (read == STEPS)
    assert len(checkpoints.named) == min(read, NAMED)
    assert (blobs.read, blobs.count) == (read, 0)
    assert (writes.read, writes.count) == (0, 0)

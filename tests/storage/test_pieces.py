"""Values that are too large for one row: they are stored in pieces, and nothing else changes.

Most tests lower the limit of a row, so that a few thousand bytes are several pieces.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.serde.types import INTERRUPT
from sqlalchemy import Connection

from langgraph_session_saver import (
    CorruptBlobError,
    HistoryLostError,
    SessionDeletedError,
    SessionSaver,
)
from langgraph_session_saver.cli.target import Database
from langgraph_session_saver.encoding.pieces import HEAD_BYTES, PIECE_BYTES
from langgraph_session_saver.transfer import copy
from tests.conftest import MakeBackend
from tests.security.rotating import NEW_KEY, OLD_KEY, with_both, with_key
from tests.support.backends import BACKEND_NAMES, EACH_ONCE, Backend, Sql
from tests.support.drivers import DRIVERS, engine_of
from tests.support.faces import FACE_NAMES, SyncFaceAdapter
from tests.support.graphs import engine_of as saver_engine
from tests.support.rows import STORAGE, chain, config, counts, fails, put, run
from tests.support.savers import SaverFactory
from tests.support.statements import hook, is_waiting

BACKENDS_AND_FACES = EACH_ONCE
SERVERS = pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)
EVERY_FACE = pytest.mark.parametrize("face", FACE_NAMES, indirect=True)

LIMIT = 2_000
"""Bytes of a row, for most of these tests."""

IN_FIRST, IN_OTHERS = LIMIT - HEAD_BYTES, LIMIT - 1
"""Bytes of a value in its own row, and in each of its pieces."""

MakeLimited = Callable[..., SessionSaver]


@pytest.fixture
def make_limited(make_saver: SaverFactory) -> MakeLimited:
    """Makes savers whose rows take `LIMIT` bytes."""

    def make(**options: Any) -> SessionSaver:
        saver = make_saver(**options)
        saver._context.value_limit = LIMIT
        return saver

    return make


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress; their frame has one byte more."""
    return random.Random(seed).randbytes(size)


def in_pieces(count: int, seed: int = 0) -> bytes:
    """A value that is stored in its own row and so many more."""
    return noise(IN_FIRST + count * IN_OTHERS - 1, seed)


def digest(value: Any) -> Any:
    """What stands for a large value: a comparison of two that differ would be printed."""
    return sha256(value).hexdigest() if isinstance(value, bytes) and len(value) > 64 else value


async def values(saver: SessionSaver, thread: str = "t") -> list[Any]:
    """The digests of the channel `note` in each checkpoint, newest first."""
    found = [one async for one in saver.alist(config(thread))]
    return [digest(one.checkpoint["channel_values"]["note"]) for one in found]


async def value(saver: SessionSaver, thread: str = "t") -> Any:
    """The digest of the channel `note` in the newest checkpoint."""
    found = await saver.aget_tuple(config(thread))
    assert found is not None
    return digest(found.checkpoint["channel_values"]["note"])


async def writes(saver: SessionSaver, thread: str = "t") -> list[tuple[str, str, Any]]:
    """The writes after the newest checkpoint, with the digests of their values."""
    found = await saver.aget_tuple(config(thread))
    assert found is not None
    return [(task, name, digest(value)) for task, name, value in found.pending_writes or ()]


def blob_rows(sql: Sql) -> tuple[int, int]:
    """How many rows hold values, and how many hold pieces of them."""
    (row,) = sql(
        "SELECT count(CASE WHEN depth >= 0 THEN 1 END) AS own, "
        "count(CASE WHEN depth < 0 THEN 1 END) AS pieces FROM session_blobs"
    )
    return row["own"], row["pieces"]


def write_rows(sql: Sql) -> tuple[int, int]:
    """How many rows hold writes, and how many hold pieces of them."""
    (row,) = sql(
        "SELECT count(CASE WHEN idx > -1024 THEN 1 END) AS own, "
        "count(CASE WHEN idx < -1024 THEN 1 END) AS pieces FROM session_writes"
    )
    return row["own"], row["pieces"]


def orphans(sql: Sql) -> int:
    """Pieces of blobs that are not there."""
    (row,) = sql(
        "SELECT count(*) AS n FROM session_blobs p WHERE depth < 0 AND NOT EXISTS (SELECT 1 FROM "
        "session_blobs b WHERE b.thread_key = p.thread_key AND b.blob_key = p.base_key)"
    )
    return int(row["n"])


def damage(backend: Backend) -> dict[str, int]:
    """What `doctor` counts, where it counts any."""
    with Database.from_conn_string(backend.url) as database:
        related, _ = database.find_faults()
        rows = database.find_undecodable(None)
    found = {what: count for what, count, _ in related if count}
    return found | {each.table: each.count for each in rows if each.count}


# -- stored and read ------------------------------------------------------------------------------


@EVERY_FACE
@pytest.mark.parametrize(
    ("size", "pieces"),
    [
        (LIMIT - 2, 0),
        (LIMIT - 1, 0),
        (LIMIT, 1),
        (IN_FIRST + IN_OTHERS - 1, 1),
        (IN_FIRST + IN_OTHERS, 2),
        (IN_FIRST + 9 * IN_OTHERS, 10),
    ],
    ids=["under", "at", "over", "two rows", "over two rows", "several"],
)
async def test_a_value_reads_as_it_was_stored_on_both_sides_of_the_limit(
    make_limited: MakeLimited, sql: Sql, size: int, pieces: int
) -> None:
    writer, stored = make_limited(), noise(size)

    where = await put(writer, 1, {"note": stored})
    await writer.aput_writes(where, [("note", stored[::-1]), ("other", "small")], "task")

    assert await value(make_limited()) == digest(stored)
    assert await values(make_limited()) == [digest(stored)]
    assert await writes(make_limited()) == [
        ("task", "note", digest(stored[::-1])), ("task", "other", "small")
    ]  # fmt: skip
    assert blob_rows(sql) == (1, pieces)
    assert write_rows(sql) == (2, pieces)
    for table in STORAGE[2:]:
        assert sql(f"SELECT max(length(data)) AS n FROM {table}")[0]["n"] <= LIMIT


@pytest.mark.parametrize("driver", DRIVERS)
async def test_every_driver_takes_pieces_of_the_usual_size(
    make_backend: MakeBackend, driver: str
) -> None:
    backend = make_backend(DRIVERS[driver][0])
    writer, reader = (_called(SessionSaver(engine_of(backend, driver))) for _ in range(2))
    stored = noise(2 * PIECE_BYTES)

    where = await put(writer, 1, {"note": stored})
    await writer.aput_writes(where, [("note", stored[::-1])], "task")

    assert await value(reader) == digest(stored)
    assert await writes(reader) == [("task", "note", digest(stored[::-1]))]
    await backend.log.dispose_async()


def _called(saver: SessionSaver) -> Any:
    """A saver to be called by its async methods, whatever its driver."""
    return saver if saver._runner.is_async else SyncFaceAdapter(saver)


@pytest.fixture
def packet(backend: Backend, sql: Sql) -> Iterator[int]:
    """The packet limit of the server in bytes, 1 MB for new connections."""
    before = sql("SELECT @@max_allowed_packet AS n")[0]["n"]
    sql("SET GLOBAL max_allowed_packet = 1048576")
    yield 1 << 20
    sql(f"SET GLOBAL max_allowed_packet = {before}")


@EVERY_FACE
@pytest.mark.parametrize("backend_name", ["mariadb"], indirect=True)
async def test_a_value_over_the_packet_size_of_the_server_is_stored(
    packet: int, make_saver: SaverFactory, sql: Sql
) -> None:
    stored = noise(2 * packet)

    where = await put(make_saver(), 1, {"note": stored, "other": stored[: packet // 3]})
    await make_saver().aput_writes(where, [("note", stored[::-1])], "task")

    assert await value(make_saver()) == digest(stored)
    assert await writes(make_saver()) == [("task", "note", digest(stored[::-1]))]
    assert sql("SELECT max(length(data)) AS n FROM session_blobs")[0]["n"] <= packet // 2


async def test_values_that_are_too_large_together_are_stored_in_several_statements(
    make_limited: MakeLimited, sql: Sql
) -> None:
    stored = {name: noise(LIMIT - 1, seed) for seed, name in enumerate(("note", "other", "html"))}

    await put(make_limited(), 1, stored)

    found = await make_limited().aget_tuple(config())
    assert found is not None
    assert found.checkpoint["channel_values"] == stored
    assert blob_rows(sql) == (3, 0)


async def test_a_graph_runs_on_a_state_in_pieces(make_limited: MakeLimited, sql: Sql) -> None:
    steps = [{"note": in_pieces(3, 1)}, lambda state: {"other": len(state["note"])}]

    result = await run(chain(make_limited(), *steps), {"messages": [("human", "go")]})

    state = await chain(make_limited(), *steps).aget_state(config())
    assert digest(state.values["note"]) == digest(result["note"]) == digest(in_pieces(3, 1))
    assert state.values["other"] == len(in_pieces(3))
    assert orphans(sql) == 0


# -- changes --------------------------------------------------------------------------------------


async def test_a_small_change_of_a_value_in_pieces_is_stored_as_that(
    make_limited: MakeLimited, sql: Sql
) -> None:
    saver, first = make_limited(), in_pieces(5)
    second = first[:4_000] + b"changed" + first[4_000:]
    where = await put(saver, 1, {"note": first})

    await put(saver, 2, {"note": second}, where)

    assert blob_rows(sql) == (2, 5)
    assert await values(make_limited()) == [digest(second), digest(first)]


async def test_a_change_may_be_in_pieces_itself(make_limited: MakeLimited, sql: Sql) -> None:
    saver, first = make_limited(), in_pieces(9)
    second = first + in_pieces(3, seed=1)
    where = await put(saver, 1, {"note": first})

    await put(saver, 2, {"note": second}, where)

    assert sql("SELECT count(*) AS n FROM session_blobs WHERE depth = 1") == [{"n": 1}]
    assert blob_rows(sql) == (2, 9 + 4)
    assert await values(make_limited()) == [digest(second), digest(first)]


@pytest.mark.parametrize("counts", [(5, 2, 0), (0, 2, 5), (3, 3, 3)], ids=str)
async def test_values_that_shrink_grow_or_are_replaced_read_as_they_were(
    make_limited: MakeLimited, sql: Sql, counts: tuple[int, ...]
) -> None:
    saver, where = make_limited(), None
    stored = [in_pieces(count, seed) for seed, count in enumerate(counts)]

    for number, each in enumerate(stored):
        where = await put(saver, number, {"note": each}, where)

    assert await values(make_limited()) == [digest(each) for each in reversed(stored)]
    assert blob_rows(sql) == (3, sum(counts))


async def test_a_checkpoint_that_is_put_again_reads_as_the_first_time(
    make_limited: MakeLimited, sql: Sql
) -> None:
    await put(make_limited(), 1, {"note": in_pieces(2, seed=1)})

    await put(make_limited(), 1, {"note": in_pieces(4, seed=2)})

    assert await value(make_limited()) == digest(in_pieces(2, seed=1))
    await make_limited().adelete_thread("t")
    assert blob_rows(sql) == (0, 0)


# -- the writes of tasks --------------------------------------------------------------------------


async def test_a_write_that_changes_a_value_in_pieces_little_is_stored_as_that(
    make_limited: MakeLimited, sql: Sql
) -> None:
    saver, first = make_limited(), in_pieces(9)
    where = await put(saver, 1, {"note": first})

    await saver.aput_writes(where, [("note", b"little" + first)], "task")
    await saver.aput_writes(where, [("note", first + in_pieces(2, seed=1))], "other")

    assert write_rows(sql) == (2, 3)
    assert await writes(make_limited()) == [
        ("other", "note", digest(first + in_pieces(2, seed=1))),
        ("task", "note", digest(b"little" + first)),
    ]


@pytest.mark.parametrize("pieces", [(2, 4), (4, 2), (2, 0), (0, 2)], ids=str)
async def test_of_two_writes_of_a_task_the_first_stays(
    make_limited: MakeLimited, pieces: tuple[int, int]
) -> None:
    saver = make_limited()
    where = await put(saver, 1, {"note": "n"})

    for seed, count in enumerate(pieces):
        await saver.aput_writes(where, [("note", in_pieces(count, seed))], "task")

    assert await writes(make_limited()) == [("task", "note", digest(in_pieces(pieces[0], 0)))]


@pytest.mark.parametrize("pieces", [(2, 4), (4, 2), (2, 0), (0, 2)], ids=str)
async def test_of_two_interrupts_of_a_task_the_last_stays(
    make_limited: MakeLimited, backend: Backend, pieces: tuple[int, int]
) -> None:
    saver = make_limited()
    where = await put(saver, 1, {"note": "n"})

    for seed, count in enumerate(pieces):
        await saver.aput_writes(where, [(INTERRUPT, in_pieces(count, seed))], "task")

    assert await writes(make_limited()) == [("task", INTERRUPT, digest(in_pieces(pieces[1], 1)))]
    assert damage(backend) == {}


@SERVERS
async def test_no_deletion_comes_between_the_pieces_of_a_write(
    make_limited: MakeLimited, backend: Backend, sql: Sql
) -> None:
    """Else some would be left without their write, and belong to the next one of the task."""
    saver = make_limited()
    where = await put(saver, 1, {"note": "n"})
    with ThreadPoolExecutor(1) as executor:

        def delete(_conn: Connection) -> None:
            deletions.append(executor.submit(sql, "UPDATE sessions SET status = 'deleted'"))
            while not is_waiting(backend, sql):
                assert not deletions[0].done()

        deletions: list[Future[Any]] = []
        with hook(saver_engine(saver), "INSERT INTO session_writes", delete) as seen:
            await saver.aput_writes(where, [("note", in_pieces(9))], "task")
        deletions[0].result()

    assert seen[0] > 2
    assert await writes(make_limited()) == [("task", "note", digest(in_pieces(9)))]
    await fails(saver.aput_writes(where, [("note", in_pieces(9))], "other"), SessionDeletedError)
    assert write_rows(sql) == (1, 9)


# -- deleted and copied ---------------------------------------------------------------------------


async def fill(saver: SessionSaver, thread: str, run_id: str = "r") -> None:
    """Three checkpoints of one value each, in 2, 3 and 4 pieces, with writes as large."""
    where = config(thread)
    for number in (2, 3, 4):
        where = await put(saver, number, {"note": in_pieces(number, number)}, where, run_id=run_id)
        await saver.aput_writes(where, [("note", in_pieces(number, 100 + number))], "task")


NEWEST = digest(in_pieces(4, 4))


async def test_a_prune_deletes_the_pieces_of_what_it_deletes(
    make_limited: MakeLimited, sql: Sql
) -> None:
    saver = make_limited()
    await fill(saver, "t")

    await saver.aprune(["t"], strategy="keep_last", keep_last=1)

    assert (blob_rows(sql), orphans(sql), write_rows(sql)) == ((1, 4), 0, (1, 4))
    assert await values(make_limited()) == [NEWEST]


@pytest.mark.parametrize("pieces", [(2, 4), (4, 2), (2, 0), (0, 2)], ids=str)
@pytest.mark.parametrize("channel", ["note", INTERRUPT])
async def test_a_prune_deletes_the_pieces_of_what_was_stored_twice(
    make_limited: MakeLimited, sql: Sql, channel: str, pieces: tuple[int, int]
) -> None:
    """Of two values under one key, those of the one that is not read are of no use."""
    where = config()
    for seed, count in enumerate(pieces):
        saver = make_limited()
        where = await put(saver, 1, {"note": in_pieces(count, seed)})
        await saver.aput_writes(where, [(channel, in_pieces(count, seed))], "task")

    await put(saver, 2, {"note": "n"}, where)
    await saver.aprune(["t"], strategy="keep_latest")

    assert (blob_rows(sql), write_rows(sql)) == ((0, 0), (0, 0))


async def test_keep_last_deletes_pieces_with_their_values(
    make_limited: MakeLimited, sql: Sql
) -> None:
    saver, where = make_limited(keep_last=2), config()

    for number in range(40):
        where = await put(saver, number, {"note": in_pieces(3, number)}, where)
        await saver.aput_writes(where, [("note", in_pieces(2, 100 + number))], "task")

    own, pieces = blob_rows(sql)
    assert pieces == 3 * own
    assert own + pieces <= 2 * 4 + 32
    assert (orphans(sql), write_rows(sql)) == (0, (2, 4))
    assert await values(make_limited()) == [digest(in_pieces(3, n)) for n in (39, 38)]


@pytest.mark.parametrize("keeps_other", [True, False])
async def test_the_checkpoints_of_a_run_go_with_all_their_pieces(
    make_limited: MakeLimited, sql: Sql, keeps_other: bool
) -> None:
    saver = make_limited()
    await fill(saver, "t", run_id="gone")
    if keeps_other:
        await put(saver, 9, {"note": in_pieces(1, 9)}, config(), run_id="kept")

    await saver.adelete_for_runs(["gone"])

    assert blob_rows(sql) == ((1, 1) if keeps_other else (0, 0))
    assert write_rows(sql) == (0, 0)


async def test_a_deleted_thread_leaves_no_piece(make_limited: MakeLimited, sql: Sql) -> None:
    saver = make_limited()
    await fill(saver, "t")

    await saver.adelete_thread("t")

    assert not any(counts(sql).values())


async def test_a_copied_thread_has_pieces_of_its_own(make_limited: MakeLimited, sql: Sql) -> None:
    saver = make_limited()
    await fill(saver, "t")

    await saver.acopy_thread("t", "copy")
    await saver.adelete_thread("t")

    assert (blob_rows(sql), orphans(sql), write_rows(sql)) == ((3, 9), 0, (3, 9))
    assert await value(make_limited(), "copy") == NEWEST
    assert await writes(make_limited(), "copy") == [("task", "note", digest(in_pieces(4, 104)))]


@pytest.mark.parametrize("other", BACKEND_NAMES)
async def test_a_backup_restores_values_in_pieces(
    make_limited: MakeLimited,
    make_backend: MakeBackend,
    tmp_path: Path,
    other: Any,
) -> None:
    saver = make_limited()
    await fill(saver, "t")

    await saver.abackup(tmp_path / "a.backup")
    await saver.adelete_thread("t")
    await saver.arestore(tmp_path / "a.backup")  # no row is larger than its database takes
    with SessionSaver.from_conn_string(make_backend(other).url) as restored:
        restored.restore(tmp_path / "a.backup")

        each: Any
        for each in (make_limited(), SyncFaceAdapter(restored)):
            assert await value(each) == NEWEST
            assert await writes(each) == [("task", "note", digest(in_pieces(4, 104)))]


@pytest.mark.parametrize("other", BACKEND_NAMES)
async def test_a_database_is_copied_with_all_pieces(
    make_limited: MakeLimited, backend: Backend, make_backend: MakeBackend, other: Any
) -> None:
    await fill(make_limited(), "t")
    target = make_backend(other)

    copy(backend.url, target.url)

    with SessionSaver.from_conn_string(target.url) as saver:
        copied: Any = SyncFaceAdapter(saver)
        assert await value(copied) == NEWEST
        assert await writes(copied) == [("task", "note", digest(in_pieces(4, 104)))]
    assert damage(target) == {}


# -- encrypted ------------------------------------------------------------------------------------


async def test_values_in_pieces_are_encrypted_and_get_another_key(
    make_limited: MakeLimited, backend: Backend, sql: Sql
) -> None:
    await fill(make_limited(serde=with_key(OLD_KEY)), "t")
    assert (blob_rows(sql), write_rows(sql)) == ((3, 12), (3, 12))  # a nonce and a tag are added

    done = await make_limited(serde=with_both()).areencrypt()

    assert (done.changed, done.kept) == (3 * 4, 0)
    read = make_limited(serde=with_key(NEW_KEY), require_encryption=True)
    assert await value(read) == NEWEST
    assert await writes(read) == [("task", "note", digest(in_pieces(4, 104)))]
    assert (blob_rows(sql), orphans(sql), write_rows(sql)) == ((3, 12), 0, (3, 12))
    assert damage(backend) == {}


# -- inspected ------------------------------------------------------------------------------------


async def test_history_shows_the_sizes_of_all_pieces(make_limited: MakeLimited) -> None:
    saver = make_limited()
    where = await put(saver, 1, {"note": in_pieces(3)})
    await put(saver, 2, {"note": in_pieces(3) + b"!"}, where)

    newest, oldest = (await saver.ahistory("t")).entries

    assert (newest.size, oldest.size) == (len(in_pieces(3)) + 1, len(in_pieces(3)))
    assert newest.stored < LIMIT < len(in_pieces(3)) < oldest.stored < len(in_pieces(3)) + LIMIT


# -- damaged --------------------------------------------------------------------------------------

PIECES_OF_BLOB = "SELECT session_blobs.blob_key, session_blobs.data"
PIECES_OF_WRITE = "SELECT session_writes.idx, session_writes.data"
"""How the statements begin that read pieces."""

PIECE = {"session_blobs": "depth < 0", "session_writes": "idx < -2000000"}
"""By table, which rows are pieces; of writes, not the first ones."""


@pytest.mark.parametrize("table", PIECE)
async def test_a_missing_piece_raises_an_error_that_names_the_value(
    make_limited: MakeLimited, backend: Backend, sql: Sql, table: str
) -> None:
    await fill(make_limited(), "t")
    sql(f"DELETE FROM {table} WHERE {PIECE[table]}")
    words = ("channel 'note'", "checkpoint '1f0a", "stored in pieces", "are not all in the data")

    await fails(make_limited().aget_tuple(config()), HistoryLostError, *words)
    await fails(values(make_limited()), HistoryLostError, *words)

    assert damage(backend) == {"pieces": 3, table: 3}


@pytest.mark.parametrize("table", PIECE)
async def test_a_damaged_piece_raises_an_error_that_names_the_value(
    make_limited: MakeLimited, backend: Backend, sql: Sql, table: str
) -> None:
    await fill(make_limited(), "t")
    (row,) = sql(f"SELECT max(length(data)) AS n FROM {table} WHERE {PIECE[table]}")
    sql(
        f"UPDATE {table} SET data = :data WHERE {PIECE[table]} AND length(data) = {row['n']}",
        data=b"\x05" + bytes(row["n"] - 1),
    )
    words = ("channel 'note'", "checkpoint '1f0a", "stored in pieces", "were cut")

    await fails(make_limited().aget_tuple(config()), CorruptBlobError, *words)
    await fails(values(make_limited()), CorruptBlobError, *words)

    assert damage(backend) == {table: 3}


@pytest.mark.parametrize("reading", [value, values])
async def test_a_value_that_is_encrypted_anew_between_the_queries_of_a_read_is_read_again(
    make_limited: MakeLimited, backend: Backend, reading: Callable[[SessionSaver], Awaitable[Any]]
) -> None:
    await put(make_limited(serde=with_key(OLD_KEY)), 1, {"note": in_pieces(4)})
    reader, rotating = (
        make_limited(serde=with_both()),
        SessionSaver(backend.warm_engine(), serde=with_both()),
    )

    with hook(saver_engine(reader), PIECES_OF_BLOB, lambda _conn: rotating.reencrypt()):
        found = await reading(reader)

    assert found in (digest(in_pieces(4)), [digest(in_pieces(4))])


async def listed_writes(saver: SessionSaver) -> list[tuple[str, str, Any]]:
    """As `writes`, of the only checkpoint that a list has."""
    [found] = [one async for one in saver.alist(config())]
    return [(task, name, digest(value)) for task, name, value in found.pending_writes or ()]


@pytest.mark.parametrize("reading", [writes, listed_writes])
async def test_a_write_that_is_replaced_between_the_queries_of_a_read_is_the_old_or_the_new_one(
    make_limited: MakeLimited,
    backend: Backend,
    reading: Callable[[SessionSaver], Awaitable[list[Any]]],
) -> None:
    saver = make_limited()
    where = await put(saver, 1, {"note": "n"})
    await saver.aput_writes(where, [(INTERRUPT, in_pieces(4, 1))], "task")
    other = SessionSaver(backend.warm_engine())
    other._context.value_limit = LIMIT

    def replace(_conn: Connection) -> None:
        other.put_writes(where, [(INTERRUPT, in_pieces(4, 2))], "task")

    reader = make_limited()
    with hook(saver_engine(reader), PIECES_OF_WRITE, replace):
        found = await reading(reader)

    (only,) = found
    assert only in [("task", INTERRUPT, digest(in_pieces(4, seed))) for seed in (1, 2)]

"""Bad input: a clear error before anything is written."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from langgraph_session_saver import (
    CheckpointNotFoundError,
    InvalidConfigError,
    ProjectionError,
    SerializationError,
    SessionConflictError,
    SessionSaver,
    SessionSaverError,
    ValueTooLargeError,
)
from langgraph_session_saver.encoding.pieces import most_bytes
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import (
    chain,
    checkpoint,
    checkpoint_id,
    config,
    counts,
    fails,
    listed,
    one,
    put,
    run,
)
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE

Call = Callable[[SessionSaver, Any], Awaitable[Any]]


def _put(saver: SessionSaver, where: Any) -> Awaitable[Any]:
    return put(saver, 1, {"note": 1}, where)


def _put_writes(saver: SessionSaver, where: Any) -> Awaitable[Any]:
    return saver.aput_writes(where, [("note", 1)], "task")


def _get(saver: SessionSaver, where: Any) -> Awaitable[Any]:
    return saver.aget_tuple(where)


def _list(saver: SessionSaver, where: Any) -> Awaitable[Any]:
    return listed(saver, where)


def _history(saver: SessionSaver, where: Any) -> Awaitable[Any]:
    return saver.aget_delta_channel_history(config=where, channels=["note"])


def _delete(saver: SessionSaver, where: Any) -> Awaitable[Any]:
    return saver.adelete_thread(where["configurable"]["thread_id"])


def _prune(saver: SessionSaver, where: Any) -> Awaitable[Any]:
    return saver.aprune([where["configurable"]["thread_id"]])


def _copy_from(saver: SessionSaver, where: Any) -> Awaitable[Any]:
    return saver.acopy_thread(where["configurable"]["thread_id"], "other")


def _copy_to(saver: SessionSaver, where: Any) -> Awaitable[Any]:
    return saver.acopy_thread("t", where["configurable"]["thread_id"])


CONFIG_CALLS: list[Call] = [_put, _put_writes, _get, _list, _history]
ID_CALLS: list[Call] = [_delete, _prune, _copy_from, _copy_to]

BAD_THREAD_IDS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "a boolean": (True, ("thread_id is a bool (True)", "text, a UUID or a number")),
    "a list": (["t"], ("thread_id is a list (['t'])", "text, a UUID or a number")),
    "None": (None, ("thread_id is a NoneType (None)", "text, a UUID or a number")),
    "bytes": (b"t", ("thread_id is a bytes", "text, a UUID or a number")),
    "empty": ("", ("thread_id is empty", "UUID")),
    "with NUL": ("a\x00b", ("thread_id 'a\\x00b'", "NUL")),
    "with a lone surrogate": ("a\ud800", ("thread_id", "lone surrogate")),
    "too long": ("x" * 256, ("thread_id has 256 characters", "at most 255", "too long")),
}


async def refused(
    saver: SessionSaver, sql: Sql, call: Callable[[], Awaitable[Any]], *words: str
) -> None:
    """Assert that a call raises `InvalidConfigError`, a `ValueError`, and changes nothing."""
    await saver.asetup()
    before = counts(sql)
    error = await fails(call(), InvalidConfigError, *words)
    assert isinstance(error, ValueError)
    assert isinstance(error, SessionSaverError)
    assert counts(sql) == before


# -- configs and ids ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", [{}, {"metadata": {}}, {"configurable": None}])
async def test_a_config_without_configurable_is_refused(
    make_saver: SaverFactory, sql: Sql, where: Any
) -> None:
    saver = make_saver()
    for call in CONFIG_CALLS:
        await refused(saver, sql, partial(call, saver, where), "no 'configurable'", "thread_id")


async def test_a_config_without_a_thread_id_is_refused(saver: SessionSaver, sql: Sql) -> None:
    for call in CONFIG_CALLS:
        await refused(saver, sql, partial(call, saver, {"configurable": {}}), "names no thread")


@pytest.mark.parametrize("kind", BAD_THREAD_IDS)
async def test_an_invalid_thread_id_is_refused(
    make_saver: SaverFactory, sql: Sql, kind: str
) -> None:
    saver = make_saver()
    bad, words = BAD_THREAD_IDS[kind]
    where = {"configurable": {"thread_id": bad, "checkpoint_ns": ""}}
    for call in [*CONFIG_CALLS, *ID_CALLS]:
        await refused(saver, sql, partial(call, saver, where), *words)


async def test_a_run_with_an_invalid_thread_id_writes_nothing(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = chain(saver, {"note": 1})

    await refused(saver, sql, lambda: run(graph, {}, config("x" * 256)), "256 characters")
    await refused(saver, sql, lambda: run(graph, {}, config("")), "thread_id is empty")

    assert not any(counts(sql).values())


async def test_similar_thread_ids_are_different_threads(saver: SessionSaver, sql: Sql) -> None:
    close: list[Any] = ["a", "A", "á", "a\u0301", "a ", " a", "🌍" * 255, "🌍" * 254]
    for number, thread in enumerate(close):
        await put(saver, 1, {"note": number}, config(thread))

    for number, thread in enumerate(close):
        found = await saver.aget_tuple(config(thread))
        assert found is not None
        assert found.checkpoint["channel_values"] == {"note": number}
    assert {row["id"] for row in sql("SELECT id FROM sessions")} == set(close)
    assert counts(sql)["session_threads"] == len(close)


async def test_a_number_is_the_same_thread_id_as_its_text(saver: SessionSaver, sql: Sql) -> None:
    await put(saver, 1, {"note": 1}, {"configurable": {"thread_id": 17}})

    found = await saver.aget_tuple(config("17"))
    assert found is not None
    assert one(sql, "session_threads")["thread_id"] == "17"


@pytest.mark.parametrize(
    ("namespace", "words"),
    [
        ("n" * 4_001, ("checkpoint_ns has 4,001 characters", "at most 4,000", "too long")),
        ("a\x00", ("checkpoint_ns", "NUL")),
        ("a\ud800", ("checkpoint_ns", "lone surrogate")),
        (7, ("checkpoint_ns is an int", "pass text")),
    ],
    ids=["too long", "NUL", "surrogate", "number"],
)
async def test_an_invalid_namespace_is_refused(
    make_saver: SaverFactory, sql: Sql, namespace: Any, words: tuple[str, ...]
) -> None:
    saver = make_saver()
    where = config(checkpoint_ns=namespace, checkpoint_id=checkpoint_id(1))
    for call in CONFIG_CALLS:
        await refused(saver, sql, partial(call, saver, where), *words)


async def test_a_namespace_of_4000_characters_is_stored(saver: SessionSaver) -> None:
    names = ["🌍" * 4_000, "🌍" * 3_999 + "x"]
    for number, name in enumerate(names):
        await put(saver, 1, {"note": number}, config(checkpoint_ns=name))

    for number, name in enumerate(names):
        found = await saver.aget_tuple(config(checkpoint_ns=name))
        assert found is not None
        assert found.checkpoint["channel_values"] == {"note": number}


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        ("c" * 256, ("channel name has 256 characters", "at most 255", "too long")),
        ("a\x00", ("channel name", "NUL")),
        ("a\ud800", ("channel name", "lone surrogate")),
    ],
    ids=["too long", "NUL", "surrogate"],
)
async def test_an_invalid_channel_name_is_refused(
    make_saver: SaverFactory, sql: Sql, channel: str, words: tuple[str, ...]
) -> None:
    saver = make_saver()
    where = config(checkpoint_ns="", checkpoint_id=checkpoint_id(1))

    await refused(saver, sql, lambda: put(saver, 1, {channel: 1}), *words)
    await refused(saver, sql, lambda: saver.aput_writes(where, [(channel, 1)], "task"), *words)


async def test_a_channel_name_of_255_characters_is_stored(saver: SessionSaver) -> None:
    values = {"🌍" * 255: 1, "🌍" * 254 + "x": 2}
    where = await put(saver, 1, values)
    await saver.aput_writes(where, [("🌍" * 255, 3)], "task")

    found = await saver.aget_tuple(config())

    assert found is not None
    assert found.checkpoint["channel_values"] == values
    assert found.pending_writes == [("task", "🌍" * 255, 3)]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("session_id", "", ("session_id is empty",)),
        ("session_id", ["s"], ("session_id is a list",)),
        ("session_id", "a\x00", ("session_id", "NUL")),
        ("session_id", "s" * 256, ("session_id has 256 characters",)),
        ("owner_id", True, ("owner_id is a bool",)),
        ("owner_id", "o" * 256, ("owner_id has 256 characters",)),
        ("checkpoint_id", 5, ("checkpoint_id is an int",)),
        ("checkpoint_id", "a\x00", ("checkpoint_id", "NUL")),
        ("checkpoint_id", "c" * 256, ("checkpoint_id has 256 characters",)),
    ],
)
async def test_other_invalid_ids_are_refused(
    make_saver: SaverFactory, sql: Sql, option: str, value: Any, words: tuple[str, ...]
) -> None:
    saver = make_saver()
    for call in CONFIG_CALLS:
        where = config(**{option: value})
        await refused(saver, sql, partial(call, saver, where), *words)


async def test_writes_without_a_checkpoint_id_are_refused(saver: SessionSaver, sql: Sql) -> None:
    await refused(
        saver,
        sql,
        lambda: saver.aput_writes(config(checkpoint_ns=""), [("note", 1)], "task"),
        "'t' names no checkpoint_id",
    )


# -- a checkpoint that does not exist -----------------------------------------------------------


async def test_a_run_from_a_checkpoint_that_does_not_exist_is_refused(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = chain(saver, {"note": 1})
    await run(graph, {})
    before = counts(sql)

    error = await fails(
        run(graph, {"other": 2}, config(checkpoint_id="no-such")),
        CheckpointNotFoundError,
        "'t'",
        "no checkpoint 'no-such'",
        "Nothing was written",
    )

    assert isinstance(error, LookupError)
    assert counts(sql) == before


async def test_a_put_after_a_refused_one_names_the_same_missing_parent(
    saver: SessionSaver, sql: Sql
) -> None:
    nowhere = config(checkpoint_ns="", checkpoint_id="no-such")
    assert await saver.aget_tuple(nowhere) is None
    refused_one = config(checkpoint_ns="", checkpoint_id=checkpoint_id(1))

    for number, where in ((1, nowhere), (2, refused_one)):
        call = put(saver, number, {"note": 1}, where)
        await fails(call, CheckpointNotFoundError, "no checkpoint 'no-such'")

    assert not any(counts(sql).values())


async def test_an_update_of_a_checkpoint_that_does_not_exist_is_refused(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = chain(saver, {"note": 1})
    await run(graph, {})
    before = counts(sql)

    await fails(
        graph.aupdate_state(config(checkpoint_id="no-such"), {"note": 2}, as_node="step1"),
        CheckpointNotFoundError,
        "no checkpoint 'no-such'",
    )

    assert counts(sql) == before


async def test_a_missing_checkpoint_reads_as_none(saver: SessionSaver) -> None:
    await put(saver, 1, {"note": 1})

    assert await saver.aget_tuple(config(checkpoint_id="no-such")) is None
    assert await listed(saver, config(checkpoint_id="no-such")) == []


async def test_a_checkpoint_that_is_stored_later_is_no_longer_missing(saver: SessionSaver) -> None:
    named = config(checkpoint_ns="", checkpoint_id=checkpoint_id(1))
    assert await saver.aget_tuple(named) is None
    await put(saver, 1, {"note": 1})

    await put(saver, 2, {"note": 2}, named)

    assert await listed(saver, config()) == [checkpoint_id(2), checkpoint_id(1)]


# -- values -------------------------------------------------------------------------------------


async def test_an_unserialisable_value_raises_an_error_that_names_its_channel(
    saver: SessionSaver, sql: Sql
) -> None:
    await saver.asetup()

    error = await fails(
        put(saver, 1, {"note": threading.Lock()}),
        SerializationError,
        "channel 'note'",
        "thread 't'",
        "lock",
        "Nothing was written",
    )

    assert isinstance(error, TypeError)
    assert not any(counts(sql).values())


async def test_an_unserialisable_write_raises_an_error_that_names_its_channel(
    saver: SessionSaver, sql: Sql
) -> None:
    where = await put(saver, 1, {"other": 1})
    before = counts(sql)

    await fails(
        saver.aput_writes(where, [("other", 1), ("note", threading.Lock())], "task"),
        SerializationError,
        "channel 'note'",
        "'task'",
    )

    assert counts(sql) == before


async def test_a_run_resumes_after_its_unserialisable_value_is_fixed(
    saver: SessionSaver, sql: Sql
) -> None:
    values = iter([threading.Lock(), "mended"])
    graph = chain(saver, {"other": 1}, lambda _state: {"note": next(values)})
    await fails(run(graph, {}), SerializationError, "channel 'note'")

    result = await run(graph, None)

    assert (result["other"], result["note"]) == (1, "mended")
    assert (await graph.aget_state(config())).values["note"] == "mended"


async def test_unserialisable_metadata_raises_an_error_that_names_it(
    saver: SessionSaver, sql: Sql
) -> None:
    await saver.asetup()

    await fails(
        put(saver, 1, {"note": 1}, odd=threading.Lock()), SerializationError, "the metadata of"
    )

    assert not any(counts(sql).values())


async def test_a_value_over_the_limit_raises_an_error_with_channel_size_and_limit(
    saver: SessionSaver, sql: Sql
) -> None:
    where = await put(saver, 1, {"note": 1})
    saver._context.value_limit = 500
    before, limit = counts(sql), most_bytes(500)
    value = os.urandom(limit)  # its frame has one byte more
    words = ("channel 'note'", f"{limit + 1:,}", f"at most {limit:,}", "Nothing was written")

    await fails(put(saver, 2, {"note": value}, where), ValueTooLargeError, *words)
    error = await fails(
        saver.aput_writes(where, [("note", value)], "task"), ValueTooLargeError, *words
    )

    assert isinstance(error, ValueError)
    assert counts(sql) == before


async def test_metadata_over_the_limit_raises_an_error_with_size_and_limit(
    saver: SessionSaver, sql: Sql
) -> None:
    where = await put(saver, 1, {"note": 1})
    saver._context.value_limit = 1_500
    before = counts(sql)
    words = ("the metadata of checkpoint", " bytes", "at most 1,500", "Nothing was written")

    long = os.urandom(1_500).hex()
    await fails(put(saver, 2, {"note": 2}, where, long=long), ValueTooLargeError, *words)

    assert counts(sql) == before


async def test_a_projected_value_that_does_not_validate_is_refused_under_raise(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver(on_projection_error="raise")
    where = await put(saver, 1, {"note": 1})
    before = counts(sql)
    words = ("channel 'build_status'", "'exploded'", "pending, building, success, failed")

    error = await fails(put(saver, 2, {"build_status": "exploded"}, where), ProjectionError, *words)
    await fails(
        saver.aput_writes(where, [("build_status", "exploded")], "task"), ProjectionError, *words
    )

    assert isinstance(error, ValueError)
    assert counts(sql) == before


async def test_a_projected_value_that_does_not_validate_is_saved_under_record(
    saver: SessionSaver, sql: Sql
) -> None:
    where = await put(saver, 1, {"note": 1})
    await saver.aput_writes(where, [("build_status", "exploded")], "task")

    await put(saver, 2, {"build_status": "exploded"}, where)

    found = await saver.aget_tuple(config())
    assert found is not None
    assert found.checkpoint["channel_values"] == {"build_status": "exploded"}
    assert one(sql, "session_errors")["channel"] == "build_status"


# -- strategies and filters ---------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["sometimes", "", "DELETE", None])
async def test_an_unknown_strategy_is_refused(
    make_saver: SaverFactory, sql: Sql, strategy: Any
) -> None:
    saver = make_saver()
    await put(saver, 1, {"note": 1})

    await refused(
        saver,
        sql,
        lambda: saver.aprune(["t"], strategy=strategy),
        f"{strategy!r}",
        "keep_latest",
        "delete",
    )


HOSTILE = (
    "note' OR '1'='1",
    "'; DROP TABLE sessions; --",
    '"note"',
    "note`",
    "$.step",
    "step')) OR 1=1 --",
    "%",
    "\x00",
    "\ud800",
    "",
    "x" * 100_000,
)


async def test_a_hostile_filter_key_gives_no_rows(saver: SessionSaver, sql: Sql) -> None:
    await put(saver, 1, {"note": 1}, user="me")
    before = counts(sql)

    for key in HOSTILE:
        assert [found async for found in saver.alist(config(), filter={key: "me"})] == []

    assert counts(sql) == before


async def test_a_hostile_filter_value_gives_no_rows(saver: SessionSaver, sql: Sql) -> None:
    await put(saver, 1, {"note": 1}, user="me")
    before = counts(sql)

    for value in (*HOSTILE, b"me", ["me"], {"$ne": None}, object()):
        assert [found async for found in saver.alist(config(), filter={"user": value})] == []

    assert counts(sql) == before


@pytest.mark.parametrize("key", [1, None, b"user", ("user",)])
async def test_a_filter_key_that_is_not_text_is_refused(
    make_saver: SaverFactory, sql: Sql, key: Any
) -> None:
    saver = make_saver()
    await put(saver, 1, {"note": 1}, user="me")

    async def read() -> Any:
        return [found async for found in saver.alist(config(), filter={key: "me"})]

    await refused(saver, sql, read, f"key {key!r}", "keys are text")


# -- sessions and owners ------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["session", "owner"])
async def test_a_call_that_names_another_session_or_owner_is_refused(
    make_saver: SaverFactory, sql: Sql, what: str
) -> None:
    saver = make_saver()
    where = await put(saver, 1, {"note": 1}, config(**{f"{what}_id": "mine"}))
    before = counts(sql)
    named: Any = {"configurable": {**where["configurable"], f"{what}_id": "yours"}}
    words = {
        "session": ("thread 't'", "session 'mine'", "'yours'", "leave session_id out"),
        "owner": ("thread 't'", "not of the owner", "use another thread_id"),
    }[what]

    error = await fails(put(saver, 2, {"note": 2}, named), SessionConflictError, *words)
    await fails(saver.aput_writes(named, [("note", 1)], "task"), SessionConflictError, *words)

    assert isinstance(error, ValueError)
    assert counts(sql) == before
    assert await listed(saver, config()) == [checkpoint_id(1)]


@pytest.mark.parametrize("what", ["session", "owner"])
async def test_another_process_refuses_another_session_or_owner(
    make_saver: SaverFactory, sql: Sql, what: str
) -> None:
    await put(make_saver(), 1, {"note": 1}, config(**{f"{what}_id": "mine"}))
    before = counts(sql)
    graph = chain(make_saver(), {"note": 1})

    await fails(run(graph, {}, config(**{f"{what}_id": "yours"})), SessionConflictError)

    assert counts(sql) == before


async def test_the_first_call_that_names_an_owner_sets_it(saver: SessionSaver, sql: Sql) -> None:
    where = await put(saver, 1, {"note": 1})
    assert one(sql, "session_threads")["owner_id"] is None

    named: Any = {"configurable": {**where["configurable"], "owner_id": "ann"}}
    await put(saver, 2, {"note": 2}, named)

    assert one(sql, "session_threads")["owner_id"] == "ann"
    assert one(sql, "sessions")["owner_id"] == "ann"


async def test_a_call_that_names_neither_keeps_session_and_owner(
    saver: SessionSaver, sql: Sql
) -> None:
    where = await put(saver, 1, {"note": 1}, config(session_id="s", owner_id="ann"))

    await put(saver, 2, {"note": 2}, where)

    row = one(sql, "session_threads")
    assert (row["session_id"], row["owner_id"]) == ("s", "ann")
    assert one(sql, "sessions")["id"] == "s"


# -- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["keep_lasst", "durability", "url"])
async def test_an_unknown_option_is_refused(make_saver: SaverFactory, option: str) -> None:
    options: dict[str, Any] = {option: 3}
    with pytest.raises(TypeError, match=option):
        make_saver(**options)


@pytest.mark.parametrize("policy", ["ignore", "", None, "RAISE"])
async def test_an_unknown_policy_is_refused(make_saver: SaverFactory, policy: Any) -> None:
    with pytest.raises(InvalidConfigError, match="use 'record' or 'raise'"):
        make_saver(on_projection_error=policy)


async def test_a_closed_saver_raises(make_saver: SaverFactory) -> None:
    saver = make_saver()
    await put(saver, 1, {"note": 1})
    await make_saver.aclose()

    await fails(saver.aget_tuple(config()), InvalidConfigError, "closed")


async def test_a_checkpoint_without_values_is_stored(saver: SessionSaver) -> None:
    made = checkpoint(1, {})
    await saver.aput(config(), made, {"source": "input", "step": -1}, {})

    found = await saver.aget_tuple(config())

    assert found is not None
    assert found.checkpoint["channel_values"] == {}

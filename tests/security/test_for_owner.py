"""`saver.for_owner(…)`: a saver for which only one owner's threads and sessions exist."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import pytest

from langgraph_session_saver import (
    AccessDeniedError,
    InvalidConfigError,
    SessionSaver,
    SessionSaverError,
)
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.calls import CHANGES, READS, Calls, all_of, fill_thread, public_methods
from tests.support.houses import everything
from tests.support.rows import chain, config, fails, listed, one, put, run

BACKENDS_AND_FACES = EACH_ONCE

WHOLE: Calls = {
    "saver.backup": lambda saver, _name: saver.abackup("never.backup"),
    "saver.restore": lambda saver, _name: saver.arestore("never.backup"),
    "saver.reencrypt": lambda saver, _name: saver.areencrypt(),
    "saver.health": lambda saver, _name: saver.ahealth(),
}
"""They are about the rows of all owners, and are refused."""

OWN: Calls = {
    "saver.list": lambda saver, _name: all_of(saver.alist(None)),
    "saver.delete_for_runs": lambda saver, name: saver.adelete_for_runs([f"run of {name}"]),
    "saver.sweep": lambda saver, _name: saver.asweep(idle_for=timedelta(microseconds=1)),
    "sessions.list": lambda saver, _name: saver.sessions.alist(deleted=True),
    "sessions.usage_summary": lambda saver, _name: saver.sessions.ausage_summary("model"),
    "sessions.errors": lambda saver, _name: saver.sessions.aerrors(),
    "threads.list": lambda saver, _name: saver.threads.alist(deleted=True),
}
"""They go over what the owner has: here nothing."""

HARMLESS = {
    "saver.setup", "saver.close", "saver.from_conn_string", "saver.for_owner",
    "saver.with_allowlist", "saver.get_next_version", "saver.config_specs", "saver.serde",
    "saver.sessions", "saver.threads", "saver.state",
}  # fmt: skip
"""They name no thread and no session."""


async def fill(saver: SessionSaver) -> None:
    """A thread and session of bob's, and of nobody's, each with something in every table."""
    await fill_thread(saver, "bobs", owner_id="bob")
    await fill_thread(saver, "nobodys")


def test_what_each_public_method_does_with_what_is_anothers_is_tested() -> None:
    """A new method fails here until it is in a table of this module."""
    assert public_methods() == {*READS, *CHANGES, *WHOLE, *OWN, *HARMLESS}


async def outcome(call: Awaitable[Any], name: str) -> tuple[type, str]:
    """The type of what a call returns or raises, and its text without the id."""
    try:
        found = await call
    except SessionSaverError as exc:
        found = exc
    return type(found), str(found).replace(name, "…")


@pytest.mark.parametrize("theirs", ["bobs", "nobodys"])
async def test_reads_of_what_is_anothers_tell_nothing(saver: SessionSaver, theirs: str) -> None:
    await fill(saver)
    adas = saver.for_owner("ada")
    for method, call in READS.items():
        missing = await outcome(call(adas, "missing"), "missing")

        assert await outcome(call(adas, theirs), theirs) == missing, method

        is_error = issubclass(missing[0], Exception)
        assert not is_error or not issubclass(missing[0], PermissionError), method


async def test_the_reads_would_tell_something(saver: SessionSaver) -> None:
    """Without `for_owner`, or for the owner, they do."""
    await fill(saver)
    for reader in (saver, saver.for_owner("bob")):
        for method, call in READS.items():
            if "copy" in method or method == "saver.get_delta_channel_history":
                continue
            missing = await outcome(call(reader, "missing"), "missing")
            assert await outcome(call(reader, "bobs"), "bobs") != missing, method


@pytest.mark.parametrize("theirs", ["bobs", "nobodys"])
async def test_changes_of_what_is_anothers_are_refused(
    saver: SessionSaver, backend: Backend, theirs: str
) -> None:
    await fill(saver)
    adas = saver.for_owner("ada")
    await put(adas, 1, {"note": 1}, config("own"))
    before = everything(backend)
    for method, call in {**CHANGES, **WHOLE}.items():
        with pytest.raises(AccessDeniedError) as refused:
            await call(adas, theirs)
        assert "bob'" not in str(refused.value), method
        assert everything(backend) == before, method


async def test_what_goes_over_everything_leaves_out_what_is_anothers(
    saver: SessionSaver, backend: Backend
) -> None:
    adas = saver.for_owner("ada")
    without = {method: await outcome(call(adas, "bobs"), "bobs") for method, call in OWN.items()}
    await fill(saver)
    before = everything(backend)
    for method, call in OWN.items():
        assert await outcome(call(adas, "bobs"), "bobs") == without[method], method
        assert everything(backend) == before, method


async def test_the_owners_own_threads_are_swept_and_their_runs_deleted(
    saver: SessionSaver, sql: Sql
) -> None:
    await fill(saver)
    bobs = saver.for_owner("bob")

    await bobs.adelete_for_runs(["run of bobs", "run of nobodys"])
    left = sql(
        "SELECT thread_id FROM session_checkpoints JOIN session_threads USING (thread_key) "
        "ORDER BY thread_id"
    )
    assert [row["thread_id"] for row in left] == ["bobs", "nobodys", "nobodys"]

    await put(bobs, 1, {"note": 1}, config("other"))
    assert (await bobs.asweep(idle_for=timedelta(microseconds=1))).deleted_threads == 2
    assert [row["thread_id"] for row in sql("SELECT thread_id FROM session_threads")] == ["nobodys"]


async def test_new_threads_and_sessions_belong_to_the_owner(saver: SessionSaver, sql: Sql) -> None:
    adas = saver.for_owner("ada")
    await run(chain(adas, {"note": 1}), {}, config("t"))
    made = await adas.sessions.acreate("s")

    assert one(sql, "session_threads")["owner_id"] == "ada"
    assert one(sql, "sessions", "id = 't'")["owner_id"] == made.owner_id == "ada"


async def test_all_lists_have_the_owners_rows_only(saver: SessionSaver) -> None:
    for owner in ("ada", "eve"):
        graph = chain(saver.for_owner(owner), {"messages": [("ai", "Hello")]})
        await run(graph, {}, config(f"{owner}s"))
    await put(saver, 1, {}, config("nobodys"))
    adas = saver.for_owner("ada")

    assert {one.config["configurable"]["thread_id"] async for one in adas.alist(None)} == {"adas"}
    assert [found.thread_id for found in await adas.threads.alist()] == ["adas"]
    assert [found.id for found in await adas.sessions.alist()] == ["adas"]
    assert list(await adas.sessions.alist(owner_id="eve")) == []
    assert list(await adas.threads.alist(owner_id="eve")) == []
    assert len(await listed(saver, None)) > len(await listed(adas, None))


async def test_another_owner_cannot_be_named(saver: SessionSaver) -> None:
    adas = saver.for_owner("ada")

    await fails(put(adas, 1, {}, config(owner_id="eve")), AccessDeniedError)
    await fails(adas.aget_tuple(config(owner_id="eve")), AccessDeniedError)
    await fails(adas.sessions.acreate("s", owner_id="eve"), AccessDeniedError)
    await adas.sessions.acreate("s", owner_id="ada")
    await fails(adas.sessions.aupdate("s", owner_id="eve"), AccessDeniedError)
    await fails(adas.sessions.aupdate("s", owner_id=None), AccessDeniedError)


def test_a_saver_for_an_owner_makes_none_for_another(sync_saver: SessionSaver) -> None:
    adas = sync_saver.for_owner("ada")
    for owner, error in (("eve", AccessDeniedError), ("", InvalidConfigError)):
        try:
            adas.for_owner(owner)
        except error:
            continue
        raise AssertionError(owner)
    assert adas.for_owner("ada").threads.get("t") is None

"""Imported, copied and restored rows have the times of the checkpoints that brought them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from sqlalchemy import select

from langgraph_session_saver import Projection, SessionSaver
from langgraph_session_saver.checkpointer.maintenance import Counts
from langgraph_session_saver.schema.tables import build_tables
from langgraph_session_saver.transfer import copy
from tests.conftest import MakeBackend
from tests.projection.samples import spent, talk
from tests.support.backends import EACH_ONCE, Backend
from tests.support.rows import checkpoint, checkpoint_id, config
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE

THEN = datetime(2025, 3, 1, 9, 30, 0, 250_000, UTC)
TABLES = build_tables()

HUMAN, REPLY = *talk("a page, please"), spent("writer", 10, 2, id="reply")
STEPS: list[dict[str, Any]] = [
    {"messages": [HUMAN]},
    {"messages": [HUMAN, REPLY], "html": "<p>"},
    {"messages": [REPLY], "html": "<p>"},
]


def dated(number: int, values: dict[str, Any], at: datetime | str) -> Checkpoint:
    """A checkpoint made by hand, at a time."""
    made = checkpoint(number, values)
    made["ts"] = at if isinstance(at, str) else at.isoformat()
    return made


async def run_then(
    saver: BaseCheckpointSaver[Any], name: str = "t", at: datetime = THEN, *, fails: bool = True
) -> None:
    """A run of three steps, one each day; the task after the first one may fail at first."""
    where, before, versions = config(name, checkpoint_ns=""), dict[str, Any](), dict[str, Any]()
    for number, values in enumerate(STEPS):
        made = dated(number, values, at + timedelta(days=number))
        new = {k: v for k, v in made["channel_versions"].items() if before.get(k) != values[k]}
        versions |= new
        made["channel_versions"] = versions.copy()
        where = await saver.aput(where, made, {"source": "loop", "step": number}, new)
        before = values
        if fails and number == 0:
            writes = [("__error__", ValueError("out of flour"))]
            await saver.aput_writes(where, writes, "task", "~__pregel_pull, write")


def times_of(backend: Backend) -> dict[str, list[float | None]]:
    """Every time in the database, by table and column, as days since `THEN`."""
    t = TABLES
    columns = (
        t.sessions.c.created_at, t.sessions.c.updated_at,
        t.threads.c.created_at, t.threads.c.updated_at, t.threads.c.status_since,
        t.messages.c.timestamp, t.messages.c.removed_at, t.token_usage.c.timestamp,
        t.versions.c.created_at, t.errors.c.created_at, t.errors.c.recovered_at,
    )  # fmt: skip
    with backend.engine().connect() as conn:
        return {
            str(c): [None if at is None else (at - THEN) / timedelta(days=1) for at in found]
            for c in columns
            for found in [conn.scalars(select(c).order_by(c.table.primary_key.columns[0])).all()]
        }


AS_IT_WAS = {
    "sessions.created_at": [0],
    "sessions.updated_at": [2],
    "session_threads.created_at": [0],
    "session_threads.updated_at": [2],
    "session_threads.status_since": [2],
    "messages.timestamp": [0, 1],
    "messages.removed_at": [2, None],
    "token_usage.timestamp": [1],
    "versions.created_at": [1],
    "session_errors.created_at": [0],
    "session_errors.recovered_at": [1],
}


async def imported(saver: SessionSaver, name: str = "t", at: datetime = THEN) -> None:
    """Import a run of another saver."""
    other = InMemorySaver()
    await run_then(other, name, at)
    done = await saver.aimport_from(other)
    assert done.checkpoints == 3


async def test_imported_rows_have_the_times_of_their_checkpoints(
    saver: SessionSaver, backend: Backend
) -> None:
    await imported(saver)

    assert times_of(backend) == AS_IT_WAS


async def test_an_import_that_was_interrupted_continues_with_the_times(
    saver: SessionSaver, backend: Backend
) -> None:
    whole, half = InMemorySaver(), InMemorySaver()
    await run_then(whole)
    await run_then(half)
    del half.storage["t"][""][checkpoint_id(2)]
    await saver.aimport_from(half)

    await saver.aimport_from(whole)

    assert times_of(backend) == AS_IT_WAS


@pytest.mark.parametrize("way", ["restore", "copy"])
async def test_a_copied_or_restored_database_keeps_its_times(
    saver: SessionSaver, backend: Backend, make_backend: MakeBackend, tmp_path: Any, way: str
) -> None:
    await imported(saver)
    target = make_backend("sqlite")

    if way == "copy":
        copy(backend.url, target.url)
    else:
        await saver.abackup(tmp_path / "backup")
        with SessionSaver.from_conn_string(target.url) as other:
            other.restore(tmp_path / "backup")

    assert times_of(target) == AS_IT_WAS


async def test_a_copied_thread_has_the_times_of_the_original(saver: SessionSaver) -> None:
    await imported(saver)

    await saver.acopy_thread("t", "copy")

    original, copied = [await saver.sessions.aget(name) for name in ("t", "copy")]
    assert original is not None
    assert copied is not None
    assert (copied.created_at, copied.updated_at) == (original.created_at, original.updated_at)
    day = timedelta(days=1)
    assert [m.timestamp for m in (await saver.sessions.amessages("copy")).items] == [THEN + day]
    assert [v.created_at for v in (await saver.sessions.aversions("copy")).items] == [THEN + day]


async def test_usage_by_day_counts_an_import_on_its_days(saver: SessionSaver) -> None:
    await imported(saver)
    await imported(saver, "later", THEN + timedelta(days=5))

    found = await saver.sessions.ausage_summary("day")
    assert [row.day for row in found] == [date(2025, 3, 2), date(2025, 3, 7)]
    [since] = await saver.sessions.ausage_summary(since=THEN + timedelta(days=5))
    assert since.calls == 1


async def test_a_list_has_imported_sessions_in_the_order_of_their_times(
    saver: SessionSaver,
) -> None:
    now = datetime.now(UTC)
    for name, days in (("middle", 20), ("old", 40), ("young", 5)):
        await imported(saver, name, now - timedelta(days=days))

    found = await saver.sessions.alist()
    assert [session.id for session in found.items] == ["young", "middle", "old"]
    since = await saver.sessions.alist(updated_since=now - timedelta(days=10))
    assert [session.id for session in since.items] == ["young"]


async def test_a_sweep_finds_imported_threads_as_idle_as_they_were(saver: SessionSaver) -> None:
    now = datetime.now(UTC)
    for name, days in (("old", 40), ("young", 5)):
        await imported(saver, name, now - timedelta(days=days))

    removed = await saver.asweep(idle_for=timedelta(days=30))

    assert removed == Counts(threads=1, checkpoints=3, blobs=removed.blobs, deleted_threads=1)
    assert [session.id for session in (await saver.sessions.alist()).items] == ["young"]


async def test_an_import_does_not_date_a_session_back(saver: SessionSaver) -> None:
    made = await saver.sessions.acreate("t")

    await imported(saver)

    found = await saver.sessions.aget("t")
    assert found is not None
    assert (found.created_at, found.updated_at) == (made.created_at, made.created_at)
    [said, *_] = (await saver.sessions.amessages("t")).items
    assert said.timestamp.year == 2025


# -- steps --------------------------------------------------------------------------------------


async def test_a_run_s_rows_have_the_times_of_its_checkpoints(
    saver: SessionSaver, backend: Backend
) -> None:
    await run_then(saver, fails=False)

    found = times_of(backend)
    assert found == {name: found[name] and times for name, times in AS_IT_WAS.items()}


async def test_an_older_checkpoint_that_is_saved_late_does_not_date_its_thread_back(
    saver: SessionSaver, backend: Backend
) -> None:
    await run_then(saver, fails=False)
    before = times_of(backend)

    late = dated(1, {"note": 1}, THEN)
    await saver.aput(config("t"), late, {}, late["channel_versions"])

    assert before["session_threads.updated_at"] == [2]
    assert times_of(backend) == before


@pytest.mark.parametrize(
    ("ts", "is_now"),
    [
        ("2025-03-01T10:30:00.250000+01:00", False),
        ("2025-03-01T09:30:00.250Z", False),
        ("2025-03-01T09:30:00.250000", False),
        ("yesterday", True),
        ("", True),
        ("0001-01-01T00:00:00+14:00", True),
    ],
)
async def test_a_checkpoint_s_time_is_read_in_every_form_or_is_now(
    saver: SessionSaver, ts: str, is_now: bool
) -> None:
    made = dated(1, {"messages": [HUMAN]}, ts)
    started = datetime.now(UTC)

    await saver.aput(config(), made, {}, made["channel_versions"])

    [message] = (await saver.sessions.amessages("t")).items
    assert message.timestamp >= started if is_now else message.timestamp == THEN
    # A checkpoint whose age is unknown is not too old.
    assert (await saver.asweep(older_than=timedelta(days=1))).checkpoints == 0


async def test_a_projection_sees_the_time_of_its_step(make_saver: SaverFactory) -> None:
    class Noted(Projection):
        channels = ("note",)

        def columns(self, step: Any) -> dict[str, Any]:
            return {"status": step.time.date().isoformat()}

    saver = make_saver(projections={"note": Noted()})
    made = dated(1, {"note": "x"}, THEN)

    await saver.aput(config(), made, {}, made["channel_versions"])

    session = await saver.sessions.aget("t")
    assert session is not None
    assert session.status == "2025-03-01"

"""Copying a database to another: any pair, in pieces, resumable after a kill."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.errors import (
    InvalidConfigError,
    SchemaError,
    TransferConflictError,
    TransferMismatchError,
    ValueTooLargeError,
)
from langgraph_session_saver.transfer import Progress, copy
from tests.conftest import MakeBackend
from tests.support.backends import BACKEND_NAMES, Backend, BackendName, run_sql
from tests.support.houses import everything
from tests.support.rows import chain, config
from tests.support.zygote import Zygote


@pytest.mark.parametrize("other", BACKEND_NAMES)
def test_every_pair_of_databases_can_be_copied(
    house: Backend, backend: Backend, other: BackendName, make_backend: MakeBackend
) -> None:
    target = make_backend(other)
    copy(house.url, backend.url)

    done = copy(backend.async_url, target.async_url)

    assert everything(target) == everything(house)
    assert done.written == {name: len(rows) for name, rows in everything(house).items()}


def test_an_existing_copy_is_only_verified(house: Backend, make_backend: MakeBackend) -> None:
    target = make_backend("sqlite")
    told: list[Progress] = []
    copy(house.url, target.url)

    done = copy(house.url, target.url, told.append)

    total = sum(len(rows) for rows in everything(house).values())
    assert (sum(done.written.values()), sum(done.kept.values())) == (0, total)
    assert [p.what for p in told].index("verify") == len(told) // 2
    assert told[-1] == Progress(2 * total, 2 * total, "verify")


@pytest.mark.parametrize("pages", [3, 5])
def test_a_killed_copy_continues(
    house: Backend, backend: Backend, zygote: Zygote, pages: int
) -> None:
    child = zygote.spawn(
        "tests.support.houses:copy_and_tell", {"source": house.url, "target": backend.url}
    )
    child.wait_for(f"copied {pages}")
    child.kill()
    assert child.wait() == -signal.SIGKILL
    there = everything(backend)
    assert there["sessions"]
    assert not there["messages"]

    done = copy(house.url, backend.url)

    assert everything(backend) == everything(house)
    assert done.kept == {name: len(there[name]) for name in done.kept}


@pytest.fixture
def small(make_backend: MakeBackend) -> Iterator[Backend]:
    """An empty database of a server that takes packets of 1 MB."""
    backend = make_backend("mariadb")
    [before] = run_sql(backend, "SELECT @@max_allowed_packet AS n")
    run_sql(backend, "SET GLOBAL max_allowed_packet = 1048576")
    yield backend
    run_sql(backend, f"SET GLOBAL max_allowed_packet = {before['n']}")


def filled(make_backend: MakeBackend, sizes: list[int]) -> Backend:
    """A database with a value of each size, none of which compresses."""
    source = make_backend("sqlite")
    with SessionSaver.from_conn_string(source.url) as saver:
        for n, size in enumerate(sizes):
            chain(saver, {"note": random.Random(n).randbytes(size)}).invoke({}, config(str(n)))
    return source


def test_values_up_to_the_packet_size_of_the_target_are_copied(
    make_backend: MakeBackend, small: Backend
) -> None:
    source = filled(make_backend, [450_000, 100_000, 450_000, 300_000, 2_000, 450_000])

    copy(source.url, small.url)

    assert everything(small) == everything(source)


def test_a_value_over_the_packet_size_of_the_target_is_refused_before_anything_is_written(
    make_backend: MakeBackend, small: Backend
) -> None:
    source = filled(make_backend, [2_000, 500_000])

    with pytest.raises(
        ValueTooLargeError, match=r"session_blobs \(channel 'note'\) has .* takes at most 458,752"
    ):
        copy(source.url, small.url)

    assert not any(everything(small).values())


def test_other_rows_of_the_target_stay(house: Backend, make_backend: MakeBackend) -> None:
    target = make_backend("sqlite")
    with SessionSaver.from_conn_string(target.url) as saver:
        chain(saver, {"note": "x"}).invoke({"messages": [("user", "mine")]}, config("mine"))
    before = everything(target)

    copy(house.url, target.url)

    after = everything(target)
    assert all(row in after[name] for name, rows in before.items() for row in rows)
    rows = {name: len(rows) + len(before[name]) for name, rows in everything(house).items()}
    assert {name: len(rows) for name, rows in after.items()} == rows


def test_a_different_thread_with_the_same_id_is_refused(
    house: Backend, make_backend: MakeBackend
) -> None:
    target = make_backend("sqlite")
    with SessionSaver.from_conn_string(target.url) as saver:
        chain(saver, {"note": "x"}).invoke({"note": "y"}, config("written"))

    with pytest.raises(TransferConflictError, match=r"sessions has a row \(id 'written'\)"):
        copy(house.url, target.url)


def test_a_row_lost_by_the_target_meanwhile_is_detected(
    house: Backend, make_backend: MakeBackend
) -> None:
    target = make_backend("sqlite")
    engine = target.engine()

    def lose(progress: Progress) -> None:
        if progress.what == "session_errors":
            with engine.begin() as conn:
                conn.execute(text("DELETE FROM session_writes WHERE idx = 0"))

    with pytest.raises(TransferMismatchError, match="rows of session_writes"):
        copy(house.url, target.url, lose)


def test_a_row_changed_in_the_target_meanwhile_is_detected(
    house: Backend, make_backend: MakeBackend
) -> None:
    target = make_backend("sqlite")
    engine = target.engine()

    def change(progress: Progress) -> None:
        if progress.what == "session_errors":
            with engine.begin() as conn:
                conn.execute(text("UPDATE sessions SET title = 'Another' WHERE id = 'written'"))

    with pytest.raises(TransferMismatchError, match="'written'"):
        copy(house.url, target.url, change)


def test_a_missing_source_is_refused_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match="no database file"):
        copy(tmp_path / "none.db", tmp_path / "target.db")
    assert list(tmp_path.iterdir()) == []


def test_a_source_without_our_tables_is_refused(make_backend: MakeBackend) -> None:
    source, target = make_backend("sqlite"), make_backend("sqlite")
    with source.engine().begin() as conn:
        conn.execute(text("CREATE TABLE mine (a)"))
    with pytest.raises(SchemaError):
        copy(source.url, target.url)


def test_a_database_is_not_copied_to_itself(house: Backend) -> None:
    with pytest.raises(InvalidConfigError, match="are one database"):
        copy(house.url, house.async_url)

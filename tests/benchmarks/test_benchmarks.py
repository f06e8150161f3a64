"""The benchmark: exact counts, stored results, and the code that measures."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, make_url, text

from langgraph_session_saver import SessionSaver
from tests.benchmarks import filling
from tests.benchmarks.__main__ import main
from tests.benchmarks.bench import Bench
from tests.benchmarks.chart import cost, draw
from tests.benchmarks.contenders import OURS
from tests.benchmarks.databases import MariaDatabase, PostgresDatabase, SqliteFile
from tests.benchmarks.filling import CHECKPOINTS, fill_database, thread_name
from tests.benchmarks.measuring import Bar, Figure, Measured, Row, measure
from tests.benchmarks.results import RESULTS, Results
from tests.benchmarks.round_trips import BARS, counted
from tests.benchmarks.subjects import named
from tests.benchmarks.transactions import longest_transaction
from tests.benchmarks.workloads import WORKLOADS
from tests.support.backends import Backend

SHORT = ["--short", "--repeat", "1", "--databases", "SQLite"]
ONE_RUN = {"size", "chat-1000", "round-trips"}
"""Workloads whose figures are of one run, or of counts."""


@pytest.fixture
def file(tmp_path: Path) -> SqliteFile:
    return SqliteFile(URL.create("sqlite", database=str(tmp_path / "saver.db")))


# -- in small -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The results of a short run, in a new process."""
    directory = tmp_path_factory.mktemp("benchmarks")
    output = directory / "results.json"
    command = [sys.executable, "-m", "tests.benchmarks", *SHORT, "--only", "size", "saving"]
    subprocess.run(
        [*command, "--directory", str(directory), "--output", str(output)],
        cwd=RESULTS.parents[2],
        check=True,
        capture_output=True,
    )
    results = Results.read(output)
    assert output.with_suffix(".svg").read_text() == draw(results)
    assert [path.name for path in directory.iterdir() if path.is_dir()] == []
    return results


def find(results: Results, workload: str, what: str, peer: str) -> Row:
    [row] = [
        row
        for row in results.rows
        if row.workload == workload and what in row.what and row.peer == peer
    ]
    return row


def test_thirty_turns_take_less_than_a_third_of_the_official_savers_bytes(short: Results) -> None:
    row = find(short, "size", "vacuumed", "SqliteSaver")

    assert row.value.median < 0.5
    assert row.ratio is not None
    assert row.ratio < 0.3


@pytest.mark.parametrize("backend_name", ["postgresql"], indirect=True)
def test_each_call_takes_the_stated_number_of_round_trips_to_postgresql(backend: Backend) -> None:
    found = counted(OURS, PostgresDatabase(make_url(backend.url)))

    assert {name: count for name, count in found.items() if count > BARS[name].limit} == {}


@pytest.mark.parametrize("backend_name", ["mariadb"], indirect=True)
def test_each_call_takes_one_round_trip_to_mariadb(backend: Backend) -> None:
    found = counted(OURS, MariaDatabase(make_url(backend.url)))

    assert found == dict.fromkeys(BARS, 1)


# -- what is kept -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept() -> Results:
    return Results.read(RESULTS)


def test_the_stored_results_name_the_machine(kept: Results) -> None:
    assert {row.workload for row in kept.rows} <= set(WORKLOADS)
    assert kept.about["cpu"]
    assert set(kept.about["databases"]) == {"SQLite", "PostgreSQL", "MariaDB"}
    assert kept.about["doubts"] == []


def test_every_figure_is_a_median_of_five_or_says_that_it_is_not(kept: Results) -> None:
    few = [
        row
        for row in kept.rows
        if row.value.repeats < 5
        and row.workload not in ONE_RUN
        and "peak memory" not in row.what
        and row.note != f"of {row.value.repeats} rounds"
    ]

    assert few == []
    for row in kept.rows:
        assert row.value.low <= row.value.median <= row.value.high


def test_every_ratio_and_verdict_follows_from_the_figures(kept: Results) -> None:
    for row in kept.rows:
        if row.peer_value is not None and row.ratio is not None:
            assert row.ratio == pytest.approx(row.value.median / row.peer_value.median, rel=1e-3)
        if row.bar is not None:
            assert row.is_met == row.bar.is_met(row.value.median, row.ratio)


def test_the_chart_is_drawn_from_the_stored_results(kept: Results) -> None:
    assert RESULTS.with_suffix(".svg").read_text() == draw(kept)


# -- the command --------------------------------------------------------------------------------


def test_help_shows_an_example_and_every_workload(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])

    said = capsys.readouterr().out
    assert left.value.code == 0
    assert "--only saving" in said
    assert all(f"  {name} " in said for name in WORKLOADS)


def test_an_unknown_workload_is_refused_with_the_known_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "savings"])

    assert "'saving'" in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_skipped_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    options = ["--short", "--databases", "PostgreSQL", "--only", "round-trips"]

    assert main([*options, "--directory", str(tmp_path), "--postgres-url", nowhere]) == 0

    assert "skipping PostgreSQL: no PostgreSQL server answers" in capsys.readouterr().err


# -- measuring ----------------------------------------------------------------------------------


def test_contenders_take_turns_in_an_order_that_alternates_after_a_warm_up() -> None:
    order: list[str] = []
    values = iter(range(100))

    def sample(name: str) -> dict[str, float]:
        order.append(name)
        return {"time": next(values)}

    found = measure(
        {"a": lambda: sample("a"), "b": lambda: sample("b")}, repeats=3, say=lambda _said: None
    )

    assert "".join(order) == "baabbaab"
    assert found["a"]["time"] == Figure(median=5, low=2, high=6, repeats=3)
    assert found["b"]["time"] == Figure(median=4, low=3, high=7, repeats=3)


def row(workload: str, database: str, ours: float = 1.0, peer: float = 2.0) -> Row:
    figures = {name: {"time": Figure.of([v])} for name, v in (("ours", ours), ("peer", peer))}
    return Measured(workload, database, figures).row("time", "ms", "ours", "peer", Bar(0.5))


def test_a_bar_is_met_at_its_limit() -> None:
    assert row("saving", "SQLite", 1.0, 2.0).is_met
    assert not row("saving", "SQLite", 1.1, 2.0).is_met
    assert Bar(2.5, at_least=True).is_met(0, 2.5)
    assert not Bar(2.5, at_least=True).is_met(0, 2.4)
    assert Bar(4, of="value").is_met(4, 9)
    assert not Bar(1).is_met(0, None)


def test_a_rate_twice_that_of_the_peer_costs_half() -> None:
    assert cost(replace(row("threads", "SQLite", 4.0, 2.0), unit="steps/s")) == 0.5


def test_measuring_again_replaces_only_the_rows_of_that_workload_and_database() -> None:
    results = Results(rows=[row("b", "SQLite"), row("a", "SQLite"), row("a", "MariaDB")])

    results.merge([row("a", "SQLite", 7.0)], order=["a", "b"])

    found = [(r.workload, r.database, r.value.median) for r in results.rows]
    assert found == [("a", "MariaDB", 1.0), ("a", "SQLite", 7.0), ("b", "SQLite", 1.0)]


def test_written_results_read_back(tmp_path: Path) -> None:
    results = Results({"cpu": "one"}, [row("saving", "SQLite", 1.0, 3.0)])
    path = tmp_path / "results.json"

    results.write(path)
    first = path.read_text()
    Results.read(path).write(path)

    assert path.read_text() == first
    assert Results.read(path).rows[0].ratio == pytest.approx(1 / 3, rel=1e-4)


def test_labels_are_escaped_in_the_chart() -> None:
    strange = replace(row("saving", "SQLite"), what="a < b & c")

    assert "a &lt; b &amp; c" in draw(Results({}, [strange]))


# -- filling, and watching transactions ---------------------------------------------------------


def test_copied_threads_read_like_the_saved_one(file: SqliteFile) -> None:
    fill_database(file, 3, owners=2)

    with SessionSaver.from_conn_string(file.url) as saver:
        template = saver.get_tuple(named("template"))
        copy = saver.get_tuple(named(thread_name(2)))
        assert template is not None
        assert copy is not None
        assert copy.checkpoint == template.checkpoint
        assert len(list(saver.list(named(thread_name(2))))) == CHECKPOINTS
    assert file.run("SELECT count(*) FROM sessions WHERE owner_id = 'owner-0'") == [(2,)]
    assert file.run("SELECT count(*) FROM session_checkpoints") == [(4 * CHECKPOINTS,)]


def test_a_long_thread_is_one_chain_of_the_requested_length(
    file: SqliteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "ROUND", 6)
    filling.fill_thread(OURS, file, "long", 18)

    with SessionSaver.from_conn_string(file.url) as saver:
        found = list(saver.list(named("long")))
    ids = [item.checkpoint["id"] for item in found]
    parents = [(item.parent_config or {}).get("configurable", {}) for item in found]
    assert len(set(ids)) == 18
    assert [parent.get("checkpoint_id") for parent in parents] == [*ids[1:], None]
    assert file.run("SELECT count(DISTINCT checkpoint_id) FROM session_writes") == [(15,)]
    counts = [item.checkpoint["channel_values"].get("count") for item in found]
    assert counts[:6] == counts[6:12]


@pytest.mark.parametrize("backend_name", ["postgresql"], indirect=True)
def test_a_filled_thread_is_the_same_in_another_database(
    file: SqliteFile, backend: Backend
) -> None:
    target = PostgresDatabase(make_url(backend.url))
    filling.fill_thread(OURS, file, "long", 12)

    filling.fill_alike(file, target)

    listed = []
    for database in (file, target):
        with SessionSaver.from_conn_string(database.url) as saver:
            listed.append([(item.checkpoint, item.metadata) for item in saver.list(named("long"))])
    assert len(listed[0]) == 12
    assert listed[0] == listed[1]
    for table in ("session_blobs", "session_writes", "sessions"):
        count = f"SELECT count(*) FROM {table}"
        assert file.run(count) == target.run(count)
    assert target.run(
        "SELECT reltuples::bigint FROM pg_class WHERE relname = 'session_checkpoints'"
    ) == [(12,)]


def test_a_workload_of_few_rounds_says_how_many() -> None:
    assert Bench({}, repeats=5).few(3) == (3, "of 3 rounds")
    assert Bench({}, repeats=1).few(3) == (1, "of 1 rounds")


def test_the_longest_transaction_of_several_is_found(file: SqliteFile) -> None:
    with longest_transaction(file) as longest:
        engine = create_engine(file.url)
        with engine.begin() as conn:
            conn.execute(text("CREATE TABLE t (n INTEGER)"))
        started = time.perf_counter()
        with engine.begin() as conn:
            conn.execute(text("INSERT INTO t VALUES (1)"))
            time.sleep(0.05)
        taken = time.perf_counter() - started
        engine.dispose()

    assert 0.05 <= longest.seconds <= taken

"""The tests' tools: servers, backends, faces, documented commands and forked processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from sqlalchemy import create_engine, text

from tests.support.backends import Backend, EngineLog, Sql
from tests.support.compare import Tee
from tests.support.faces import SyncFace, SyncFaceAdapter
from tests.support.forwarding import ForwardingSaver
from tests.support.kept import Beside
from tests.support.readme import ReadmeError, blocks, command
from tests.support.servers import (
    POSIX_ZONE,
    BackendMissingError,
    PrivateServer,
    ServerPark,
    free_port,
)
from tests.support.zygote import PRELOADED, Zygote, ZygoteError

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = "tests.support.samples"


class Counter(TypedDict):
    count: int


class Pair:
    """Has sync methods and their async twins, like a repository of the saver."""

    def get(self, key: str) -> str:
        return f"sync {key}"

    async def aget(self, key: str) -> str:
        return f"async {key}"

    def list(self) -> list[int]:
        return [1, 2]

    async def alist(self) -> Any:
        for number in (3, 4):
            yield number

    async def aonly(self) -> None: ...


def test_each_backend_is_an_empty_database_of_its_own(backend: Backend, sql: Sql) -> None:
    sql("CREATE TABLE only_here (id INTEGER)")
    sql("INSERT INTO only_here VALUES (:id)", id=7)
    assert sql("SELECT id FROM only_here") == [{"id": 7}]
    assert backend.server is None or backend.url.startswith(("postgresql+psycopg", "mysql+pymysql"))


def test_no_table_of_another_test_is_seen(sql: Sql) -> None:
    sql("CREATE TABLE only_here (id INTEGER)")
    assert sql("SELECT * FROM only_here") == []


async def test_both_engines_reach_the_same_database(backend: Backend) -> None:
    with backend.engine().begin() as connection:
        connection.execute(text("CREATE TABLE shared (id INTEGER)"))
        connection.execute(text("INSERT INTO shared VALUES (1)"))
    async with backend.async_engine().connect() as connection:
        rows = await connection.execute(text("SELECT id FROM shared"))
        assert rows.scalars().all() == [1]


@pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)
def test_a_killed_server_comes_back_with_what_it_had_acknowledged(
    backend: Backend, sql: Sql
) -> None:
    server = backend.server
    assert server is not None
    if not server.controllable:
        pytest.skip("only a server of our own can be killed")
    port = server.port
    sql("CREATE TABLE kept (id INTEGER)")
    sql("INSERT INTO kept VALUES (1)")
    server.kill()
    with pytest.raises(Exception, match=r"refused|Can't connect"):
        sql("SELECT * FROM kept")
    server.start()
    assert server.port == port
    assert sql("SELECT * FROM kept") == [{"id": 1}]


@pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)
def test_a_private_server_has_an_unusual_time_zone(backend: Backend, sql: Sql) -> None:
    if not isinstance(backend.server, PrivateServer):
        pytest.skip("only a server of our own")
    asked = {
        "postgresql": "SELECT current_setting('timezone') AS zone",
        "mariadb": "SELECT timediff(now(), utc_timestamp()) AS zone",
    }[backend.name]
    zone = str(sql(asked)[0]["zone"])
    assert zone in {POSIX_ZONE, "5:45:00"}


def test_a_leaked_connection_is_reported(tmp_path: Path) -> None:
    log = EngineLog()
    engine = create_engine(f"sqlite:///{tmp_path / 'leak.db'}")
    log.add(engine)
    assert log.leaks() == []
    connection = engine.connect()
    assert len(log.leaks()) == 1
    connection.close()
    assert log.leaks() == []
    log.dispose()


def test_a_server_that_does_not_answer_is_missing_with_its_address_and_no_password() -> None:
    park = ServerPark(postgres_url=f"postgresql://me:hidden@127.0.0.1:{free_port()}/postgres")
    with pytest.raises(BackendMissingError, match=r"no PostgreSQL server answers at 127") as caught:
        park.get("postgresql")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("required", "workers", "outcome"), [(False, 1, "1 skipped"), (True, 0, "1 error")]
)
def test_a_missing_backend_is_skipped_with_its_reason_unless_it_is_required(
    *, required: bool, workers: int, outcome: str
) -> None:
    url = f"mysql://me:hidden@127.0.0.1:{free_port()}"
    probe = f"{__file__}::{test_no_table_of_another_test_is_seen.__name__}[mariadb]"
    options = ["--mysql-url", url, "-n", str(workers)]
    if required:
        options.append("--require-backends")
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", probe, *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in run.stdout, run.stdout + run.stderr
    assert (run.returncode != 0) is required
    assert "missing backends" in run.stdout
    assert "mariadb: no MariaDB server answers at 127.0.0.1:" in run.stdout
    assert "hidden" not in run.stdout + run.stderr


@pytest.mark.parametrize("kind", [ForwardingSaver, SyncFaceAdapter, Tee, Beside])
@pytest.mark.parametrize("method", ["put_writes", "aput_writes"])
def test_a_forwarding_saver_takes_the_path_of_a_task(
    kind: type[ForwardingSaver], method: str
) -> None:
    """LangGraph looks at the signature, and leaves the path out where there is no such argument."""
    expected = signature(getattr(BaseCheckpointSaver, method)).parameters
    assert list(signature(getattr(kind, method)).parameters) == list(expected)


async def test_the_sync_face_runs_a_graph_through_the_sync_methods() -> None:
    class SyncOnly(InMemorySaver):
        async def aput(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("the async method was called")

        aget_tuple = aput_writes = aput

    saver = SyncFaceAdapter(SyncOnly())
    builder = StateGraph(Counter)
    builder.add_node("add", lambda state: {"count": state["count"] + 1})
    builder.add_edge(START, "add")
    builder.add_edge("add", END)
    graph = builder.compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "1"}}
    assert await graph.ainvoke({"count": 1}, config) == {"count": 2}
    assert len([item async for item in saver.alist(config)]) == 3
    assert [item.checkpoint["id"] for item in saver.list(config, limit=1)] == [
        item.checkpoint["id"] async for item in saver.alist(config, limit=1)
    ]
    await saver.adelete_thread("1")
    assert await saver.aget_tuple(config) is None


def test_the_sync_face_shares_its_serde_with_the_saver() -> None:
    inner = InMemorySaver()
    adapter = SyncFaceAdapter(inner)
    adapter.serde = serde = JsonPlusSerializer(pickle_fallback=True)
    assert inner.serde is serde
    assert adapter.serde is serde
    clone = adapter.with_allowlist([("a.module", "Class")])
    assert clone is adapter or isinstance(clone, SyncFaceAdapter)


async def test_the_sync_face_calls_sync_twins_by_their_async_names() -> None:
    face = SyncFace(Pair())
    assert await face.aget("key") == "sync key"
    assert [number async for number in face.alist()] == [1, 2]
    assert face.get("key") == "sync key"
    with pytest.raises(AttributeError):
        _ = face.aonly


def test_the_output_of_a_child_is_read_until_it_is_killed(zygote: Zygote) -> None:
    child = zygote.spawn(f"{SAMPLES}:count_for_ever", {"start": 3})
    assert child.wait_for("step 5") == "step 5"
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert child.lines[:3] == ["step 3", "step 4", "step 5"]
    child.kill()  # too late and without effect
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_a_stopped_child_prints_nothing_until_it_goes_on(zygote: Zygote) -> None:
    child = zygote.spawn(f"{SAMPLES}:count_for_ever")
    child.wait_for("1")
    for _ in range(3):
        child.stop()
        child.read_printed()
        until_stop = len(child.lines)
        child.read_printed()
        assert len(child.lines) == until_stop
        child.go_on()
        while len(child.lines) == until_stop:
            assert child.reads_on()
    child.stop()
    child.kill()
    assert child.wait() == -signal.SIGKILL


def test_a_child_that_has_ended_is_not_stopped(zygote: Zygote) -> None:
    child = zygote.spawn(f"{SAMPLES}:leave", {"code": 7})
    while child.reads_on():
        pass
    with pytest.raises(ZygoteError, match="ended before it was stopped"):
        child.stop()
    assert child.wait() == 7


def test_a_child_reports_its_exit_and_its_error(zygote: Zygote) -> None:
    good = zygote.spawn(f"{SAMPLES}:say", {"what": "héllo"})
    assert good.wait() == 0
    assert good.lines == ["héllo"]
    left = zygote.spawn(f"{SAMPLES}:leave", {"code": 7})
    assert left.wait() == 7
    failed = zygote.spawn(f"{SAMPLES}:fail", {"message": "on purpose"})
    with pytest.raises(ZygoteError, match="RuntimeError: on purpose"):
        failed.wait_for("never said")
    assert failed.wait() == 1


def test_a_child_runs_a_coroutine(zygote: Zygote) -> None:
    child = zygote.spawn(f"{SAMPLES}:say_in_a_loop", {"what": "looped"})
    assert child.wait() == 0
    assert child.lines == ["looped"]


def test_children_differ_in_their_random_numbers(zygote: Zygote) -> None:
    said = []
    for _ in range(3):
        child = zygote.spawn(f"{SAMPLES}:say_a_random_number")
        child.wait()
        said.append(child.text)
    assert len(set(said)) == 3
    child = zygote.spawn(f"{SAMPLES}:count_threads")
    child.wait()
    assert child.lines == ["threads 1"]


def test_an_unknown_target_is_refused_and_the_zygote_continues(zygote: Zygote) -> None:
    with pytest.raises(ZygoteError, match="no_such_module"):
        zygote.spawn("tests.no_such_module:run")
    assert zygote.spawn(f"{SAMPLES}:say", {"what": "here"}).wait() == 0


def test_children_can_be_started_and_killed_one_after_another(zygote: Zygote) -> None:
    for _ in range(20):
        child = zygote.spawn(f"{SAMPLES}:count_for_ever")
        child.wait_for("step 1")
        child.kill()
        assert child.wait() == -signal.SIGKILL


def test_a_child_has_imported_what_its_zygote_has(zygote: Zygote) -> None:
    """That is why one starts within milliseconds."""
    child = zygote.spawn(f"{SAMPLES}:say_what_is_missing", {"modules": list(PRELOADED)})
    child.wait()
    assert child.lines == ["missing: []"]


def test_the_children_die_with_their_zygote() -> None:
    with Zygote(preload=()) as zygote:
        child = zygote.spawn(f"{SAMPLES}:sleep_for_ever")
        child.wait_for("asleep")
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
    child.close()


README = """# Title

<!-- command: run -->
```console
pip install . && run
```

## Use

~~~python
print("```")
~~~

````markdown
```
inner
```
````
"""


def test_the_readmes_blocks_are_read_with_their_language_line_and_heading() -> None:
    first, second, third = blocks(README)
    assert (first.language, first.body, first.line) == ("console", "pip install . && run", 5)
    assert first.comment == ("command", "run")
    assert (second.language, second.body, second.heading) == ("python", 'print("```")', "Use")
    assert third.body == "```\ninner\n```"
    assert third.comment is None


def test_a_command_is_one_line_under_its_own_mark() -> None:
    assert command(README, "run") == "pip install . && run"
    with pytest.raises(ReadmeError, match="0 blocks"):
        command(README, "test")
    with pytest.raises(ReadmeError, match="2 blocks"):
        command(README + README, "run")
    with pytest.raises(ReadmeError, match="exactly one line"):
        command(README.replace(" && run", "\nrun"), "run")
    with pytest.raises(ReadmeError, match="not closed"):
        blocks("```\nnever")

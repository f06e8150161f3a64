"""Fixtures for backends, faces and savers. Missing backends are reported."""

from __future__ import annotations

import inspect
import platform
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NoReturn, TypeAlias, cast

import pytest
from hypothesis import settings
from sqlalchemy import make_url

from langgraph_session_saver import SessionSaver
from tests.support.backends import BACKEND_NAMES, Backend, BackendName, Sql, fresh_backend, run_sql
from tests.support.commands import Python
from tests.support.databases import Databases
from tests.support.faces import FACE_NAMES, FaceName
from tests.support.houses import furnish, furnish_by_hand
from tests.support.savers import SaverFactory
from tests.support.servers import (
    BackendMissingError,
    ServerPark,
    find_mariadb,
    find_postgresql,
    installed_version,
)
from tests.support.zygote import Zygote

pytest.register_assert_rewrite("tests.support.compare_rows")
# Other work on the machine makes an example slow, and each run has the same examples.
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")

DATABASES = pytest.StashKey[Databases]()
MISSING = pytest.StashKey[dict[str, str]]()
MakeBackend: TypeAlias = Callable[[BackendName], Backend]
SAVERS = frozenset({"make_saver", "saver", "sync_saver"})
LONG = {
    "test_cancelled_and_killed.py",
    "test_long_chat.py",
    "test_differential.py",
    "test_kill.py",
    "test_retention_differential.py",
    "test_soak.py",
}
REPORTED_PACKAGES = ("sqlalchemy", "langgraph", "langgraph-checkpoint")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("backends")
    group.addoption(
        "--postgres-url",
        metavar="URL",
        help="run the PostgreSQL tests on this server (databases are created and dropped there) "
        "instead of a private one",
    )
    group.addoption(
        "--mysql-url",
        metavar="URL",
        help="run the MariaDB tests on this MySQL or MariaDB server (databases are created and "
        "dropped there) instead of a private one",
    )
    group.addoption(
        "--require-backends",
        action="store_true",
        help="a backend that this machine cannot offer is a failure, not a skip",
    )


def pytest_configure(config: pytest.Config) -> None:
    park = ServerPark(
        postgres_url=config.getoption("--postgres-url"), mysql_url=config.getoption("--mysql-url")
    )
    config.stash[DATABASES] = Databases(park)
    config.stash[MISSING] = {}
    if config.getoption("--require-backends"):
        missing = park.find()
        if missing:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
            raise pytest.UsageError(f"--require-backends: {reasons}")


def pytest_unconfigure(config: pytest.Config) -> None:
    databases = config.stash.get(DATABASES, None)
    if databases is not None:
        databases.close()


def pytest_report_header(config: pytest.Config) -> list[str]:
    packages = ", ".join(f"{name} {_package_version(name)}" for name in REPORTED_PACKAGES)
    backends = ", ".join(
        [
            f"SQLite {sqlite3.sqlite_version}",
            f"PostgreSQL {_postgresql_version(config)}",
            f"MariaDB {_mariadb_version(config)}",
        ]
    )
    return [f"versions: Python {platform.python_version()}, {packages}", f"backends: {backends}"]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the missing backends from a worker to the process that prints the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["missing"] = session.config.stash.get(MISSING, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    output = getattr(node, "workeroutput", {})
    node.config.stash[MISSING] |= output.get("missing", {})


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    missing = config.stash.get(MISSING, {})
    if missing:
        terminalreporter.section("missing backends")
        for name, reason in missing.items():
            terminalreporter.line(f"{name}: {reason}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first, so that the workers end at about the same time.

    Heavy tests may take hours: `timeout`, which ends a test that hangs, does not apply to them.
    """
    items.sort(key=lambda item: item.path.name not in LONG)
    for item in items:
        if item.get_closest_marker("heavy"):
            item.add_marker(pytest.mark.timeout(0))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test over every backend and face that it asks for.

    A module's `BACKENDS_AND_FACES` names the pairs its tests run over, instead of all nine; a
    test's own `parametrize` of either comes first.
    """
    named = {str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize")}
    asked = {"backend_name", "face"} & set(metafunc.fixturenames) - named
    pairs = getattr(metafunc.module, "BACKENDS_AND_FACES", None)
    if pairs and len(asked) == 2:
        metafunc.parametrize(("backend_name", "face"), pairs, indirect=True)
        return
    for name, values in (("backend_name", BACKEND_NAMES), ("face", FACE_NAMES)):
        if name in asked:
            metafunc.parametrize(name, values, indirect=True)


@pytest.fixture
def backend_name(request: pytest.FixtureRequest) -> BackendName:
    """Each backend's name, in turn."""
    return cast("BackendName", request.param)


@pytest.fixture
def face(request: pytest.FixtureRequest) -> FaceName:
    """Each way of calling a saver, in turn: sync, async over an Engine, over an AsyncEngine."""
    return cast("FaceName", request.param)


@pytest.fixture
def make_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeBackend]:
    """``make_backend(name)``: another new, empty database."""
    with ExitStack() as made:
        yield partial(_make_backend, request.config, made, tmp_path)


@pytest.fixture(scope="module")
def make_lasting_backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeBackend]:
    """Like ``make_backend``, for databases that the tests of a module share and do not change."""
    with ExitStack() as made:
        yield partial(_make_backend, request.config, made, tmp_path_factory.mktemp("lasting"))


def _make_backend(
    config: pytest.Config,
    made: ExitStack,
    directory: Path,
    name: BackendName,
    *,
    is_set_up: bool = False,
) -> Backend:
    place = Path(mkdtemp(dir=directory))
    context = fresh_backend(name, config.stash[DATABASES], place, is_set_up=is_set_up)
    try:
        backend = made.enter_context(context)
    except BackendMissingError as error:
        report_missing(config, name, str(error))
    made.callback(backend.log.dispose)
    return backend


def report_missing(config: pytest.Config, name: str, why: str) -> NoReturn:
    """Skip a test for what this machine cannot offer, or fail it with `--require-backends`."""
    config.stash[MISSING][name] = why
    reason = f"{name} is missing: {why}"
    if config.getoption("--require-backends"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def house(make_lasting_backend: MakeBackend) -> Backend:
    """A SQLite database with rows in every table. Tests must not change it."""
    backend = make_lasting_backend("sqlite")
    with SessionSaver.from_conn_string(backend.url) as saver:
        furnish(saver)
    furnish_by_hand(backend)
    return backend


@pytest.fixture
def _database(
    backend_name: BackendName, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Backend]:
    with ExitStack() as made:
        is_set_up = _uses_savers(request)
        yield _make_backend(request.config, made, tmp_path, backend_name, is_set_up=is_set_up)


@pytest.fixture
async def _async_engines(_database: Backend) -> AsyncIterator[None]:
    yield
    await _database.log.dispose_async()


@pytest.fixture
def backend(_database: Backend, request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A fresh database on each backend in turn.

    It has no tables yet, or where the test asks for a saver our tables without rows: to make them
    takes longer than most tests. The mark `empty_database` is for tests of setting up.
    Ends by asserting that no engine made by it has a connection checked out, and disposes them.
    """
    if _has_loop(request):
        request.getfixturevalue("_async_engines")
    yield _database
    log = _database.log
    leaks = log.leaks()
    log.dispose()
    assert not leaks, leaks
    assert _has_loop(request) or not log.has_async, "an async engine in a test without a loop"


@pytest.fixture
def sql(backend: Backend) -> Sql:
    """``sql("SELECT …", name=value)``: rows as dicts, over a new connection of its own."""
    return partial(run_sql, backend)


@pytest.fixture
def other_place(backend: Backend, sql: Sql) -> Iterator[str]:
    """A schema (PostgreSQL) or another database (MariaDB); on SQLite the main one."""
    if backend.name == "sqlite":
        yield "main"
        return
    name = f"other_{time.time_ns()}"
    word = {"postgresql": "SCHEMA", "mariadb": "DATABASE"}[backend.name]
    sql(f"CREATE {word} {name}")
    yield name
    sql(f"DROP {word} {name}{' CASCADE' if word == 'SCHEMA' else ''}")


@pytest.fixture
async def make_saver(backend: Backend, face: FaceName) -> AsyncIterator[SaverFactory]:
    """``make_saver(**options)``: savers on each backend and face; awaitable methods on all."""
    factory = SaverFactory(backend, face)
    yield factory
    await factory.aclose()


@pytest.fixture
async def saver(make_saver: SaverFactory) -> SessionSaver:
    """A saver on each backend and face in turn; call its ``a…`` methods, on all faces."""
    return make_saver()


@pytest.fixture
def sync_saver(backend: Backend) -> Iterator[SessionSaver]:
    """A saver over a plain engine on each backend in turn, to be called by its sync methods."""
    with SessionSaver(backend.warm_engine()) as saver:
        yield saver


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Forks new processes within milliseconds, for tests that kill them."""
    with Zygote() as zygote:
        yield zygote


@pytest.fixture
def python(zygote: Zygote) -> Python:
    """Runs Python programs as processes that start within milliseconds."""
    return Python(zygote)


def _uses_savers(request: pytest.FixtureRequest) -> bool:
    wants_none = request.node.get_closest_marker("empty_database")
    return not wants_none and not SAVERS.isdisjoint(request.fixturenames)


def _has_loop(request: pytest.FixtureRequest) -> bool:
    return (
        inspect.iscoroutinefunction(getattr(request, "function", None))
        or request.node.get_closest_marker("asyncio") is not None
        or "make_saver" in request.fixturenames
    )


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def _postgresql_version(config: pytest.Config) -> str:
    url: str | None = config.getoption("--postgres-url")
    if url:
        return _named(url)
    try:
        return installed_version(find_postgresql() / "postgres")
    except BackendMissingError:
        return "(missing)"


def _mariadb_version(config: pytest.Config) -> str:
    url: str | None = config.getoption("--mysql-url")
    if url:
        return _named(url)
    try:
        return installed_version(find_mariadb()[0])
    except BackendMissingError:
        return "(missing)"


def _named(url: str) -> str:
    parsed = make_url(url)
    return f"at {parsed.host}:{parsed.port}"

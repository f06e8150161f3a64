"""`python -m examples.tech_spec`: a whole job in a terminal or without one, and the server."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import sqlalchemy as sa
from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.tech_spec.database import make_engine
from examples.tech_spec.fixtures import read_job
from examples.tech_spec.models import JobStatus, TechResearch, TechSpecSession
from examples.web.database import reading
from tests.support.backends import Backend
from tests.support.commands import Python
from tests.support.zygote import Zygote

ROOT = Path(__file__).resolve().parents[4]
MODULE = ("-m", "examples.tech_spec")
OWN = ("DATABASE_URL", "REDIS_URL", "TECH_SPEC_SECRET")

Run = Callable[..., CompletedProcess[str]]


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in OWN}
    return kept | {"HOME": str(home), "COLUMNS": "120", "NO_COLOR": "1"}


@pytest.fixture
def run(python: Python, tmp_path: Path) -> Run:
    """Runs the command as a process of its own, without a terminal."""

    def run(*arguments: str) -> CompletedProcess[str]:
        return python.run(*MODULE, *arguments, cwd=ROOT, env=environment(tmp_path))

    return run


async def of_job(engine: AsyncEngine, column: Any, name: str) -> list[Any]:
    """A column of the sessions of a design that the command has started."""
    query = sa.select(column).where(
        TechSpecSession.design_job_id == read_job(name).id, TechSpecSession.user_id == "terminal"
    )
    async with reading(engine) as orm:
        return [*await orm.scalars(query)]


async def test_a_whole_job_runs_on_each_database(
    run: Run, database: Backend, engine: AsyncEngine
) -> None:
    done = await asyncio.to_thread(
        run, "--job", "auction", "--database-url", database.async_url, "--yes"
    )

    assert done.returncode == 0, done.stderr
    assert "Decisions" in done.stdout
    (session_id,) = await of_job(engine, TechSpecSession.id, "auction")
    assert f"of session {session_id}" in done.stderr
    async with reading(engine) as orm:
        of_session = TechResearch.session_id == session_id
        chosen = [*await orm.scalars(sa.select(TechResearch.selected_technology).where(of_session))]
    assert chosen
    for technology in chosen:
        assert technology in done.stdout
    assert "technical requirements" in done.stdout
    assert "```mermaid" in done.stdout


async def test_without_a_url_the_database_is_a_file_of_this_user_only(
    run: Run, tmp_path: Path
) -> None:
    done = await asyncio.to_thread(run)  # without a terminal nobody is asked

    assert done.returncode == 0, done.stderr
    file = tmp_path / ".tech-spec" / "tech_spec.db"
    assert file.parent.stat().st_mode & 0o777 == 0o700
    engine = make_engine(f"sqlite:///{file}")
    assert await of_job(engine, TechSpecSession.status, "clinic") == [JobStatus.COMPLETED]
    await engine.dispose()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--job", "garden"], "lacks ux_flow, screen_specs"),
        (["--job", "castle"], "choose one of clinic, auction, garden"),
        (["--database-url", "nonsense"], "parse"),
        (["--database-url", "mssql://host/specs"], "mssql"),
        (["--database-url", "postgresql://ada:hidden@127.0.0.1:1/specs"], "127.0.0.1"),
        (["serve", "--secret", "short"], "less than 32 bytes"),
        (["serve", "--redis-url", "http://localhost"], "redis://"),
        (["serve", "--host", "192.0.2.1"], "assign"),
    ],
)
def test_what_it_cannot_use_is_said_in_a_line(run: Run, arguments: list[str], said: str) -> None:
    done = run(*arguments)

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "hidden" not in done.stderr + done.stdout


def test_a_database_named_before_serve_is_the_server_s(run: Run) -> None:
    done = run("--database-url", "mssql://host/specs", "serve", "--port", "0")

    assert done.returncode == 2
    assert "mssql is not supported" in done.stderr


@pytest.mark.parametrize("command", [[], ["serve"]])
def test_the_help_has_an_example(run: Run, command: list[str]) -> None:
    done = run(*command, "--help")

    assert done.returncode == 0
    assert f"Example: python -m examples.tech_spec {' '.join(command)}".rstrip() in done.stdout


# -- in a terminal -------------------------------------------------------------------------------


class Terminal:
    """A terminal in which the command runs."""

    def __init__(self, python: Python, home: Path) -> None:
        self.text = ""
        self._screen, self._theirs = os.openpty()
        self.child = python.start(
            *MODULE, cwd=ROOT, env=environment(home), terminal=os.ttyname(self._theirs)
        )

    async def read_until(self, text: str) -> None:
        """Read until a text is shown."""
        while text not in self.text:
            ready, *_ = await asyncio.to_thread(select.select, [self._screen], [], [], 60)
            assert ready, self.text
            self.text += os.read(self._screen, 65536).decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    async def interrupt(self) -> int:
        """Interrupt until it ends: CPython misses a signal just before it begins to read a line."""
        ended = asyncio.create_task(asyncio.to_thread(self.child.wait))
        while not ended.done():
            self.child.kill(signal.SIGINT)
            await asyncio.wait((ended,), timeout=5)
        return await ended

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self._theirs)
        os.close(self._screen)


@pytest.fixture
def open_terminal(python: Python, tmp_path: Path) -> Iterator[Callable[[], Terminal]]:
    terminals: list[Terminal] = []

    def open_terminal() -> Terminal:
        terminals.append(Terminal(python, tmp_path))
        return terminals[-1]

    yield open_terminal
    for terminal in terminals:
        terminal.close()


async def test_in_a_terminal_it_asks_and_goes_on_where_it_was_stopped(
    open_terminal: Callable[[], Terminal], tmp_path: Path
) -> None:
    first = open_terminal()
    await first.read_until("Which one")
    assert await first.interrupt() == 130
    await first.read_until("Run the same command again to go on")
    second = open_terminal()
    second.type("2\nwe know it\n" + "\n" * 40)
    await second.read_until("of session")
    assert await asyncio.to_thread(second.child.wait) == 0
    assert "technical requirements" in second.text

    engine = make_engine(f"sqlite:///{tmp_path / '.tech-spec' / 'tech_spec.db'}")
    async with reading(engine) as orm:
        assert await orm.scalar(sa.select(sa.func.count()).select_from(TechSpecSession)) == 1
        query = sa.select(TechResearch).where(TechResearch.selection_reasoning == "we know it")
        (gap,) = await orm.scalars(query)
    await engine.dispose()
    assert gap.selected_technology == gap.researched_options[1]["name"]


# -- the server ----------------------------------------------------------------------------------


async def test_the_server_prints_a_token_that_outlives_it(zygote: Zygote, tmp_path: Path) -> None:
    token, sessions = "", []
    for _ in range(2):
        child = zygote.spawn(f"{__name__}:serve", {"home": str(tmp_path)})
        address = child.wait_for("http://").partition("/docs")[0]
        token = token or child.wait_for("Bearer").strip()
        job = child.wait_for("clinic: project").replace(",", "").split()
        headers = {"Authorization": token.removeprefix("Authorization: ")}
        async with AsyncClient(base_url=address, headers=headers, trust_env=False) as http:
            path = f"/api/projects/{job[2]}/start-tech-spec"
            started = await http.post(path, json={"design_job_id": job[5]})
            assert started.status_code == 202
            sessions.append(started.headers["Location"])
            assert (await http.get(sessions[0])).status_code == 200
        child.kill()
        await asyncio.to_thread(child.wait)
    assert (tmp_path / ".tech-spec" / "secret").stat().st_mode & 0o777 == 0o600


def serve(home: str) -> None:
    """Serve for a user who has set nothing."""
    from examples.tech_spec.__main__ import app  # noqa: PLC0415 - imported by the child only

    os.environ.clear()
    os.environ.update(environment(Path(home)))
    app(args=["serve", "--port=0"])

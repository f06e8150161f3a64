"""`doctor`: what is wrong with an installation and its database, if anything is."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from langgraph_session_saver.cli.command import Call, command
from langgraph_session_saver.cli.exit_codes import Exit
from langgraph_session_saver.cli.output import cell, status_cell, table
from langgraph_session_saver.cli.target import Database
from langgraph_session_saver.errors import SessionSaverError
from langgraph_session_saver.inspection.health import Health
from langgraph_session_saver.inspection.text import amount

_PACKAGES = ("langgraph-session-saver", "langgraph", "langgraph-checkpoint", "sqlalchemy")
LITTLE_ROOM = 256 << 20
"""Bytes left on a disk that are said to be few."""

SLOW_MS = 50
"""Milliseconds of an empty statement that are said to be many."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    verdict: str
    """`ok`, `warning` or `failed`."""
    said: str


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "doctor", example=["doctor", "doctor --json"])(doctor)


def doctor(call: Call) -> None:
    """Look for what is wrong: packages, database, schema, file, disk, damaged rows.

    Changes nothing. Ends with 1 where something failed, with 4 where the database cannot be
    reached.
    """
    findings = [_packages()]
    code = Exit.OK
    try:
        with call.place.reading() as database:
            health = database.saver.health()
            findings += _of_health(health)
            if not health.reachable:
                code = Exit.UNREACHABLE
            elif health.is_current:
                findings += _of_rows(database)
            findings += _of_file(health, database)
    except SessionSaverError as exc:
        findings.append(Finding("database", "failed", str(exc)))
        code = Exit.UNREACHABLE
    if code is Exit.OK and any(one.verdict == "failed" for one in findings):
        code = Exit.NO
    shown = table("", "looked at", "found")
    for one in findings:
        shown.add_row(status_cell(one.verdict), cell(one.what), cell(one.said, whole=True))
    data = {"ok": code is Exit.OK, "findings": [asdict(one) for one in findings]}
    call.answer(data, shown)
    if code is not Exit.OK:
        raise typer.Exit(code)


def _packages() -> Finding:
    said = [f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            said.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            said.append(f"no {name}")
    return Finding("packages", "ok", ", ".join(said))


def _of_health(health: Health) -> Iterator[Finding]:
    if not health.reachable:
        yield Finding("database", "failed", health.reason or "it cannot be reached")
        return
    yield Finding("database", "ok", f"{health.url}: {health.server_version} ({health.driver})")
    if health.is_current:
        yield Finding("schema", "ok", f"revision {health.revision}, which this code needs")
    else:
        yield Finding(
            "schema",
            "failed",
            f"revision {health.revision or 'none'}, and this code needs {health.head}: "
            "langgraph-session-saver db upgrade",
        )
    took = f"{health.latency_ms:.2f} ms for an empty statement"
    yield Finding("latency", "warning" if (health.latency_ms or 0) > SLOW_MS else "ok", took)
    if health.journal_mode not in {None, "wal"}:
        yield Finding(
            "journal",
            "warning",
            f"{health.journal_mode}: readers and writers wait for each other, which they do not "
            "with WAL; the next program that writes through this package's own URL switches it",
        )


def _of_rows(database: Database) -> Iterator[Finding]:
    """Rows that say of themselves that something is missing."""
    for what, count, said in database.read(database.overview.faults):
        verdict = "failed" if count else "ok"
        yield Finding(what, verdict, f"{count:,} {said}" if count else f"no {said}")
    problems = database.read(database.context.dialect.faults)
    yield Finding("integrity", "failed" if problems else "ok", problems or "nothing is damaged")


def _of_file(health: Health, database: Database) -> Iterator[Finding]:
    if health.dialect != "sqlite" or not health.reachable:
        return
    path = Path(str(database.engine.url.database))
    mode = path.stat().st_mode
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        said = f"{path} can be read by everybody on this machine ({stat.filemode(mode)})"
        yield Finding("file", "warning", f"{said}: chmod 600 keeps conversations private")
    else:
        yield Finding("file", "ok", f"{path} {stat.filemode(mode)}")
    free = shutil.disk_usage(path.parent).free
    yield Finding("disk", "warning" if free < LITTLE_ROOM else "ok", f"{amount(free)} free")

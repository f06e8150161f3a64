"""`doctor`: checks of the installation, the database and its rows."""

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
from langgraph_session_saver.cli.output import add_row, status_cell, table, whole
from langgraph_session_saver.cli.target import Database
from langgraph_session_saver.errors import SessionSaverError
from langgraph_session_saver.inspection.health import Health
from langgraph_session_saver.inspection.text import format_bytes

app = typer.Typer()

_PACKAGES = ("langgraph-session-saver", "langgraph", "langgraph-checkpoint", "sqlalchemy")

LITTLE_SPACE = 256 << 20
"""Free bytes of a disk below which there is a warning."""

SLOW_MS = 50
"""Milliseconds of an empty statement above which there is a warning."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    what: str
    verdict: str
    """`ok`, `warning` or `failed`."""
    said: str


@command(app, "doctor", "doctor", "doctor --json")
def doctor(call: Call) -> None:
    """Check packages, database, schema, file, disk space and stored rows for problems.

    Changes nothing. Exits with 1 if a check fails, and with 4 if the database cannot be reached.
    """
    findings = [_packages()]
    code = Exit.OK
    try:
        with call.target.reading() as database:
            health = database.health()
            findings += _check_health(health)
            if not health.reachable:
                code = Exit.UNREACHABLE
            elif health.is_current:
                findings += _check_rows(database)
            findings += _check_file(health, database)
    except SessionSaverError as exc:
        findings.append(Finding("database", "failed", str(exc)))
        code = Exit.UNREACHABLE
    if code is Exit.OK and any(one.verdict == "failed" for one in findings):
        code = Exit.NO
    shown = table("", "check", "result")
    for one in findings:
        add_row(shown, status_cell(one.verdict), one.what, whole(one.said))
    call.answer({"ok": code is Exit.OK, "findings": [asdict(one) for one in findings]}, shown)
    raise typer.Exit(code)


def _packages() -> Finding:
    versions = [f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    return Finding("packages", "ok", ", ".join(versions))


def _check_health(health: Health) -> Iterator[Finding]:
    if not health.reachable:
        yield Finding("database", "failed", health.reason or "it cannot be reached")
        return
    yield Finding("database", "ok", f"{health.url}: {health.server_version} ({health.driver})")
    revision = f"revision {health.revision or 'base'}"
    if health.is_current:
        yield Finding("schema", "ok", f"{revision} (head)")
    else:
        problem = f"{revision}, but head is {health.head}: run langgraph-session-saver db upgrade"
        yield Finding("schema", "failed", problem)
    latency = health.latency_ms or 0
    verdict = "warning" if latency > SLOW_MS else "ok"
    yield Finding("latency", verdict, f"{latency:.2f} ms for an empty statement")
    if health.journal_mode not in {None, "wal"}:
        yield Finding(
            "journal",
            "warning",
            f"journal mode {health.journal_mode}: readers and writers block each other. "
            "SessionSaver.from_conn_string switches to WAL, where they do not",
        )


def _check_rows(database: Database) -> Iterator[Finding]:
    faults, damage = database.find_faults()
    for what, count, description in faults:
        said = f"{f'{count:,}' if count else 'no'} {description}"
        yield Finding(what, "failed" if count else "ok", said)
    yield Finding("integrity", "failed" if damage else "ok", damage or "no damage found")


def _check_file(health: Health, database: Database) -> Iterator[Finding]:
    if health.dialect != "sqlite" or not health.reachable:
        return
    path = Path(str(database.engine.url.database))
    mode = path.stat().st_mode
    said, verdict = f"{path} {stat.filemode(mode)}", "ok"
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        said += ": every user of this machine can read it; chmod 600 prevents that"
        verdict = "warning"
    yield Finding("file", verdict, said)
    free = shutil.disk_usage(path.parent).free
    verdict = "warning" if free < LITTLE_SPACE else "ok"
    yield Finding("disk", verdict, f"{format_bytes(free)} free")

"""The commands that report on a whole database: `errors`, `usage`, `stats` and `doctor`."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.text import Text
from typer import Option

from langgraph_session_saver.cli.command import After, Call, Exit, InSession, Limit, command
from langgraph_session_saver.cli.output import (
    add_row,
    cell,
    listing,
    status_cell,
    table,
    table_of_used,
    whole,
)
from langgraph_session_saver.cli.target import Database
from langgraph_session_saver.errors import SessionSaverError
from langgraph_session_saver.inspection.health import Health
from langgraph_session_saver.inspection.text import format_bytes
from langgraph_session_saver.log import printable
from langgraph_session_saver.projection.plain_json import shorten
from langgraph_session_saver.sql.dialects.sqlite import LOG_LIMIT

app = typer.Typer()

LITTLE_SPACE = 256 << 20
"""Free bytes of a disk below which there is a warning."""

SAMPLE = 10_000
"""Rows of each table that are decoded, unless all are."""

SLOW_MS = 50
"""Milliseconds of an empty statement above which there is a warning."""


@command(app, "errors", "errors", "errors --open --stack --session order")
def errors(
    call: Call,
    *,
    session: InSession = None,
    only_open: Annotated[bool, Option("--open", help="Only errors not recovered from.")] = False,
    stack: Annotated[bool, Option("--stack", help="Print tracebacks too.")] = False,
    limit: Limit = 20,
    after: After = None,
) -> None:
    """List errors, newest first: failed tasks, and values that did not validate."""
    with call.target.reading() as database:
        session_id = database.find_id("session", session) if session else None
        recovered = False if only_open else None
        page = database.sessions.errors(session_id, recovered=recovered, limit=limit, after=after)
    shown = table("time (UTC)", "thread", "node", "error", "recovered (UTC)")
    for one in page:
        where = one.node or (f"channel {one.channel}" if one.channel else "")
        message = shorten(f"{one.type}: {one.message}", 400)  # `--json` has all
        error = whole(message, "" if one.recovered_at else "red")
        add_row(shown, one.created_at, one.thread_id, where, error, one.recovered_at or "no")
    stacks = [Text("\n" + printable(one.stack, keep="\n")) for one in page if stack and one.stack]
    answer = {"errors": [asdict(one) for one in page], "next": page.next}
    call.answer(answer, *listing(shown, len(page), "error", next_page=page.next), *stacks)


@command(app, "usage", "usage", "usage --by day,model --since 2026-11-01")
def usage(
    call: Call,
    *,
    by: Annotated[
        str, Option(help="Group by agent, model or day, or by several with commas.")
    ] = "agent,model",
    session: InSession = None,
    owner: Annotated[str | None, Option(help="Only sessions of this owner.")] = None,
    since: Annotated[datetime | None, Option(help="Only from this time on (UTC).")] = None,
    before: Annotated[datetime | None, Option(help="Only before this time (UTC).")] = None,
) -> None:
    """Sum up tokens and cost, most expensive first."""
    groups: Any = [part.strip() for part in by.split(",")]
    with call.target.reading() as database:
        session_id = database.find_id("session", session) if session else None
        found = database.sessions.usage_summary(
            *groups,
            session_id=session_id,
            owner_id=owner,
            since=since and since.replace(tzinfo=UTC),
            before=before and before.replace(tzinfo=UTC),
        )
    found = tuple(sorted(found, key=lambda one: (-one.cost_usd, -one.total_tokens)))
    sums = {name: sum(getattr(one, name) for one in found) for name in _NUMBERS}
    rows: list[list[object]] = []
    for one in found:
        names = {"agent": one.agent_type, "model": one.model, "day": one.day}
        rows.append([*(names[part] for part in groups), *_numbers(asdict(one))])
    if len(found) > 1:
        blanks = [None for _ in groups[1:]]
        rows.append([cell("all", "bold"), *blanks, *_numbers(sums, "bold")])
    shown = table_of_used([*groups, *_NUMBERS.values()], rows, dict.fromkeys(_DETAILS, 0))
    answer = {"by": groups, "usage": [asdict(one) for one in found], "sum": sums}
    call.answer(answer, *listing(shown, len(found), "call"))


_DETAILS = (">cache read", ">cache creation", ">reasoning")

_NUMBERS = {
    "calls": ">calls",
    "input_tokens": ">input",
    "cache_read_tokens": _DETAILS[0],
    "cache_creation_tokens": _DETAILS[1],
    "output_tokens": ">output",
    "reasoning_tokens": _DETAILS[2],
    "total_tokens": ">total",
    "cost_usd": ">cost (USD)",
}
"""The column that shows each sum."""


def _numbers(row: Mapping[str, Any], style: str = "") -> list[Text]:
    values = {**row, "cost_usd": f"{row['cost_usd']:.6f}"}
    return [cell(values[name], style) for name in _NUMBERS]


@command(app, "stats", "stats")
def stats(call: Call, *, limit: Limit = 5) -> None:
    """Show which tables, channels and threads take the most space."""
    with call.target.reading() as database:
        queries = database.queries
        channels = database.read(queries.channels_by_bytes, limit)
        threads = database.read(queries.threads_by_bytes, limit)
        health = database.health()
    sizes = table("table", ">rows", ">size")
    for one in sorted(health.tables, key=lambda found: -(found.bytes or 0)):
        add_row(sizes, one.name, one.rows, format_bytes(one.bytes))
    add_row(sizes, cell("all", "bold"), None, cell(format_bytes(health.bytes), "bold"))
    by_channel = table("channel", ">versions", ">stored as changes", ">size")
    by_thread = table("thread", ">versions", ">size")
    for row in channels:
        add_row(by_channel, row.channel, row.versions, row.changes, format_bytes(int(row.bytes)))
    for row in threads:
        add_row(by_thread, whole(row.thread_id), row.versions, format_bytes(int(row.bytes)))
    answer = {
        "measured": health.measured,
        "bytes": health.bytes,
        "tables": [asdict(one) for one in health.tables],
        "channels": [row._asdict() | {"bytes": int(row.bytes)} for row in channels],
        "threads": [row._asdict() | {"bytes": int(row.bytes)} for row in threads],
    }
    measured = Text(f"(measured: {health.measured})", "dim")
    call.answer(answer, sizes, measured, "", by_channel, "", by_thread)


# -- doctor --------------------------------------------------------------------------------------


class Finding(NamedTuple):
    """The result of one check."""

    what: str
    verdict: str
    """`ok`, `warning` or `failed`."""
    said: str


@command(app, "doctor", "doctor", "doctor --deep --json")
def doctor(
    call: Call,
    *,
    deep: Annotated[
        bool, Option("--deep", help=f"Decode all rows, not only {SAMPLE:,} of each table.")
    ] = False,
) -> None:
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
                findings += _check_bytes(database, None if deep else SAMPLE)
                findings += _check_prices(database)
            findings += _check_file(health, database)
    except SessionSaverError as exc:
        findings.append(Finding("database", "failed", str(exc)))
        code = Exit.UNREACHABLE
    if code is Exit.OK and any(one.verdict == "failed" for one in findings):
        code = Exit.NO
    shown = table("", "check", "result")
    for one in findings:
        add_row(shown, status_cell(one.verdict), one.what, whole(one.said))
    call.answer({"ok": code is Exit.OK, "findings": [one._asdict() for one in findings]}, shown)
    raise typer.Exit(code)


def _packages() -> Finding:
    versions = [f"Python {platform.python_version()}"]
    for name in ("langgraph-session-saver", "langgraph", "langgraph-checkpoint", "sqlalchemy"):
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


def _check_bytes(database: Database, most: int | None) -> Iterator[Finding]:
    """Whether rows decode."""
    for found in database.find_undecodable(most):
        rows = "all rows" if found.is_all else f"{found.read:,} rows (--deep reads all)"
        if found.count:
            named = shorten("; ".join(found.named), 600)
            said = f"{found.count:,} of {rows} do not decode: {named}"
        else:
            said = f"{rows} decode"
        yield Finding(found.table, "failed" if found.count else "ok", said)


def _check_prices(database: Database) -> Iterator[Finding]:
    """Whether every model has a price; nothing is said of a database without any cost.

    A call of a model with a price of 0 costs what one without a price does.
    """
    models = database.read(database.queries.costs_by_model)
    if not any(one.cost for one in models):
        return
    free = [one.model for one in models if one.tokens and not one.cost]
    if free:
        names = shorten(", ".join(free), 400)
        said = f"no call has a cost of: {names}. Add them to pricing, unless they are free"
        yield Finding("prices", "warning", said)
    else:
        yield Finding("prices", "ok", "every model that used tokens has a cost")


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
    log = path.with_name(f"{path.name}-wal")
    if health.journal_mode == "wal" and log.exists():
        size = log.stat().st_size
        said, verdict = format_bytes(size), "ok"
        if size > LOG_LIMIT:
            said += ": a connection that reads for long keeps it from starting anew; end that one"
            verdict = "warning"
        yield Finding("write-ahead log", verdict, said)
    free = shutil.disk_usage(path.parent).free
    verdict = "warning" if free < LITTLE_SPACE else "ok"
    yield Finding("disk", verdict, f"{format_bytes(free)} free")

"""The commands that delete: `prune` and `sweep`, counts first."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

import typer

from langgraph_session_saver.checkpointer.get import GetScripts
from langgraph_session_saver.checkpointer.maintenance import Counts, MaintenanceScripts
from langgraph_session_saver.cli.command import Call, DryRun, Yes, command
from langgraph_session_saver.cli.output import counts, quantity
from langgraph_session_saver.errors import InvalidConfigError

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

_AGE = re.compile(r"(\d+)\s*([mhdw])")


def add_to(app: typer.Typer) -> None:
    """Add the commands to the program."""
    command(
        app,
        "prune",
        example=["prune order-17 --keep-last 20 --dry-run", "prune --all --keep-latest --yes"],
    )(prune)
    command(
        app, "sweep", example=["sweep --older-than 90d --dry-run", "sweep --idle-for 52w --yes"]
    )(sweep)


def prune(
    call: Call,
    threads: Annotated[
        list[str] | None, typer.Argument(help="Ids of threads, or the starts of them.")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All threads.")] = False,
    keep_last: Annotated[
        int | None, typer.Option(min=1, help="Keep so many root checkpoints of each, newest first.")
    ] = None,
    keep_latest: Annotated[
        bool, typer.Option("--keep-latest", help="Keep the newest checkpoint of each namespace.")
    ] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="Keep nothing: delete the threads.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Thin out threads; says what would go, and asks, before anything does."""
    strategies = {"keep_last": keep_last, "keep_latest": keep_latest, "delete": delete}
    chosen = [name for name, given in strategies.items() if given]
    if len(chosen) != 1:
        raise InvalidConfigError("say what to keep: --keep-last N, --keep-latest or --delete")
    if bool(threads) is every:
        raise InvalidConfigError("name the threads to thin out, or pass --all")
    with (call.place.reading if dry_run else call.place.writing)() as database:
        if every:
            ids = database.read(lambda conn: database.overview.threads_starting_with(conn, "", -1))
        else:
            ids = [call.thread(database, start) for start in threads or ()]
        keeping = MaintenanceScripts(database.context, GetScripts(database.context))

        def carry_out(*, dry: bool) -> Counts:
            # What a deletion takes is known only before it.
            before = carry_out(dry=True) if delete and not dry else None
            script = keeping.prune(database.saver.serde, ids, chosen[0], keep_last, dry_run=dry)
            found = database.run(script)
            return found if before is None else before

        _count_then_do(call, carry_out, dry_run=dry_run, yes=yes)


def sweep(
    call: Call,
    *,
    older_than: Annotated[
        str | None, typer.Option(help="Checkpoints of a greater age go: 90d, 12h, 2w, 30m.")
    ] = None,
    idle_for: Annotated[
        str | None, typer.Option(help="Threads that were not written to for longer go altogether.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Apply age and idle limits to all threads; says what would go, and asks, before it does."""
    limits: dict[str, Any] = {
        "older_than": _age("--older-than", older_than), "idle_for": _age("--idle-for", idle_for)
    }  # fmt: skip
    if limits["older_than"] is None and limits["idle_for"] is None:
        raise InvalidConfigError("pass a limit: --older-than, --idle-for or both")
    with (call.place.reading if dry_run else call.place.writing)() as database:

        def carry_out(*, dry: bool) -> Counts:
            return database.saver.sweep(**limits, dry_run=dry)

        _count_then_do(call, carry_out, dry_run=dry_run, yes=yes)


def _count_then_do(
    call: Call, carry_out: Callable[..., Counts], *, dry_run: bool, yes: bool
) -> None:
    with call.busy("counting"):
        found = carry_out(dry=True)
    if dry_run:
        call.answer(_answer(found, is_done=False), f"would go: {_told(found)}")
        return
    if found.checkpoints or found.deleted_threads:
        call.note(f"would go: {_told(found)}")
        call.confirm("Delete them?", yes=yes)
        with call.busy("deleting"):
            found = carry_out(dry=False)
    call.answer(_answer(found, is_done=True), f"gone: {_told(found)}")


def _told(found: Counts) -> str:
    parts = [(found.checkpoints, "checkpoint"), (found.blobs, "stored value")]
    if found.deleted_threads:
        parts.append((found.deleted_threads, "whole thread"))
    return f"{counts(parts)} (of {quantity(found.threads, 'thread')})"


def _answer(found: Counts, *, is_done: bool) -> dict[str, Any]:
    return asdict(found) | {"done": is_done}


def _age(name: str, given: str | None) -> timedelta | None:
    if given is None:
        return None
    read = _AGE.fullmatch(given.strip().lower())
    if read is None:
        raise InvalidConfigError(f"{name} is {given!r}: pass a number and m, h, d or w, as in 90d")
    try:
        return timedelta(**{_UNITS[read[2]]: int(read[1])})
    except OverflowError as exc:
        raise InvalidConfigError(f"{name} is {given!r}: that is longer than a date goes") from exc

"""The commands that delete old data: `prune` and `sweep`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from typing import Annotated

import typer
from typer import Argument, Option

from langgraph_session_saver.checkpointer.maintenance import Counts
from langgraph_session_saver.cli.command import Call, Yes, command
from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.inspection.text import quantity

app = typer.Typer()

DryRun = Annotated[bool, Option("--dry-run", help="Count what would be deleted; delete nothing.")]


def _age(value: str) -> timedelta:
    """Parse an age such as 90d."""
    found = re.fullmatch(r"(\d+)\s*([mhdw])", value.strip().lower())
    if found is None:
        raise typer.BadParameter(f"{value!r} is not a number with m, h, d or w, as in 90d")
    units = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    try:
        return timedelta(**{units[found[2]]: int(found[1])})
    except OverflowError as exc:
        raise typer.BadParameter(f"{value!r} is too long") from exc


@command(app, "prune", "prune order-17 --keep-last 20 --dry-run", "prune --all --keep-latest --yes")
def prune(
    call: Call,
    threads: Annotated[list[str] | None, Argument(help="Thread ids, or unique starts.")] = None,
    *,
    every: Annotated[bool, Option("--all", help="All threads.")] = False,
    keep_last: Annotated[
        int | None, Option(min=1, help="Keep this many root checkpoints of each thread.")
    ] = None,
    keep_latest: Annotated[
        bool, Option("--keep-latest", help="Keep the newest checkpoint of each namespace.")
    ] = False,
    delete: Annotated[bool, Option("--delete", help="Delete the threads.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Delete old checkpoints of threads, or whole threads.

    Shows what would be deleted, and asks for confirmation.
    """
    strategies = {"keep_last": keep_last, "keep_latest": keep_latest, "delete": delete}
    chosen = [name for name, value in strategies.items() if value]
    if len(chosen) != 1:
        raise InvalidConfigError("pass one of --keep-last N, --keep-latest or --delete")
    if bool(threads) is every:
        raise InvalidConfigError("pass thread ids, or --all")
    with (call.target.reading if dry_run else call.target.writing)() as database:
        if every:
            ids = database.read(database.queries.ids, "thread", "")
        else:
            ids = [database.find_id("thread", prefix) for prefix in threads or ()]
        carry_out = partial(database.prune_or_count, ids, chosen[0], keep_last)
        _count_and_delete(call, carry_out, dry_run=dry_run, yes=yes)


@command(app, "sweep", "sweep --older-than 90d --dry-run", "sweep --idle-for 52w --yes")
def sweep(
    call: Call,
    *,
    older_than: Annotated[
        timedelta | None,
        Option(help="Delete checkpoints older than this: 90d, 12h, 2w, 30m.", parser=_age),
    ] = None,
    idle_for: Annotated[
        timedelta | None,
        Option(help="Delete threads that were not written to for this long.", parser=_age),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Delete the old checkpoints and the idle threads of the whole database.

    Shows what would be deleted, and asks for confirmation.
    """
    if older_than is None and idle_for is None:
        raise InvalidConfigError("pass --older-than, --idle-for or both")
    with (call.target.reading if dry_run else call.target.writing)() as database:
        carry_out = partial(database.sweep, older_than=older_than, idle_for=idle_for)
        _count_and_delete(call, carry_out, dry_run=dry_run, yes=yes)


def _count_and_delete(
    call: Call, carry_out: Callable[..., Counts], *, dry_run: bool, yes: bool
) -> None:
    """Print what would be deleted; unless it is a dry run, ask and delete it."""
    with call.busy("counting"):
        found = carry_out(dry_run=True)
    if dry_run:
        call.answer(asdict(found) | {"done": False}, f"would delete {_described(found)}")
        return
    if found.checkpoints or found.deleted_threads:
        call.note(f"would delete {_described(found)}")
        call.confirm("Delete them?", yes=yes)
        with call.busy("deleting"):
            deleted = carry_out(dry_run=False)
        # The deletion of whole threads does not count their checkpoints.
        found = found if deleted.deleted_threads else deleted
    call.answer(asdict(found) | {"done": True}, f"deleted {_described(found)}")


def _described(found: Counts) -> str:
    parts = [quantity(found.checkpoints, "checkpoint"), quantity(found.blobs, "stored value")]
    if found.deleted_threads:
        parts.append(quantity(found.deleted_threads, "whole thread"))
    return f"{', '.join(parts)} (in {quantity(found.threads, 'thread')})"

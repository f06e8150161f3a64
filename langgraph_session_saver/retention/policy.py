"""Which checkpoints of a thread to keep. Pure.

Retention counts the root namespace. Subgraphs keep what a kept root checkpoint needs, and a
`DeltaChannel` keeps the ancestors that it replays from, unlisted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from langgraph_session_saver.retention.lineage import (
    Stored,
    _is_call,
    _remembered,
    replayed_ancestors,
)


class Choice(NamedTuple):
    """What stays of a thread: listed, and unlisted for others to replay from."""

    kept: set[Stored]
    hidden: set[Stored]


def keep_latest(rows: Sequence[Stored]) -> Choice:
    """Keep the newest checkpoint of each namespace that the newest root checkpoint needs."""
    newest: dict[bytes, Stored] = {}
    for row in sorted(keep_last(rows, 1).kept, key=lambda row: row.checkpoint_id):
        newest[row.ns_key] = row
    kept = set(newest.values())
    return Choice(kept, replayed_ancestors(rows, kept) - kept)


def keep_last(rows: Sequence[Stored], count: int) -> Choice:
    """Keep the newest root checkpoints, and of subgraphs what these need.

    A subgraph call's namespace carries task ids, and stays as long as a checkpoint that a run can
    go on from calls it. One without task ids is a memory that outlives its calls. Namespaces that
    name no root keep as many as the root's does.
    """
    namespaces: dict[str, list[Stored]] = {}
    for row in sorted(rows, key=lambda row: row.checkpoint_id):
        if not row.is_hidden:
            namespaces.setdefault(row.checkpoint_ns, []).append(row)
    roots = namespaces.pop("", [])[-count:]
    oldest = roots[0].checkpoint_id if roots else ""
    replayed = {root.parent_id for root in roots} | {root.root_id for root in roots}
    bounds = {oldest, *(name for name in replayed if name is not None and name < oldest)}
    kept, callers = set(roots), {("", row.checkpoint_id) for row in roots}
    # A caller's namespace is above its calls', and memories are called by nobody in particular.
    for ns in sorted(namespaces, key=lambda ns: (_is_call(ns), ns.count("|"))):
        found = namespaces[ns]
        needed = [row for row in found if row.root_id is not None and row.root_id >= oldest]
        if len(needed) < len(found):
            rooted = [row for row in found if row.root_id is not None]
            needed += [row for row in found if row.root_id is None][-count:]
            if _is_call(ns):
                needed += [row for row in rooted if row.references.caller in callers]
            else:
                needed += _remembered(rooted, bounds)
        kept.update(needed)
        callers.update([(ns, row.checkpoint_id) for row in needed])
    return Choice(kept, replayed_ancestors(rows, kept) - kept)


def keep_since(rows: Sequence[Stored], cutoff: datetime) -> Choice:
    """Keep root checkpoints from a moment on, at least the newest, with what they need."""
    recent = [
        row
        for row in rows
        if not row.checkpoint_ns
        and not row.is_hidden
        and datetime.fromisoformat(row.references.ts) >= cutoff
    ]
    return keep_last(rows, max(1, len(recent)))


def keep_other_runs(rows: Sequence[Stored], run_ids: Collection[str]) -> Choice:
    """Keep the checkpoints that other runs made."""
    return Choice({row for row in rows if row.run_id not in run_ids}, set())


def keep_nothing(rows: Sequence[Stored]) -> Choice:
    """Keep nothing."""
    del rows
    return Choice(set(), set())

"""What must be true of a thread for something to be stored in it, as conditions of statements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Integer, Text, bindparam, func, literal_column, or_, select, update

from langgraph_session_saver.tables import Tables

CheckpointKey = tuple[bytes, bytes, str]
"""Thread key, namespace key and checkpoint id."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a step changes: nothing of it is stored unless all of this is there.

    Whoever deletes any of it holds the lock on the thread's row and changes its revision.
    """

    parent: tuple[bytes, str] | None = None
    """A checkpoint: its namespace's key and its id."""
    blobs: frozenset[bytes] = frozenset()

    @property
    def shape(self) -> tuple[bool, int]:
        """Whether there is a parent, and the blobs that a statement has parameters for."""
        count = len(self.blobs)
        return self.parent is not None, count and 1 << (count - 1).bit_length()

    def params(self) -> dict[str, Any]:
        """Parameters of the conditions; the last blob is repeated."""
        params: dict[str, Any] = {}
        if self.parent is not None:
            params["basis_ns"], params["basis_parent"] = self.parent
        if self.blobs:
            keys = sorted(self.blobs)
            params["basis_blobs"] = len(keys)
            padded = [*keys, *[keys[-1]] * (self.shape[1] - len(keys))]
            params |= {f"basis_{number}": key for number, key in enumerate(padded)}
        return params


@dataclass(slots=True)
class Gate:
    """A thread's row on condition that it is as it was known."""

    thread_key: bytes
    known_revision: int
    values: dict[str, Any]
    """What it becomes."""
    basis: Basis = Basis()

    def params(self) -> dict[str, Any]:
        """Parameters of the conditions."""
        known = {"gate_thread": self.thread_key, "gate_revision": self.known_revision}
        return known | self.basis.params()


def gate_on(tables: Tables, shape: tuple[bool, int]) -> Any:
    """Change a thread's row if its revision is the one that is known, and its basis is there.

    Whoever deletes from a thread changes its revision. The basis is looked for all the same: a
    process may remember a value from before the change that it knows of, and rows may have been
    deleted by hand.
    """
    t = tables.threads.c
    return update(tables.threads).where(
        t.thread_key == bindparam("gate_thread", type_=t.thread_key.type),
        t.revision == bindparam("gate_revision", type_=t.revision.type),
        *basis_conditions(tables, t.thread_key, shape),
    )


def basis_conditions(tables: Tables, thread_key: Any, shape: tuple[bool, int]) -> list[Any]:
    """The conditions that a basis of such a shape is stored for a thread."""
    c, b = tables.checkpoints.c, tables.blobs.c
    has_parent, count = shape
    conditions: list[Any] = []
    if has_parent:
        parent = select(c.checkpoint_id).where(
            c.thread_key == thread_key,
            c.ns_key == bindparam("basis_ns", type_=c.ns_key.type),
            c.checkpoint_id == bindparam("basis_parent", type_=Text()),
        )
        conditions.append(parent.exists())
    if count:
        keys = [bindparam(f"basis_{n}", type_=b.blob_key.type) for n in range(count)]
        there = select(func.count()).where(b.thread_key == thread_key, b.blob_key.in_(keys))
        conditions.append(there.scalar_subquery() == bindparam("basis_blobs", type_=Integer()))
    return conditions


def is_not_pruned(tables: Tables) -> Any:
    """Whether a checkpoint is there, or not older than the oldest of its thread's root."""
    c = tables.checkpoints.c
    thread = c.thread_key == bindparam("late_thread", type_=c.thread_key.type)
    checkpoint_id = bindparam("late_checkpoint", type_=Text())
    # Not min(): for that, MariaDB reads all of them.
    roots = select(c.checkpoint_id).where(thread, c.ns_key == b"", c.hidden.is_(False))
    oldest = roots.order_by(c.checkpoint_id).limit(literal_column("1"))
    there: Any = select(c.checkpoint_id).where(
        thread,
        c.ns_key == bindparam("late_ns", type_=c.ns_key.type),
        c.checkpoint_id == checkpoint_id,
    )
    return or_(there.exists(), checkpoint_id >= func.coalesce(oldest.scalar_subquery(), ""))


def pruned_params(unless_pruned: CheckpointKey | None) -> dict[str, Any]:
    """Parameters of `is_not_pruned`, if it is a condition."""
    if unless_pruned is None:
        return {}
    thread_key, ns_key, checkpoint_id = unless_pruned
    return {"late_thread": thread_key, "late_ns": ns_key, "late_checkpoint": checkpoint_id}

"""A thread's status, derived from what LangGraph saves. Pure.

A checkpoint tells which nodes run next; errors and interrupts arrive through `put_writes` only. A
static breakpoint saves nothing, so that a thread with nodes to run is `pending`, whether they run
or wait.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, TASKS

from langgraph_session_saver.encoding.keys import hash_key
from langgraph_session_saver.projection.plain_json import clean_text, shorten
from langgraph_session_saver.redaction import SecretKeys

KINDS = {ERROR: "error", INTERRUPT: "interrupted"}

SEVERITY = {"interrupted": 1, "error": 2}

STATUSES = ("done", "pending", "running", "interrupted", "error")
"""All statuses, from the least to the most urgent."""

_PULL = re.compile(r"~__pregel_pull, ([^,]+)")

_PUSH = re.compile(r"~__pregel_push, (\d+)(?:, \d+)?")  # the index, and in newer versions a flag


class Incident(NamedTuple):
    """An error or an interrupt that a task wrote, as columns of `session_errors`."""

    row_key: bytes
    """Equal for an error in a subgraph and the same error in the parent's task."""
    kind: str
    """The status that it gives the thread."""
    node: str | None
    type: str
    message: str
    stack: str | None


class Reached(NamedTuple):
    """What a thread's status depends on: the root checkpoint that it has reached."""

    id: str
    due: Sequence[str]
    """The nodes that run next."""
    step: int | None
    time: datetime
    """When it was made."""


def status_at(
    reached: Reached, known_id: str | None, known_status: str | None = None
) -> dict[str, Any]:
    """The columns of a thread's row at a checkpoint.

    The status is left out if the present one belongs to the same checkpoint, whose id is then
    `known_id`: `put_writes` has set it, or the checkpoint is put again.
    """
    values: dict[str, Any] = {"checkpoint_id": reached.id, "updated_at": reached.time}
    if known_id is None or reached.id > known_id:
        values |= {
            "status": "pending" if reached.due else "done",
            "status_node": ", ".join(reached.due) or None,
            "status_step": reached.step,
            "status_since": reached.time,
            "status_checkpoint_id": reached.id,
        }
    elif (
        reached.id == known_id
        and known_status not in {"pending", "done"}
        and reached.step is not None
    ):
        # That of a task that ran after the checkpoint, stored without knowing its step.
        values["status_step"] = reached.step + 1
    return values


def due_nodes(values: Mapping[str, Any]) -> list[str]:
    """The nodes that run next, by a checkpoint's channels."""
    due = [name.removeprefix("branch:to:") for name in values if name.startswith("branch:to:")]
    due += [send.node for send in values.get(TASKS) or [] if hasattr(send, "node")]
    if "__start__" in values:
        due.append("__start__")
    for name, seen in values.items():
        if name.startswith("join:") and isinstance(seen, set):
            sources, _, target = name.removeprefix("join:").rpartition(":")
            if seen >= set(sources.split("+")):
                due.append(target)
    return due


def send_nodes(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The nodes of a checkpoint's `Send` tasks, in order."""
    sends = values.get(TASKS)
    return tuple([getattr(send, "node", "?") for send in sends]) if sends else ()


def incidents(
    writes: Sequence[tuple[str, Any]],
    checkpoint_ns: str,
    task_id: str,
    task_path: str,
    sends: Sequence[str],
    keys: SecretKeys,
) -> list[Incident]:
    """The errors and interrupts among a task's writes, as `put_writes` gets them.

    The path names the node of all tasks but those of a `Send`; `sends` are the nodes of those. The
    values of secret keys are not in the texts.
    """
    node = _place(checkpoint_ns, task_path, sends)
    # Of a namespace like `node:task|inner:task`, the task in the root graph.
    root_task = checkpoint_ns.partition("|")[0].partition(":")[2] or task_id
    return [
        _incident(KINDS[channel], value, node, root_task, keys)
        for channel, value in writes
        if channel in KINDS
    ]


def _incident(
    kind: str, value: Any, node: str | None, root_task: str, keys: SecretKeys
) -> Incident:
    stack, name, message = None, type(value).__qualname__, str(value)
    if isinstance(value, BaseException):
        text = "".join(traceback.format_exception(value))
        stack = clean_text(keys.redacted(text))
    elif kind == "interrupted":
        items = value if isinstance(value, list | tuple) else [value]
        name, message = "Interrupt", repr([getattr(item, "value", item) for item in items])
    message = clean_text(shorten(keys.redacted(message), 10_000))
    key = hash_key(kind, root_task, name, message)
    return Incident(key, kind, node, name, message, stack)


def _place(checkpoint_ns: str, task_path: str, sends: Sequence[str]) -> str | None:
    """The task's node, after the nodes whose subgraphs it is in."""
    outer = [part.partition(":")[0] for part in checkpoint_ns.split("|")]
    return clean_text("/".join(filter(None, [*outer, node_of(task_path, sends)]))) or None


def node_of(task_path: str, sends: Sequence[str]) -> str | None:
    """The node that a task runs; None for a `Send` task of an unknown checkpoint."""
    if found := _PULL.search(task_path):
        return found[1]
    found = _PUSH.fullmatch(task_path)
    index = int(found[1]) if found else len(sends)
    return sends[index] if index < len(sends) else None

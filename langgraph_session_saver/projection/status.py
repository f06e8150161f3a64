"""What a thread is doing, read from what LangGraph saves. Pure.

A `put` says what is due next; errors and interrupts arrive through `put_writes` alone. Of a
thread whose checkpoint has tasks due, a saver cannot tell whether they run or wait for somebody
(a static breakpoint writes nothing): it is `pending`.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, TASKS

from langgraph_session_saver.encoding.keys import hash_key
from langgraph_session_saver.projection.plain_json import clean_text, shorten
from langgraph_session_saver.schema.column_types import utc_now

PENDING, RUNNING, DONE = "pending", "running", "done"

KINDS = {ERROR: "error", INTERRUPT: "interrupted"}

SEVERITY = {"interrupted": 1, "error": 2}

_PULL = re.compile(r"~__pregel_pull, ([^,]+)")

_PUSH = re.compile(r"~__pregel_push, (\d+)(?:, \d+)?")  # the index, and in newer versions a flag


@dataclass(frozen=True, slots=True)
class Incident:
    """An error or an interrupt that a task wrote."""

    status: str
    node: str | None
    type: str
    message: str
    stack: str | None
    key: bytes
    """The same for an error in a subgraph and the parent's task that it passes through."""


class Reached(NamedTuple):
    """The newest root checkpoint of a thread, as far as its status depends on it."""

    id: str
    due: Sequence[str]
    """Nodes that run next."""
    step: int | None


def status_at(reached: Reached, known_id: str | None) -> dict[str, Any]:
    """The columns of a thread's row at a checkpoint.

    A late `put` never clears what a `put_writes` for the same checkpoint has set.

    Args:
        reached: The checkpoint.
        known_id: The checkpoint that the status is of so far.
    """
    now = utc_now()
    values: dict[str, Any] = {"checkpoint_id": reached.id, "updated_at": now}
    if known_id is None or reached.id > known_id:
        values |= {
            "status": PENDING if reached.due else DONE,
            "status_node": ", ".join(reached.due) or None,
            "status_step": reached.step,
            "status_since": now,
            "status_checkpoint_id": reached.id,
        }
    elif reached.id == known_id and reached.step is not None:
        values["status_step"] = reached.step + 1
    return values


def due_nodes(values: Mapping[str, Any]) -> list[str]:
    """The nodes that a checkpoint's channels say run next."""
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
    """The nodes of a checkpoint's `Send` tasks, in their order."""
    sends = values.get(TASKS)
    return tuple([getattr(send, "node", "?") for send in sends]) if sends else ()


def incidents(
    writes: Sequence[tuple[str, Any]],
    checkpoint_ns: str,
    task_id: str,
    task_path: str,
    sends: Sequence[str],
) -> list[Incident]:
    """The errors and interrupts among a task's writes.

    Args:
        writes: Channels and values as `put_writes` gets them.
        checkpoint_ns: Namespace of the graph that the task belongs to.
        task_id: The task.
        task_path: Its path; names the node of all but `Send` tasks.
        sends: Nodes of the checkpoint's `Send` tasks.
    """
    return [
        _incident(KINDS[channel], value, _place(checkpoint_ns, task_path, sends), root_task)
        for root_task in [_root_task(checkpoint_ns, task_id)]
        for channel, value in writes
        if channel in KINDS
    ]


def _incident(status: str, value: Any, node: str | None, root_task: str) -> Incident:
    stack = None
    if isinstance(value, BaseException):
        stack = clean_text("".join(traceback.format_exception(value)))
        kind, message = type(value).__qualname__, str(value)
    elif status == "interrupted":
        kind, message = "Interrupt", repr([getattr(item, "value", item) for item in _items(value)])
    else:
        kind, message = type(value).__qualname__, str(value)
    message = clean_text(shorten(message, 10_000))
    return Incident(
        status, node, kind, message, stack, key=hash_key(status, root_task, kind, message)
    )


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _root_task(checkpoint_ns: str, task_id: str) -> str:
    """The root graph's task that a subgraph's runs in: `node:task|inner:task`."""
    first = checkpoint_ns.partition("|")[0]
    return first.partition(":")[2] or task_id


def _place(checkpoint_ns: str, task_path: str, sends: Sequence[str]) -> str | None:
    """The node, under the nodes whose subgraphs it is in."""
    outer = [part.partition(":")[0] for part in checkpoint_ns.split("|") if part]
    node = node_of(task_path, sends)
    names = [*outer, *([node] if node else [])]
    return clean_text("/".join(names)) or None


def node_of(task_path: str, sends: Sequence[str]) -> str | None:
    """The node that a task runs; None for a `Send` task whose checkpoint is not known."""
    if found := _PULL.search(task_path):
        return found[1]
    found = _PUSH.fullmatch(task_path)
    index = int(found[1]) if found else len(sends)
    return sends[index] if index < len(sends) else None

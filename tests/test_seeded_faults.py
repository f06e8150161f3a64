"""Faults put into a copy of the package on purpose: the suite notices each of them.

    python -m pytest -n 0 -m heavy tests/test_seeded_faults.py

A new fault is one line here. One that no test notices shows what the suite does not hold.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "langgraph_session_saver"


class Fault(NamedTuple):
    """A change of the package that makes it wrong."""

    name: str
    file: str
    old: str
    """What is replaced; it stands once in the file."""
    new: str
    tests: str
    """The tests that notice, as pytest takes them."""


DIFFERENTIAL = "tests/acceptance/test_differential.py"
RETENTION = "tests/retention"
MESSAGES = "tests/projection/test_message_rows.py tests/projection/test_transcript_writes.py"

FAULTS = [
    Fault(
        "writes lose their task path",
        "checkpointer/put_writes.py",
        '"task_path": task.task_path,\n                "channel"',
        '"task_path": "",\n                "channel"',
        "tests/acceptance tests/checkpointer tests/projection/test_thread_status.py",
    ),
    Fault(
        "pending writes come back in any order",
        "checkpointer/get.py",
        "for row in sorted(writes, key=lambda row: writes_sort_key(row.task_path, row.task_id, "
        "row.idx)):",
        "for row in sorted(writes, key=lambda row: row.task_id[::-1]):",
        DIFFERENTIAL,
    ),
    Fault(
        "of two writes to a special channel the first stays",
        "checkpointer/put_writes.py",
        "for position, (channel, value) in enumerate(task.writes):",
        "for position, (channel, value) in reversed([*enumerate(task.writes)]):",
        "tests/acceptance tests/checkpointer tests/encoding",
    ),
    Fault(
        "a step is stored although another process changed its thread",
        "storage/in_turn.py",
        "            if not statement.run(conn, params):\n                return False",
        "            statement.run(conn, params)",
        "tests/storage tests/projection tests/reliability/test_failures.py",
    ),
    Fault(
        "keep_last keeps one checkpoint too many",
        "retention/policy.py",
        'roots = namespaces.pop("", [])[-count:]',
        'roots = namespaces.pop("", [])[-count - 1 :]',
        RETENTION,
    ),
    Fault(
        "what a DeltaChannel replays from is deleted",
        "retention/policy.py",
        "return Choice(kept, replayed_ancestors(rows, kept) - kept)\n\n\ndef keep_last_and_running",
        "return Choice(kept, set())\n\n\ndef keep_last_and_running",
        RETENTION,
    ),
    Fault(
        "what an overtaken run stands on is deleted",
        "retention/policy.py",
        "hidden | (running | replayed_ancestors(rows, running)) - kept",
        "hidden",
        "tests/retention/test_overlapping_runs.py",
    ),
    Fault(
        "a host whose clock is behind saves what nobody reads",
        "checkpointer/clock.py",
        "    if checkpoint_id >= earlier_id:\n        return 0.0\n",
        "    return 0.0\n",
        "tests/reliability/test_clock.py",
    ),
    Fault(
        "the base of a stored change is deleted",
        "retention/policy.py",
        "            at = blobs[at][0]\n",
        "            at = None\n",
        RETENTION,
    ),
    Fault(
        "a change is stored against another base than it was made from",
        "encoding/chains.py",
        "base = links[-1].key if links else previous.root",
        "base = previous.root",
        DIFFERENTIAL,
    ),
    Fault(
        "the common front of two values is one byte too long",
        "encoding/delta.py",
        "return min(count, limit) + len(rest) - (differing.bit_length() + 7) // 8",
        "return min(count, limit) + len(rest) - differing.bit_length() // 8",
        "tests/encoding",
    ),
    Fault(
        "values are cached without their thread",
        "encoding/caches.py",
        "self.values.put((thread_key, value.key), value)",
        'self.values.put((b"", value.key), value)',
        "tests/checkpointer tests/acceptance/test_long_chat.py tests/benchmarks",
    ),
    Fault(
        "list includes the checkpoint that it is to start before",
        "storage/checkpoints.py",
        'c.c.checkpoint_id < sa.bindparam("before")',
        'c.c.checkpoint_id <= sa.bindparam("before")',
        DIFFERENTIAL,
    ),
    Fault(
        "a checkpoint's parent is not stored",
        "checkpointer/encode.py",
        '"parent_checkpoint_id": place.checkpoint_id,',
        '"parent_checkpoint_id": None,',
        DIFFERENTIAL,
    ),
    Fault(
        "an older checkpoint's columns replace a newer one's",
        "checkpointer/put.py",
        'is_newest = new.place.is_root and new.id >= (was.checkpoint_id or "")',
        "is_newest = new.place.is_root",
        "tests/projection/test_projecting_checkpoints.py",
    ),
    Fault(
        "a run that was overtaken has no rows",
        "checkpointer/put.py",
        "                projected.add(conn, thread, was, new.step(whole=False), changes)\n",
        "",
        "tests/projection/test_overlapping_runs.py tests/projection/test_projecting_checkpoints.py",
    ),
    Fault(
        "a message that was dropped is not marked",
        "projection/rows.py",
        "        self._mark_removed(conn, thread.key, changes)\n",
        "",
        MESSAGES,
    ),
    Fault(
        "a message that moved keeps its position",
        "projection/transcript.py",
        "            now = Shown(None if entry.row is None else digest_of(entry.row), position)\n",
        "            now = Shown(None if entry.row is None else digest_of(entry.row), position)\n"
        "            was = known.get(entry.key)\n"
        "            now = was if was and was.digest == now.digest else now\n",
        MESSAGES,
    ),
    Fault(
        "a call is recorded again by each fork",
        "projection/transcript.py",
        "        if known[call]:\n            known[call] -= 1\n        else:",
        "        if True:",
        "tests/projection/test_model_calls.py",
    ),
    Fault(
        "an interrupt hides an error",
        "projection/status.py",
        'SEVERITY = {"interrupted": 1, "error": 2}',
        'SEVERITY = {"interrupted": 2, "error": 1}',
        "tests/projection/test_thread_status.py",
    ),
    Fault(
        "a thread's status is cleared by a late put of the same checkpoint",
        "projection/status.py",
        "if known_id is None or reached.id > known_id:",
        "if known_id is None or reached.id >= known_id:",
        "tests/projection/test_thread_status.py",
    ),
    Fault(
        "times without a zone are local ones",
        "schema/column_types.py",
        "return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)\n    "
        "except",
        "return time.astimezone(UTC)\n    except",
        "tests/transfer tests/schema tests/projection",
    ),
    Fault(
        "what projections refuse is stored under the policy raise",
        "checkpointer/put_writes.py",
        "            check_writes(context.projector.projections, writes, context.secret_keys)\n",
        "",
        "tests/projection/test_invalid_values.py",
    ),
    Fault(
        "a failed transaction is committed",
        "sql/dialects/base.py",
        'execute(conn, "ROLLBACK")',
        'execute(conn, "COMMIT")',
        "tests/reliability/test_failures.py tests/sql tests/storage",
    ),
]
SHORT = FAULTS[4:7]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_each_fault_replaces_stands_once_in_its_file(fault: Fault) -> None:
    assert (PACKAGE / fault.file).read_text("utf-8").count(fault.old) == 1


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.name)
def test_a_fault_is_noticed(fault: Fault, tmp_path: Path) -> None:
    assert_noticed(fault, tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_is_noticed(fault: Fault, tmp_path: Path) -> None:
    assert_noticed(fault, tmp_path)


def assert_noticed(fault: Fault, directory: Path) -> None:
    """Run tests on a copy of the package with the fault, on SQLite; one of them must fail."""
    shutil.copytree(PACKAGE, directory / PACKAGE.name)
    for name in ("tests", "examples", "pyproject.toml", "README.md"):
        (directory / name).symlink_to(ROOT / name)
    changed = directory / PACKAGE.name / fault.file
    changed.write_text(changed.read_text("utf-8").replace(fault.old, fault.new), "utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-k", "not postgresql and not mariadb", *fault.tests.split()],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout[-2_000:] + done.stderr[-2_000:]
    print(f"{fault.name}: {[line for line in done.stdout.splitlines() if 'FAILED' in line]}")

"""A process that stores or reads one large value, and says what it took."""

from __future__ import annotations

import json
import os
import time
from hashlib import sha256

from langgraph_session_saver import SessionSaver
from tests.support.moving import peak_megabytes
from tests.support.rows import checkpoint, checkpoint_id, config


def put(saver: SessionSaver, value: bytes, thread: str = "t") -> bytes:
    """Store it as a channel's value."""
    made = checkpoint(1, {"note": value})
    saver.put(config(thread), made, {"source": "loop", "step": 1}, made["channel_versions"])
    return value


def put_writes(saver: SessionSaver, value: bytes) -> bytes:
    """Store it as a task's write."""
    put(saver, b"small".ljust(99), "other")
    where = config("other", checkpoint_ns="", checkpoint_id=checkpoint_id(1))
    saver.put_writes(where, [("note", value)], "task")
    return value


def get(saver: SessionSaver, _value: bytes) -> bytes:
    """Read a channel's value."""
    found = saver.get_tuple(config())
    assert found is not None
    value: bytes = found.checkpoint["channel_values"]["note"]
    return value


def get_writes(saver: SessionSaver, _value: bytes) -> bytes:
    """Read a task's write."""
    found = saver.get_tuple(config("other"))
    assert found is not None
    assert found.pending_writes
    value: bytes = found.pending_writes[0][2]
    return value


CALLS = {"put": put, "put_writes": put_writes, "get": get, "get_writes": get_writes}


def run(url: str, name: str, megabytes: int) -> None:
    """Make one call, and print seconds, the peak of memory beside the value, and a digest."""
    with SessionSaver.from_conn_string(url) as saver:
        put(saver, b"small".ljust(99), "before")  # imports and connects
        value = os.urandom(megabytes << 20 if name.startswith("put") else 0)
        before, began = peak_megabytes(), time.perf_counter()
        found = CALLS[name](saver, value)
        seconds, peak = time.perf_counter() - began, peak_megabytes() - before
    took = {"seconds": seconds, "peak": peak / megabytes, "digest": sha256(found).hexdigest()}
    print(json.dumps(took), flush=True)

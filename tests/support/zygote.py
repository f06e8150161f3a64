"""Processes to kill: forked within milliseconds from one that has everything imported.

A ``Zygote`` is a small process, single-threaded and without any open engine. Asked to, it forks a
child that runs ``module:function`` with keyword arguments. What the child prints comes back line
by line, so that a test waits for an event of the child instead of sleeping::

    with Zygote() as zygote:
        child = zygote.spawn("tests.support.workloads:run", {"url": url})
        child.wait_for("step 3")
        child.kill()
        assert child.wait() == -signal.SIGKILL

A coroutine function is run in an event loop. The child's standard error comes back among its
lines too. All children die with the zygote, and the zygote with the process that started it.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

ROOT = Path(__file__).resolve().parents[2]
PRELOADED = (
    "langchain_core.messages",
    "langgraph.graph",
    "langgraph.checkpoint.memory",
    "langgraph.types",
    "langgraph_session_saver",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.mysql.asyncmy",
    "sqlalchemy.dialects.mysql.pymysql",
    "aiosqlite",
    "asyncmy",
    "asyncpg",
    "psycopg",
    "pymysql",
    "rich.console",
    "typer",
)
DEFAULT_SECONDS = 60.0
_MAX_MESSAGE = 1 << 20


class ZygoteError(Exception):
    """The zygote refused a request, or a child did not do what the test waits for."""


class Child:
    """One forked process."""

    def __init__(self, zygote: Zygote, pid: int, output: int) -> None:
        self.pid = pid
        self.lines: list[str] = []
        self._zygote = zygote
        self._output = output
        self._rest = b""
        self._status: int | None = None

    @property
    def text(self) -> str:
        """All that was read of the child's output."""
        return "\n".join(self.lines)

    def kill(self, how: int = signal.SIGKILL) -> None:
        """Send a signal; does nothing where the child was waited for already."""
        if self._status is None:
            os.kill(self.pid, how)  # not reaped yet, so the id is still the child's

    def stop(self) -> None:
        """Stop the process with SIGSTOP; returns when none of its threads runs.

        Raises:
            ZygoteError: The process has ended.
        """
        self.kill(signal.SIGSTOP)
        if not self._zygote.request({"wait_for_stop": self.pid})["is_stopped"]:
            self.wait()
            raise ZygoteError(f"the child ended before it was stopped; it said:\n{self.text}")

    def go_on(self) -> None:
        """Let a stopped process run on."""
        self.kill(signal.SIGCONT)

    def wait(self, seconds: float = DEFAULT_SECONDS) -> int:
        """Read the output to its end and return the exit status, negative for a signal."""
        if self._status is None:
            while self._read(time.monotonic() + seconds):
                pass
            self.close()
            reply = self._zygote.request({"wait": self.pid})
            self._status = int(reply["status"])
        return self._status

    def wait_for(self, fragment: str, seconds: float = DEFAULT_SECONDS) -> str:
        """The first line that contains the fragment; reads on until there is one.

        Raises:
            ZygoteError: The child ended, or the time was up, without such a line.
        """
        deadline = time.monotonic() + seconds
        seen = 0
        while True:
            for line in self.lines[seen:]:
                if fragment in line:
                    return line
            seen = len(self.lines)
            if self._status is not None or not self._read(deadline):
                raise ZygoteError(f"the child ended without {fragment!r}; it said:\n{self.text}")

    def reads_on(self, seconds: float = DEFAULT_SECONDS) -> bool:
        """Read some more output; False at its end."""
        return self._read(time.monotonic() + seconds)

    def read_printed(self) -> None:
        """Read what the child has printed until now."""
        while self._has_output(0) and self._read(time.monotonic()):
            pass

    def close(self) -> None:
        """Stop reading the output: only for a child that is not waited for."""
        if self._output >= 0:
            os.close(self._output)
            self._output = -1

    def _read(self, deadline: float) -> bool:
        """Read some output; False at its end, which the end of the process brings about."""
        if not self._has_output(max(0.0, deadline - time.monotonic())):
            raise ZygoteError(f"the child {self.pid} was too slow; it said:\n{self.text}")
        got = os.read(self._output, 1 << 16)
        *whole, self._rest = (self._rest + got).split(b"\n")
        if not got and self._rest:
            whole, self._rest = [self._rest], b""
        self.lines += [line.decode(errors="replace") for line in whole]
        return bool(got)

    def _has_output(self, seconds: float) -> bool:
        """Wait until there is output, or its end."""
        poll = select.poll()
        poll.register(self._output, select.POLLIN | select.POLLHUP)
        return bool(poll.poll(seconds * 1000))


class Zygote:
    """Starts children; a context manager."""

    def __init__(self, preload: Sequence[str] = PRELOADED) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self._lock = threading.Lock()
        try:
            with theirs:
                descriptor = theirs.fileno()
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.support.zygote", str(descriptor), *preload],
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[descriptor],
                    start_new_session=True,
                )
        except OSError:
            ours.close()
            raise
        try:
            self._receive()  # everything is imported
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def spawn(self, target: str, arguments: Mapping[str, Any] | None = None) -> Child:
        """Fork a child that runs ``module:function`` with JSON keyword arguments.

        Raises:
            ZygoteError: The module cannot be imported, or importing it left a thread running.
        """
        output, childs = os.pipe()
        try:
            reply = self.request({"spawn": target, "arguments": dict(arguments or {})}, childs)
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(childs)
        return Child(self, int(reply["pid"]), output)

    def request(self, message: Mapping[str, Any], *descriptors: int) -> dict[str, Any]:
        """Send one message and return the answer."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(message).encode()], list(descriptors))
            return self._receive()

    def close(self) -> None:
        """End the zygote; it kills what is left of its children."""
        self._socket.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _receive(self) -> dict[str, Any]:
        got = self._socket.recv(_MAX_MESSAGE)
        if not got:
            raise ZygoteError(f"the zygote ended: {self._process.wait(10)}")
        reply: dict[str, Any] = json.loads(got)
        if "error" in reply:
            raise ZygoteError(reply["error"])
        return reply


def _serve(control: socket.socket) -> None:
    """Answer requests until the other side is gone."""
    children: set[int] = set()
    _send(control, {"ready": os.getpid()})
    while True:
        try:
            got, descriptors, _, _ = socket.recv_fds(control, _MAX_MESSAGE, 1)
        except ConnectionError:
            got, descriptors = b"", []
        if not got:
            break
        request = json.loads(got)
        if "spawn" not in request:
            _send(control, _wait(request, children))
            continue
        try:
            function = _find(request["spawn"])
            _require_single_thread()
        except Exception:  # noqa: BLE001 - whatever an import can raise: the test gets to see it
            _send(control, {"error": traceback.format_exc()})
        else:
            pid = os.fork()
            if pid == 0:
                control.close()
                _run_child(function, request["arguments"], descriptors[0])
            children.add(pid)
            _send(control, {"pid": pid})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _wait(request: Mapping[str, Any], children: set[int]) -> dict[str, Any]:
    """Wait until a child has ended, or until all of its threads are stopped."""
    if "wait" in request:
        _, status = os.waitpid(request["wait"], 0)
        children.discard(request["wait"])
        return {"status": os.waitstatus_to_exitcode(status)}
    # WNOWAIT: a child that has ended is still there to be waited for.
    events = os.WSTOPPED | os.WEXITED | os.WNOWAIT
    seen = os.waitid(os.P_PID, request["wait_for_stop"], events)
    return {"is_stopped": seen is not None and seen.si_code == os.CLD_STOPPED}


def _send(control: socket.socket, message: Mapping[str, Any]) -> None:
    control.send(json.dumps(message).encode())


def _find(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _require_single_thread() -> None:
    tasks = Path("/proc/self/task")
    count = len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()
    if count != 1:
        raise ZygoteError(f"an import left {count} threads running: a fork would not be clean")


def _run_child(function: Any, arguments: dict[str, Any], output: int) -> NoReturn:
    code = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        random.seed()
        gc.enable()
        # A shell that starts the tests in the background has them ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        result = function(**arguments)
        if inspect.iscoroutine(result):
            asyncio.run(result)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - it must not return into the zygote's loop
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _main(descriptor: int, preload: Sequence[str]) -> None:
    for module in preload:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page
    with socket.socket(fileno=descriptor) as control:
        _serve(control)


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2:])

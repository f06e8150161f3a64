"""Python programs run as processes of their own, without the second that their imports take.

``Python`` stands for the interpreter: a zygote that has imported the libraries forks a process,
which then does what ``python -m module …`` or ``python file.py …`` does, in a directory, with an
environment and standard streams of its own, down to its exit status.
"""

from __future__ import annotations

import atexit
import os
import runpy
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess

from tests.support.zygote import DEFAULT_SECONDS, Child, Zygote

STREAMS = ("stdin", "stdout", "stderr")


class Python:
    """Runs programs; made from a zygote."""

    def __init__(self, zygote: Zygote) -> None:
        self._zygote = zygote

    def run(
        self,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str],
        input: str = "",  # noqa: A002 - as subprocess.run calls it
    ) -> CompletedProcess[str]:
        """Run a program to its end; what follows ``python`` on its command line."""
        with tempfile.TemporaryDirectory() as name:
            streams = [Path(name, stream) for stream in STREAMS]
            streams[0].write_text(input, encoding="utf-8")
            child = self._start(arguments, cwd, env, streams)
            code = child.wait(2 * DEFAULT_SECONDS)
            out, err = (path.read_text(encoding="utf-8") for path in streams[1:])
        return CompletedProcess(["python", *arguments], code, out, err)

    def start(
        self, *arguments: str, cwd: Path, env: Mapping[str, str], terminal: str = os.devnull
    ) -> Child:
        """Start a program to be killed: it says nothing, or says it in a terminal."""
        return self._start(arguments, cwd, env, [Path(terminal)] * 3)

    def _start(
        self, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], streams: Sequence[Path]
    ) -> Child:
        given = {
            "arguments": list(arguments),
            "cwd": str(cwd),
            "env": dict(env),
            "streams": [str(path) for path in streams],
        }
        return self._zygote.spawn(f"{__name__}:python", given)


def python(arguments: list[str], cwd: str, env: dict[str, str], streams: list[str]) -> None:
    """What a child does: be the interpreter from its start to its end."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # look at TMPDIR anew
    for number, (name, path) in enumerate(zip(STREAMS, streams, strict=True)):
        mode = "w" if number else "r"
        stream = Path(path).open(mode, encoding="utf-8")  # noqa: SIM115 - until the process ends
        os.dup2(stream.fileno(), number)
        setattr(sys, name, stream)
    try:
        _run(arguments)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        raise
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stderr.flush()


def _run(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        sys.path.insert(0, str(Path.cwd()))
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(arguments[0]).parent))
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")

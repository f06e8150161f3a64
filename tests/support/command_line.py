"""The command line as a process: the installed program, or a fork of one that has it imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.zygote import PRELOADED, Zygote

PROGRAM = Path(sys.executable).with_name("langgraph-session-saver")
PRELOADED_TOO = (
    *PRELOADED,
    "langgraph.checkpoint.sqlite",
    "langgraph_session_saver.cli.app",
    "langgraph_session_saver.cli.demo_graph",
    "langgraph_session_saver.migrate",
    "rich.progress",
    "typer.rich_utils",
)


@dataclass(frozen=True)
class Done:
    """A process that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which is JSON alone."""
        return json.loads(self.out)


class CommandLine:
    """Runs `langgraph-session-saver`; `environment` is set for every run."""

    def __init__(self, zygote: Zygote, scratch: Path, **environment: str) -> None:
        self._zygote = zygote
        self._scratch = scratch
        self._environment = {"COLUMNS": "100", "NO_COLOR": "1", **environment}

    def __call__(self, *arguments: str, terminal: str = "", **environment: str) -> Done:
        """Run it in a fork: a process of its own, which imports nothing anew.

        Args:
            *arguments: What is typed after the program's name.
            terminal: The path of a terminal that is its standard input, output and error.
            **environment: More variables.
        """
        files = [self._scratch / "out", self._scratch / "err"]
        child = self._zygote.spawn(
            f"{__name__}:run_here",
            {
                "arguments": arguments,
                "directory": str(Path.cwd()),
                "environment": {**self._environment, **environment},
                "streams": [str(file) for file in files],
                "terminal": terminal,
            },
        )
        code = child.wait()
        if terminal:
            return Done(code, child.text, "")
        return Done(code, *(file.read_text(encoding="utf-8") for file in files))

    def as_installed(self, *arguments: str, **environment: str) -> Done:
        """Run the installed program, from nothing."""
        done = subprocess.run(
            [str(PROGRAM), *arguments],
            env=clean_environment() | self._environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)


def clean_environment() -> dict[str, str]:
    """This process's environment without what configures the programs under test."""
    dropped = ("LANGGRAPH_", "LANGSMITH_", "LANGCHAIN_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    return kept | {"PYTHONUTF8": "1"}


def run_here(
    arguments: list[str],
    directory: str,
    environment: dict[str, str],
    streams: list[str],
    terminal: str,
) -> None:
    """Become the program, in a child that was forked for it."""
    os.chdir(directory)
    if terminal:
        for number in (0, 1, 2):
            os.dup2(os.open(terminal, os.O_RDWR), number)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    else:
        for number, name in enumerate(streams, start=1):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    if environment.get("UNPRIVILEGED"):
        drop_privileges()
    os.environ.clear()
    os.environ.update(clean_environment() | environment)
    sys.argv = ["langgraph-session-saver", *arguments]
    from langgraph_session_saver.cli import main  # noqa: PLC0415

    main()


def drop_privileges() -> None:
    """Let file modes hold for this process, as they do for one that is not root's."""
    if os.geteuid() != 0:
        return
    import ctypes  # noqa: PLC0415

    override, search = 1, 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    for number in range(3):  # effective, permitted, inheritable
        sets[number] &= ~(1 << override | 1 << search)
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")

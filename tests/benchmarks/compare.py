"""Compare this checkout with another one: whole graphs, run by both in turns.

    python -m tests.benchmarks.compare ../other-checkout
    python -m tests.benchmarks.compare ../other-checkout --only chat-30 agent --rounds 9

Each run is a process of its own, on a new SQLite file or on new threads of a server's database. The
table shows medians of wall time and of processor time, in ms per unit (turn, round, step).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from langgraph_session_saver import SessionSaver
from tests.benchmarks.graphs import (
    Program,
    Written,
    agent,
    chat,
    fan_out,
    large_dict,
    loop,
    page_builder,
)

PROGRAMS: Mapping[str, Written] = {
    "chat-30": lambda: chat(30),
    "chat-100": lambda: chat(100),
    "chat-400": lambda: chat(400),
    "page-builder": lambda: page_builder(100),
    "fan-out": lambda: fan_out(10),
    "agent": lambda: agent(5),
    "large-dict": lambda: large_dict(20),
    "loop-2KB": lambda: loop(100),
}

THREADS = 64
STEPS = 10


def invoke(saver: SessionSaver, program: Program) -> None:
    """Run a program on a new thread."""
    graph, config = program.builder.compile(checkpointer=saver), _config(program)
    for given in program.inputs:
        graph.invoke(given, config, durability="sync")


def _config(program: Program) -> Any:
    return {**program.config, "configurable": {"thread_id": str(uuid4())}}


def run_program(name: str, url: str) -> dict[str, float]:
    """Run a program once, after a short one."""
    with SessionSaver.from_conn_string(url) as saver:
        invoke(saver, chat(3))
        program = PROGRAMS[name]()
        with _timed(program.units) as found:
            invoke(saver, program)
    return found


def run_in_threads(url: str) -> dict[str, float]:
    """Run a loop on many threads at once with `invoke`."""
    with SessionSaver.from_conn_string(url) as saver, ThreadPoolExecutor(THREADS) as executor:
        list(executor.map(lambda _: invoke(saver, loop(1)), range(THREADS)))
        with _timed(THREADS * STEPS) as found:
            list(executor.map(lambda _: invoke(saver, loop(STEPS)), range(THREADS)))
    return found


def run_in_tasks(url: str) -> dict[str, float]:
    """Run a loop on many threads at once with `ainvoke`."""

    async def run_all(saver: SessionSaver, steps: int) -> None:
        program = loop(steps)
        graph = program.builder.compile(checkpointer=saver)
        (given,) = program.inputs
        runs = (graph.ainvoke(given, _config(program), durability="sync") for _ in range(THREADS))
        await asyncio.gather(*runs)

    async def main() -> dict[str, float]:
        async with SessionSaver.from_conn_string(url) as saver:
            await run_all(saver, 1)
            with _timed(THREADS * STEPS) as found:
                await run_all(saver, STEPS)
        return found

    return asyncio.run(main())


AT_ONCE: Mapping[str, Callable[[str], dict[str, float]]] = {
    "64-invoke": run_in_threads,
    "64-ainvoke": run_in_tasks,
}


@contextmanager
def _timed(units: int) -> Iterator[dict[str, float]]:
    found: dict[str, float] = {}
    wall, processor = time.perf_counter(), time.process_time()
    yield found
    found["wall"] = 1_000 * (time.perf_counter() - wall) / units
    found["cpu"] = 1_000 * (time.process_time() - processor) / units


def run_once(name: str, url: str) -> dict[str, float]:
    """Run a workload; without a URL on a new SQLite file."""
    run = AT_ONCE[name] if name in AT_ONCE else lambda to: run_program(name, to)
    if url:
        return run(url)
    with tempfile.TemporaryDirectory() as directory:
        return run(f"sqlite:///{Path(directory) / 'compared.db'}")


def measure(checkout: Path, name: str, url: str) -> dict[str, float]:
    """Run a workload in a process that imports a checkout's package."""
    command = [sys.executable, __file__, str(checkout), "--one", name, "--url", url]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name} failed in {checkout}:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, help="the checkout to compare with")
    names = [*PROGRAMS, *AT_ONCE]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="WORKLOAD")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--url", default="", help="a server's database; default new SQLite files")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run_once(given.one, given.url)))
        return
    here, there = Path(__file__).resolve().parents[2], given.other.resolve()
    print("| workload | other: wall | this: wall | change | other: cpu | this: cpu | change |")
    print("|---|---|---|---|---|---|---|")
    for name in given.only:
        runs: dict[Path, list[dict[str, float]]] = {here: [], there: []}
        for number in range(given.rounds):
            for checkout in (here, there) if number % 2 else (there, here):
                runs[checkout].append(measure(checkout, name, given.url))
        cells = [name]
        for quantity in ("wall", "cpu"):
            before, now = (
                statistics.median(run[quantity] for run in runs[checkout])
                for checkout in (there, here)
            )
            cells += [f"{before:.2f}", f"{now:.2f}", f"{now / before - 1:+.1%}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

"""Work that outlives its process: one is killed in mid-run, one asks a person and ends.

Install:  pip install langgraph-session-saver langgraph
Run:      python -m examples.resume_interrupted [FILE]      (FILE keeps the database)
Prints:

    A process builds a page, and is killed while it renders:
      plan runs
      draw runs
      render runs
      ended by signal 9; stored: pending, due: render

    Another process resumes it; plan and draw are not run again:
      render runs
      asks: Publish the page made by plan, draw, render?
      ended; stored: interrupted, due: publish

    A third process brings a person's answer:
      published by plan, draw, render after 'yes'
      ended; stored: done, due: nothing
"""

import operator
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from langgraph_session_saver import SessionSaver


class Build(TypedDict, total=False):
    made_by: Annotated[list[str], operator.add]
    answer: str


def run_one(database: str, task: str) -> None:
    """What each process does: the same graph over the same file."""

    def work(node: str, seconds: float = 0) -> Build:
        print(node, "runs", flush=True)
        time.sleep(seconds)
        return {"made_by": [node]}

    def publish(state: Build) -> Build:
        return {"answer": interrupt(f"Publish the page made by {', '.join(state['made_by'])}?")}

    builder = StateGraph(Build)
    builder.add_node("plan", lambda _: work("plan"))
    builder.add_node("draw", lambda _: work("draw"))
    builder.add_node("render", lambda _: work("render", 60 if task == "start" else 0))
    builder.add_node("publish", publish)
    for edge in [(START, "plan"), ("plan", "draw"), ("draw", "render"), ("render", "publish")]:
        builder.add_edge(*edge)
    given: dict[str, Any] = {"start": {}, "resume": None, "answer": Command(resume="yes")}
    config: RunnableConfig = {"configurable": {"thread_id": "page"}}
    with SessionSaver.from_conn_string(database) as saver:
        # "sync": a step is stored before the next begins, so a kill loses the running node only.
        graph = builder.compile(checkpointer=saver)
        state = graph.invoke(given[task], config, durability="sync")
        for asked in state.get("__interrupt__", ()):
            print("asks:", asked.value)
        if "answer" in state:
            print(f"published by {', '.join(state['made_by'])} after {state['answer']!r}")


def in_a_process(database: Path, task: str, *, kill_at: str = "") -> None:
    command = [sys.executable, __file__, str(database), task]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        for line in process.stdout or ():
            print(" ", line, end="")
            if line.strip() == kill_at:
                process.kill()
    if process.returncode != (-9 if kill_at else 0):
        raise SystemExit(f"{task}: unexpected exit status {process.returncode}")
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT status, coalesce(status_node, 'nothing') FROM session_threads"
        [(status, due)] = connection.execute(query)
    print(f"  ended{' by signal 9' if kill_at else ''}; stored: {status}, due: {due}")


def main(database: Path) -> None:
    print("A process builds a page, and is killed while it renders:", flush=True)
    in_a_process(database, "start", kill_at="render runs")
    print("\nAnother process resumes it; plan and draw are not run again:")
    in_a_process(database, "resume")
    print("\nA third process brings a person's answer:")
    in_a_process(database, "answer")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        run_one(sys.argv[1], sys.argv[2])
    else:
        with TemporaryDirectory() as folder:
            main(Path(*sys.argv[1:2] or [folder, "resume.db"]))

"""What a thread did: its history, what changed, time travel, a fork, what `keep_last` removes.

Install:  pip install langgraph-session-saver langgraph
Run:      python -m examples.thread_history [FILE]      (FILE keeps the database)
Prints, with other ids, times and sizes:

    WHAT THE SECOND RUN CHANGED: thread 'poster'
    --- 1f1e62ca-36e0-63ef-8001-0fb8b2e1d190
    +++ 1f1e62ca-3752-6a58-8004-cc72408e1db6

    ~ score  changed, 9 B → 9 B
      ~ value  8.5 → 9.5 (+1)

    ~ text  changed, 18 B → 25 B
      ~ value  'Summer fair: cake' → 'Summer fair: cake, music'

    ~ wishes  changed, 6 B → 12 B
      + [1]  appended: 'music'

    TIME TRAVEL, to the end of the first run:
      Summer fair: cake

    A FORK FROM THERE, with another wish:
      Summer fair: cake, games

    HISTORY: thread 'poster': 8 checkpoints, newest first
         checkpoint     step  source  ran        changed      status       time        size   stored
         2026-11-27 (UTC)
    *    1f1ea184-2520     3  loop    draw       score, text  done         04:08:53    46 B    689 B
    *    1f1ea184-24fb     2  update             wishes       → draw       04:08:53    39 B    545 B
    | *  1f1ea184-244c     4  loop    draw       score, text  done         04:08:53    46 B    511 B
    | *  1f1ea184-2449     3  loop    __start__  wishes       → draw       04:08:53    39 B    565 B
    | *  1f1ea184-243a     2  input                           → __start__  04:08:53    48 B    519 B
    |/
    *    1f1ea184-240f     1  loop    draw       score, text  done         04:08:53    33 B    504 B
    *    1f1ea184-2409     0  loop    __start__  wishes       → draw       04:08:53     6 B    410 B
    *    1f1ea184-23fa    -1  input                           → __start__  04:08:53    14 B    245 B

    LEFT BY keep_last=3: thread 'poster': 3 checkpoints, newest first
       checkpoint    step  source  ran   changed              status  time         size   stored
       2026-11-27 (UTC)
    *  1f1ea184-252     3  loop    draw  score, text          done    04:08:53     46 B    689 B
    *  1f1ea184-24f     2  update        score, text, wishes  → draw  04:08:53     39 B    545 B
    *  1f1ea184-244     4  loop          score, text          done    04:08:53     46 B    511 B

    THE STATE, as it was:
      Summer fair: cake, games
      the end of the first run cannot be travelled to any more
"""

import operator
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph

from langgraph_session_saver import SessionSaver


class Poster(TypedDict, total=False):
    wishes: Annotated[list[str], operator.add]
    text: str
    score: float


def draw(state: Poster) -> Poster:
    wishes = state["wishes"]
    return {"text": f"Summer fair: {', '.join(wishes)}", "score": 7.5 + len(wishes)}


def main(database: Path) -> None:
    builder = StateGraph(Poster).add_node(draw).add_edge(START, "draw")
    thread: RunnableConfig = {"configurable": {"thread_id": "poster"}}
    with SessionSaver.from_conn_string(str(database)) as saver:
        graph = builder.compile(saver)
        graph.invoke({"wishes": ["cake"]}, thread)
        first = graph.get_state(thread).config  # names the checkpoint that ended this run
        graph.invoke({"wishes": ["music"]}, thread)

        print("WHAT THE SECOND RUN CHANGED:", end=" ")
        print(saver.diff("poster", first["configurable"]["checkpoint_id"]))

        print("\nTIME TRAVEL, to the end of the first run:")
        print(" ", graph.get_state(first).values["text"])

        forked = graph.update_state(first, {"wishes": ["games"]}, as_node="__start__")
        graph.invoke(None, forked)
        print("\nA FORK FROM THERE, with another wish:")
        print(" ", graph.get_state(thread).values["text"])

        print("\nHISTORY:", end=" ")
        print(saver.history("poster"))

        # As SessionSaver(…, keep_last=3) does at every step.
        saver.prune(["poster"], strategy="keep_last", keep_last=3)
        print("\nLEFT BY keep_last=3:", end=" ")
        print(saver.history("poster"))
        print("\nTHE STATE, as it was:")
        print(" ", graph.get_state(thread).values["text"])
        if saver.get_tuple(first) is None:
            print("  the end of the first run cannot be travelled to any more")


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        main(Path(*sys.argv[1:2] or [folder, "poster.db"]))

"""How many rows of `messages` a step writes: those that it adds, changes or moves."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langgraph.graph.message import REMOVE_ALL_MESSAGES

from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import chain, config, run, transcript
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE
on_sqlite = pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)  # has the triggers

ALL = RemoveMessage(REMOVE_ALL_MESSAGES)
LENGTH = 200
SAID = [HumanMessage(str(n), id=str(n)) for n in range(LENGTH)]
NEW = AIMessage("new", id="new")


@pytest.fixture
def written(sql: Sql) -> Any:
    """Start to log the rows of `messages` that are written; returns what reads the log."""

    def start() -> Any:
        sql("CREATE TABLE written (content TEXT)")
        for change in ("INSERT", "UPDATE"):
            sql(
                f"CREATE TRIGGER log_{change} AFTER {change} ON messages "
                "BEGIN INSERT INTO written VALUES (new.content); END"
            )
        return lambda: [row["content"] for row in sql("SELECT content FROM written")]

    return start


@on_sqlite
@pytest.mark.parametrize("is_known", [True, False], ids=["same process", "another process"])
@pytest.mark.parametrize(
    ("update", "expected"),
    [
        ([NEW], ["new"]),
        ([HumanMessage("edited", id="100")], ["edited"]),
        ([RemoveMessage("100")], ["100"]),
        ([ALL, NEW, *SAID], ["new"]),
        ([ALL, *SAID[:100], NEW, *SAID[100:]], ["new"]),
        ([ALL, *SAID[:7], *SAID[8:], SAID[7]], ["7"]),
        ([ALL, *SAID[150:], *SAID[:150]], [str(n) for n in range(150, LENGTH)]),
        ([ALL, NEW, *SAID[-2:]], ["new", *(str(n) for n in range(LENGTH - 2))]),
        ([ALL, *SAID], []),
    ],
    ids=["append", "edit", "remove", "in front", "between", "move", "turn", "summarise", "same"],
)  # fmt: skip
async def test_a_step_writes_the_messages_that_it_changes(
    make_saver: SaverFactory,
    sql: Sql,
    written: Any,
    is_known: bool,
    update: list[Any],
    expected: list[str],
) -> None:
    saver = make_saver()
    await run(chain(saver, {"messages": SAID}), {})
    read_log = written()

    graph = chain(saver if is_known else make_saver(), {"note": 1})
    await graph.aupdate_state(config(), {"messages": update})

    assert read_log() == expected
    state = await graph.aget_state(config())
    assert [text for _, text in transcript(sql)] == [m.text for m in state.values["messages"]]

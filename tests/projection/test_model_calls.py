"""`token_usage` is a bill: each model call has one row, whichever run it was made in."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import pytest
from langchain_core.messages import HumanMessage, RemoveMessage
from langgraph.graph import START, StateGraph

from langgraph_session_saver import MessageRows, SessionSaver
from tests.projection.samples import spent, talk
from tests.projection.test_delta_channels import Deltas
from tests.support.backends import EACH_ONCE, Sql
from tests.support.rows import chain, config, put, run, transcript
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE


def calls(sql: Sql) -> list[tuple[int, int]]:
    """Input and output tokens of the recorded calls, sorted."""
    rows = sql("SELECT input_tokens, output_tokens FROM token_usage")
    return sorted((row["input_tokens"], row["output_tokens"]) for row in rows)


# -- forks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "text"), [((3, 4), "hi"), ((1, 2), "other")], ids=["other tokens", "other text"]
)
async def test_messages_of_two_forks_with_one_id_are_two_calls(
    saver: SessionSaver, sql: Sql, tokens: tuple[int, int], text: str
) -> None:
    first = await put(saver, 1, {"messages": talk("q")})
    await put(saver, 2, {"messages": [*talk("q"), spent("w", 1, 2, id="a")]}, first)

    await put(saver, 3, {"messages": [*talk("q"), spent("w", *tokens, text, id="a")]}, first)

    assert calls(sql) == [(1, 2), tokens]


async def test_a_fork_does_not_record_the_calls_before_it_again(
    make_saver: SaverFactory, sql: Sql
) -> None:
    first = {"messages": [spent("w", 1, 2, id="a")]}
    graph = chain(make_saver(), first, {"messages": [spent("w", 3, 4, id="b")]})
    await run(graph, {"messages": talk("q")})
    after_step1 = [state async for state in graph.aget_state_history(config())][1]

    graph = chain(make_saver(), first, {"messages": [spent("w", 5, 6, id="c")]})
    forked = await graph.aupdate_state(after_step1.config, {"note": 1}, as_node="step1")
    await run(graph, None, forked)

    assert calls(sql) == [(1, 2), (3, 4), (5, 6)]


async def test_a_copied_thread_does_not_record_the_calls_of_the_original_again(
    make_saver: SaverFactory, sql: Sql
) -> None:
    saver = make_saver()
    await run(chain(saver, {"messages": [spent("w", 1, 2, id="a")]}), {"messages": talk("q")})

    await saver.acopy_thread("t", "copy")
    more = chain(make_saver(), {"messages": [spent("w", 3, 4, id="b")]})
    await run(more, {"messages": [HumanMessage("more", id="n")]}, config("copy"))

    assert calls(sql) == [(1, 2), (3, 4)]


async def test_a_copied_threads_first_checkpoint_put_again_records_no_call(
    make_saver: SaverFactory, sql: Sql
) -> None:
    """Nothing changed in it, though it has no parent to compare it with."""
    await put(make_saver(), 1, {"messages": [spent("w", 1, 2, id="a")]})
    await make_saver().acopy_thread("t", "copy")
    graph = chain(make_saver(), {"note": 1})
    (first,) = [state async for state in graph.aget_state_history(config("copy"))]

    await graph.aupdate_state(first.config, None, as_node="__copy__")

    assert calls(sql) == [(1, 2)]


async def test_each_process_records_the_calls_that_it_adds_to_a_delta_channel(
    make_saver: SaverFactory, sql: Sql
) -> None:
    for turn in range(1, 5):
        said = {"messages": [spent("w", turn, turn, id=f"a{turn}")]}
        graph = chain(make_saver(), said, state=Deltas)
        await run(graph, {"messages": [HumanMessage("q", id=f"h{turn}")]})

    first = [state async for state in graph.aget_state_history(config())][-2]
    await run(chain(make_saver(), {"messages": [spent("w", 9, 9, id="f")]}, state=Deltas), None,
              first.config)  # fmt: skip

    assert calls(sql) == [(1, 1), (2, 2), (3, 3), (4, 4), (9, 9)]


# -- edits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_known", [True, False], ids=["same process", "another process"])
async def test_an_edited_message_is_the_same_call(
    make_saver: SaverFactory, sql: Sql, is_known: bool
) -> None:
    saver = make_saver()
    await run(chain(saver, {"messages": [spent("w", 1, 2, id="a")]}), {"messages": talk("q")})

    graph = chain(saver if is_known else make_saver(), {"note": 1})
    edited = spent("w", 1, 2, id="a", content="shorter")
    await graph.aupdate_state(config(), {"messages": [edited]})

    assert transcript(sql) == [("user", "q"), ("assistant", "shorter")]
    assert calls(sql) == [(1, 2)]


async def test_a_message_that_a_model_writes_again_under_its_id_is_another_call(
    saver: SessionSaver, sql: Sql
) -> None:
    again = spent("w", 7, 8, id="a")

    await run(chain(saver, {"messages": [spent("w", 1, 2, id="a")]}, {"messages": [again]}), {})

    assert calls(sql) == [(1, 2), (7, 8)]


async def test_messages_without_ids_that_move_are_the_same_calls(
    make_saver: SaverFactory, sql: Sql
) -> None:
    class Plain(TypedDict, total=False):
        messages: list[Any]

    one, two = spent("w", 1, 2), spent("w", 1, 2)
    summary = HumanMessage("so far")
    graph = chain(
        make_saver(), {"messages": [one, two]}, {"messages": [summary, one, two]}, state=Plain
    )

    await run(graph, {})

    assert calls(sql) == [(1, 2), (1, 2)]


async def test_a_call_stays_recorded_when_its_message_is_removed(
    saver: SessionSaver, sql: Sql
) -> None:
    await run(
        chain(saver, {"messages": [spent("w", 1, 2, id="a")]}, {"messages": [RemoveMessage("a")]}),
        {},
    )

    assert calls(sql) == [(1, 2)]


# -- subgraphs ------------------------------------------------------------------------------------


class Joined(TypedDict, total=False):
    messages: Annotated[list[Any], operator.add]


def with_sub_agent(
    saver: SessionSaver, *, through: str = "messages", state: type[Any] = Joined
) -> Any:
    """A graph whose node runs a subgraph of two model calls; its answer is the second one."""

    class Outer(TypedDict, total=False):
        messages: Annotated[list[Any], operator.add]
        answer: str

    def says(tokens_in: int, tokens_out: int) -> Any:
        return lambda _state: {"messages": [spent("sub", tokens_in, tokens_out, id=uuid4().hex)]}

    inner: Any = chain(None, says(10, 1), says(20, 2), state=state)

    async def work(state: Outer) -> dict[str, Any]:
        found = await inner.ainvoke({"messages": state["messages"]})
        last = found["messages"][-1]
        return {"messages": [last]} if through == "messages" else {"answer": last.text}

    return (
        StateGraph(Outer).add_node("work", work).add_edge(START, "work").compile(checkpointer=saver)
    )


async def test_a_subgraphs_calls_are_counted_where_their_messages_reach_the_root(
    saver: SessionSaver, sql: Sql
) -> None:
    graph = with_sub_agent(saver)

    await run(graph, {"messages": [spent("root", 5, 5, id="r")]})

    assert calls(sql) == [(5, 5), (20, 2)]


@pytest.mark.parametrize("state", [Joined, Deltas], ids=["plain", "delta"])
@pytest.mark.parametrize("through", ["messages", "answer"])
async def test_all_calls_of_a_subgraph_are_counted_once_on_request(
    make_saver: SaverFactory, sql: Sql, through: str, state: type[Any]
) -> None:
    saver = make_saver(projections={"messages": MessageRows(subgraph_usage=True)})
    graph = with_sub_agent(saver, through=through, state=state)

    await run(graph, {"messages": [spent("root", 5, 5, id="r")]})
    await run(graph, {"messages": [HumanMessage("more", id="h")]})

    assert calls(sql) == [(5, 5), (10, 1), (10, 1), (20, 2), (20, 2)]
    said = [text for _, text in transcript(sql)]
    assert said == (["hi", "hi", "more", "hi"] if through == "messages" else ["hi", "more"])

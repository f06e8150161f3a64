"""Agents as people build them: after each turn the rows are what the agent's state says.

The agents are those of LangChain's public packages, and their models answer from scripts. A turn
runs over the saver of the turn before, or over a new one, as in another process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, SummarizationMiddleware
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, StateSnapshot
from langgraph_supervisor import create_supervisor
from langgraph_swarm import create_handoff_tool, create_swarm

from langgraph_session_saver import MessageRows, SessionSaver
from tests.support.backends import EACH_ONCE
from tests.support.graphs import ScriptRunner, thread
from tests.support.savers import SaverFactory
from tests.support.scripted_model import call, calling, scripted
from tests.support.transcripts import assert_rows_show, assert_usage_shows

BACKENDS_AND_FACES = EACH_ONCE
CONFIG = thread("t")

APPROVE = {"type": "approve"}
EDIT = {"type": "edit", "edited_action": {"name": "order", "args": {"tea": "black"}}}
REJECT = {"type": "reject", "message": "too dear"}


class Conversation:
    """A thread of an agent; after each turn its rows are compared with its state."""

    def __init__(self, next_saver: Callable[[], SessionSaver], agent: Any) -> None:
        self._next_saver = next_saver
        self._agent = agent
        self._use_next_saver()

    def _use_next_saver(self) -> None:
        self._saver = self._next_saver()
        self._runner = ScriptRunner(self._agent, self._saver)

    async def say(self, text: str) -> StateSnapshot:
        """A turn that begins with a message of the user's."""
        return await self.give({"messages": [HumanMessage(text)]})

    async def decide(self, *decisions: Any) -> StateSnapshot:
        """A turn that begins with decisions on the tool calls that wait for approval."""
        return await self.give(Command(resume={"decisions": list(decisions)}))

    async def correct(self, said: str, meant: str) -> StateSnapshot:
        """Edit a message of the user's, and run again from there."""
        self._use_next_saver()
        history = await self._runner.history(CONFIG)
        before = next(state for state in history if texts(state)[-1:] == [said])
        edited = HumanMessage(meant, id=last_of(before).id)
        fork = await self._runner.update(before.config, {"messages": [edited]})
        await self.compare()
        return await self.give(None, fork)

    async def give(
        self, given: Any, config: RunnableConfig = CONFIG, **options: Any
    ) -> StateSnapshot:
        """A turn."""
        self._use_next_saver()
        await self._runner.invoke(given, config, **options)
        return await self.compare()

    async def compare(self) -> StateSnapshot:
        """Compare the rows with the latest state, which is returned."""
        state: StateSnapshot = await self._runner.state(CONFIG)
        await assert_rows_show(self._saver, state)
        errors = await self._saver.sessions.aerrors("t")
        assert {error.kind for error in errors} <= {"error"}
        return state

    async def rows(self) -> list[str]:
        """The texts of the rows."""
        return [row.content for row in await self._saver.sessions.amessages("t")]

    async def usage(self) -> dict[str, int]:
        """How many calls of models were paid for, by the agent that made them."""
        await assert_usage_shows(self._saver, await self._runner.history(CONFIG))
        found = await self._saver.sessions.ausage_summary("agent")
        return {str(group.agent_type): group.calls for group in found}


Converse = Callable[[Any], Conversation]


@pytest.fixture(autouse=True)
def _no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGSMITH_TRACING", "false")


@pytest.fixture(params=["one saver", "a saver for each turn"])
def converse(request: pytest.FixtureRequest, make_saver: SaverFactory) -> Converse:
    """``converse(agent)``: a conversation on a new thread."""
    if request.param == "one saver":
        saver = make_saver()
        return lambda agent: Conversation(lambda: saver, agent)
    return lambda agent: Conversation(make_saver, agent)


def last_of(state: StateSnapshot) -> Any:
    return state.values["messages"][-1]


def texts(state: StateSnapshot) -> list[str]:
    return [message.text for message in state.values.get("messages", [])]


def order(tea: str) -> str:
    """Order tea."""
    return f"ordered {tea} tea"


def stock(tea: str) -> str:
    """Count the boxes of a tea."""
    return f"12 boxes of {tea}"


# -- one agent with middleware ------------------------------------------------------------------


def clerk(
    *answers: Any, tools: Sequence[Any] = (order, stock), summaries: Sequence[str] = ()
) -> Any:
    """An agent that asks before it orders, and keeps three messages once there are eight."""
    return create_agent(
        scripted("gpt", *answers),
        list(tools),
        name="clerk",
        middleware=[
            SummarizationMiddleware(
                scripted("gpt-mini", *summaries), trigger=("messages", 8), keep=("messages", 3)
            ),
            HumanInTheLoopMiddleware(interrupt_on={"order": True}),
        ],
    )


async def test_an_agent_that_calls_tools(converse: Converse) -> None:
    both = calling(call("stock", "c1", tea="green"), call("stock", "c2", tea="black"), text="Look:")
    chat = converse(clerk(both, "Both.", "Bye."))

    assert texts(await chat.say("Which tea?"))[1:] == [
        "Look:", "12 boxes of green", "12 boxes of black", "Both."
    ]  # fmt: skip
    await chat.say("Thanks.")
    assert await chat.usage() == {"clerk": 3}


async def test_an_agent_that_is_shown_a_picture_and_looks_at_another(converse: Converse) -> None:
    def leaf() -> list[Any]:
        """A picture of a tea leaf."""
        return [{"type": "image", "base64": "iVBORw0KGgo=", "mime_type": "image/png"}]

    chat = converse(clerk(calling(call("leaf", "c1")), "The same.", tools=[leaf]))
    tea = {"type": "image", "url": "https://example.com/tea.png"}

    asked: Any = HumanMessage([{"type": "text", "text": "Is this tea? "}, tea])
    await chat.give({"messages": [asked]})

    found = await chat.rows()
    assert found[0] == "Is this tea? [image: https://example.com/tea.png]"
    assert found[2] == "[image: image/png, 8 bytes]"


@pytest.mark.parametrize(
    ("decision", "result"),
    [(APPROVE, "ordered green"), (EDIT, "ordered black"), (REJECT, "too dear")],
    ids=["approved", "edited", "rejected"],
)
async def test_an_agent_whose_tool_call_is_decided_on(
    converse: Converse, decision: Any, result: str
) -> None:
    chat = converse(clerk(calling(call("order", "c1", tea="green")), "Done."))

    asked = await chat.say("Green tea, please.")
    decided = await chat.decide(decision)

    assert asked.next
    assert result in texts(decided)[2]
    assert last_of(decided).text == "Done."
    assert await chat.usage() == {"clerk": 2}


async def test_an_agent_whose_history_is_replaced_by_a_summary(converse: Converse) -> None:
    answers = [calling(call("stock", "c1", tea="green")), "12 boxes.", "Yes.", "No.", "Perhaps."]
    chat = converse(clerk(*answers, "Good.", summaries=("They want tea.",)))

    for text in ("How much green tea?", "Is it good?", "Is it dear?", "Is it far?"):
        state = await chat.say(text)

    assert "They want tea." in texts(state)[0]
    assert len(texts(state)) == 5
    await chat.say("Fine.")
    assert await chat.usage() == {"clerk": 6}


async def test_an_agent_that_waits_for_approval_right_after_a_summary(converse: Converse) -> None:
    answers = ["1.", "2.", "3.", "4.", calling(call("order", "c1", tea="green")), "Done."]
    chat = converse(clerk(*answers, summaries=("They count.",)))
    for text in ("1?", "2?", "3?", "4?"):
        await chat.say(text)

    asked = await chat.say("Green tea, please.")
    decided = await chat.decide(APPROVE)

    assert asked.next
    assert "They count." in texts(asked)[0]
    assert texts(decided) == [*texts(asked), "ordered green tea", "Done."]
    assert await chat.usage() == {"clerk": 6}


# -- deep agents --------------------------------------------------------------------------------


def shop(*answers: Any, tools: Sequence[Any] = (stock,), research: Sequence[Any] = ()) -> Any:
    """A deep agent that sends a researcher, and asks before either of them writes a file."""
    return create_deep_agent(
        scripted("opus", *answers),
        list(tools),
        system_prompt="You sell tea.",
        name="shop",
        subagents=[
            {
                "name": "researcher",
                "description": "looks things up",
                "system_prompt": "You look things up.",
                "model": scripted("haiku", *research),
            }
        ],
        interrupt_on={"write_file": True},
    )


def research(call_id: str, question: str) -> Any:
    return call("task", call_id, description=question, subagent_type="researcher")


def write(call_id: str, text: str) -> Any:
    return call("write_file", call_id, file_path=f"/{call_id}.md", content=text)


async def test_a_deep_agent_that_sends_sub_agents(converse: Converse) -> None:
    sent = calling(research("c1", "the best tea"), call("stock", "c2", tea="green"), text="Wait.")
    looked = (calling(call("stock", "s1", tea="white")), "White tea.", "Black tea.")
    chat = converse(
        shop(sent, "White.", calling(research("c3", "again")), "Black.", research=looked)
    )

    first = await chat.say("Which tea?")
    second = await chat.say("Really?")

    assert texts(first)[1:] == ["Wait.", "White tea.", "12 boxes of green", "White."]
    assert texts(second)[-2:] == ["Black tea.", "Black."]
    assert await chat.usage() == {"shop": 4}


@pytest.mark.parametrize("is_one_saver", [True, False], ids=["one saver", "a saver for each turn"])
async def test_the_calls_of_a_deep_agents_sub_agents_are_counted_on_request(
    make_saver: SaverFactory, is_one_saver: bool
) -> None:
    sent = calling(research("c1", "the best tea"))
    looked = (calling(call("stock", "s1", tea="white")), "White tea.", "Black tea.")
    agent = shop(sent, "White.", calling(research("c2", "again")), "Black.", research=looked)
    options: Any = {"projections": {"messages": MessageRows(subgraph_usage=True)}}
    saver = make_saver(**options)
    chat = Conversation(lambda: saver if is_one_saver else make_saver(**options), agent)

    await chat.say("Which tea?")
    await chat.say("Really?")

    found = await saver.sessions.ausage_summary("model")
    assert {group.model: group.calls for group in found} == {"opus": 4, "haiku": 3}


@pytest.mark.parametrize("decision", [APPROVE, REJECT], ids=["approved", "rejected"])
async def test_a_deep_agent_whose_file_is_decided_on(converse: Converse, decision: Any) -> None:
    chat = converse(shop(calling(write("c1", "green: 12")), "Written.", "Bye."))

    asked = await chat.say("Write down the stock.")
    decided = await chat.decide(decision)

    assert asked.next
    assert last_of(decided).text == "Written."
    await chat.say("Thanks.")
    assert await chat.usage() == {"shop": 3}


async def test_a_deep_agent_whose_sub_agent_waits_for_approval(converse: Converse) -> None:
    looked = (calling(write("s1", "white tea")), "Noted.")
    chat = converse(shop(calling(research("c1", "the best tea")), "Noted it.", research=looked))

    asked = await chat.say("Look up the best tea, and note it.")
    decided = await chat.decide(APPROVE)

    assert asked.next
    assert texts(decided)[-2:] == ["Noted.", "Noted it."]
    assert await chat.usage() == {"shop": 2}


async def test_a_deep_agent_that_is_told_something_else_instead_of_an_approval(
    converse: Converse,
) -> None:
    chat = converse(shop("Hello.", calling(write("c1", "x"), text="I write."), "Fine, I do not."))
    await chat.say("Hello!")
    await chat.say("Write it down.")

    told = await chat.say("No, wait.")

    assert texts(told)[-4] == "I write."
    assert told.values["messages"][-3].type == "tool"
    assert texts(told)[-2:] == ["No, wait.", "Fine, I do not."]
    assert await chat.usage() == {"shop": 3}


async def test_a_deep_agent_whose_messages_langgraph_stores_whole_now_and_then(
    converse: Converse, make_saver: SaverFactory
) -> None:
    counting = [calling(call("stock", f"c{number}", tea="green")) for number in range(26)]
    chat = converse(shop(*counting, "Enough.", "Bye."))

    await chat.say("Count the green tea again and again.")
    await chat.say("Thanks.")

    stored = [found.checkpoint["channel_values"] async for found in make_saver().alist(CONFIG)]
    assert any("messages" in values for values in stored)


async def test_a_deep_agent_that_is_given_what_stands_for_a_message(converse: Converse) -> None:
    chat = converse(shop("One.", "Two.", "Three.", "Four."))

    await chat.give({"messages": [{"role": "user", "content": "1?"}]})
    await chat.give({"messages": {"role": "user", "content": "2?"}})
    await chat.give({"messages": [("user", "3?")]})
    answered = await chat.give({"messages": "4?"})

    assert texts(answered)[::2] == ["1?", "2?", "3?", "4?"]
    assert await chat.usage() == {"shop": 4}


# -- what any agent may go through --------------------------------------------------------------


@pytest.mark.parametrize("make", [clerk, shop])
async def test_an_agent_whose_user_corrects_an_earlier_message(
    converse: Converse, make: Callable[..., Any]
) -> None:
    chat = converse(make("Green.", "12 boxes.", "Black.", "Fine."))
    await chat.say("Which tea?")
    await chat.say("How much?")

    corrected = await chat.correct("Which tea?", "Which tea in the morning?")

    assert texts(corrected) == ["Which tea in the morning?", "Black."]
    await chat.say("Thanks.")
    assert await chat.usage() == {make.__name__: 4}


@pytest.mark.parametrize("make", [clerk, shop])
async def test_an_agent_that_goes_on_after_a_tool_has_failed(
    converse: Converse, make: Callable[..., Any]
) -> None:
    is_open: list[bool] = []

    def shelf(tea: str) -> str:
        """Look at the shelf of a tea."""
        if tea == "black" and not is_open:
            raise ConnectionError("the store is closed")
        return f"{tea} is there"

    both = calling(call("shelf", "c1", tea="green"), call("shelf", "c2", tea="black"))
    chat = converse(make(both, "Both.", tools=[shelf]))
    with pytest.raises(ConnectionError):
        await chat.say("Which tea is there?")
    is_open.append(True)

    answered = await chat.give(None)

    assert texts(answered)[1:] == ["", "green is there", "black is there", "Both."]
    assert await chat.usage() == {make.__name__: 2}


@pytest.mark.parametrize("make", [clerk, shop])
async def test_an_agent_whose_turns_are_stored_at_their_ends(
    converse: Converse, make: Callable[..., Any]
) -> None:
    chat = converse(make(calling(call("stock", "c1", tea="green")), "12 boxes.", "Bye."))

    for text in ("How much?", "Thanks."):
        await chat.give({"messages": [HumanMessage(text)]}, durability="exit")

    assert await chat.usage() == {make.__name__: 3}


# -- several agents -----------------------------------------------------------------------------


def worker(name: str, *answers: Any, tools: Sequence[Any] = (stock,)) -> Any:
    return create_agent(scripted(name, *answers), list(tools), name=name)


# The supervisor is built on LangGraph's own agent, which LangGraph says has moved.
@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
@pytest.mark.parametrize("output_mode", ["last_message", "full_history"])
async def test_a_supervisor_and_its_agents(converse: Converse, output_mode: Any) -> None:
    counted = calling(call("stock", "s1", tea="green"))
    model = scripted(
        "boss",
        calling(call("transfer_to_counter", "c1")),
        calling(call("transfer_to_taster", "c2")),
        "12 boxes, and good.",
        "You are welcome.",
    )
    agents = [worker("counter", counted, "12 boxes."), worker("taster", "Good.")]
    team = create_supervisor(agents, model=model, output_mode=output_mode)
    chat = converse(team)

    answered = await chat.say("How much, and how good?")
    await chat.say("Thanks.")

    assert last_of(answered).text == "12 boxes, and good."
    counted_calls = 2 if output_mode == "full_history" else 1
    assert await chat.usage() == {"supervisor": 4, "counter": counted_calls, "taster": 1}


async def test_a_swarm_whose_agents_hand_over(converse: Converse) -> None:
    to_bob = create_handoff_tool(agent_name="bob")
    to_alice = create_handoff_tool(agent_name="alice")
    alice = worker(
        "alice",
        calling(call("transfer_to_bob", "c1"), text="Bob knows."),
        "Alice again.",
        tools=(stock, to_bob),
    )
    bob = worker(
        "bob",
        calling(call("stock", "c2", tea="green")),
        "12 boxes.",
        calling(call("transfer_to_alice", "c3")),
        tools=(stock, to_alice),
    )
    chat = converse(create_swarm([alice, bob], default_active_agent="alice"))

    first = await chat.say("How much green tea?")
    second = await chat.say("And who are you?")

    assert texts(first)[-2:] == ["12 boxes of green", "12 boxes."]
    assert texts(second)[-1] == "Alice again."
    assert await chat.usage() == {"alice": 2, "bob": 3}

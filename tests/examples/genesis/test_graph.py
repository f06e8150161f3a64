"""The graph by itself: questions and answers, reviews, agents, and who writes."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from examples.genesis.configs import CONFIGS, fields_of
from examples.genesis.graph import (
    ALL,
    NONE,
    STANDS,
    State,
    Target,
    build_graph,
    opening,
)
from examples.genesis.models import GenesisStage, SessionKind
from examples.genesis.writers import model_writer, story_writer, writer_named
from examples.web.runs import Graph
from tests.support.scripted_model import scripted

PROMPT, AGENT = GenesisStage.INITIAL_PROMPT, SessionKind.AGENT_AUTONOMOUS
NOTHING: State = {"seed": "salt", "take": 0, "facts": {}, "config": {}, "result": None}


class Talk:
    """A conversation with the graph."""

    def __init__(self, graph: Graph, kind: SessionKind, stage: GenesisStage = PROMPT) -> None:
        self._graph = graph
        self._target = Target(
            session_id=f"{kind} of {stage}",
            owner_id="ada",
            flow_id="flow",
            stage_id="stage",
            stage=stage,
            session_kind=kind,
        )

    async def begin(self, draft: State = NOTHING, before: Any = None) -> Any:
        start = opening(self._target.session_kind, "Go on.", draft, before or State())
        return await self._graph.ainvoke(start, self._target.config)

    async def answer(self, *answers: str) -> Any:
        for answer in answers:
            values = await self._graph.ainvoke(Command(resume=answer), self._target.config)
        return values


@pytest.fixture
def graph() -> Graph:
    return build_graph(InMemorySaver())


@pytest.fixture
def talk(graph: Graph) -> Talk:
    """A conversation about the first stage."""
    return Talk(graph, SessionKind.USER_INTERACTION)


async def draft_of(graph: Graph) -> State:
    """What an agent makes of the first stage."""
    values = await Talk(graph, AGENT).begin()
    return {**NOTHING, "config": values["config"], "result": values["result"]}


async def test_an_answer_is_an_option_s_number_or_own_words(talk: Talk) -> None:
    first = await talk.begin()
    assert first["question"]["about"] == "genre"

    values = await talk.answer("2", "  dry as dust\x00 ", "3", "A clock runs early.")

    assert values["config"]["genre"] == first["question"]["options"][1]
    assert values["config"]["tone"] == "dry as dust"
    assert values["config"]["idea"] == "A clock runs early."
    assert CONFIGS[PROMPT].model_validate(values["config"])
    assert values["result"]["title"]
    assert "A clock runs early." in values["parts"][0]["text"]


@pytest.mark.parametrize("answer", ["", " \n", "x" * 4001])
async def test_an_answer_that_is_not_usable_is_asked_for_again(talk: Talk, answer: str) -> None:
    asked = (await talk.begin())["question"]

    values = await talk.answer(answer)

    assert values["config"] == {}
    assert values["question"] == asked
    assert values["messages"][-2].text.startswith("That cannot be used: String should have at ")


@pytest.mark.parametrize("answer", [STANDS, "1", " It stands! "])
async def test_what_stands_ends_the_run(talk: Talk, answer: str) -> None:
    await talk.begin()
    values = await talk.answer("1", "1", "1", "1")
    assert values["question"]["options"][0] == STANDS

    values = await talk.answer(answer)

    assert "__interrupt__" not in values
    assert values["iterations"] == 5


async def test_a_field_can_be_decided_again(talk: Talk) -> None:
    await talk.begin()
    before = await talk.answer("1", "1", "1", "1")

    asked = await talk.answer("Change the tone, please.")
    assert asked["question"]["about"] == "tone"
    assert asked["result"] is None
    after = await talk.answer("brisk")

    assert after["config"] == before["config"] | {"tone": "brisk"}
    assert "brisk" in str(after["result"]["sections"])


async def test_any_other_answer_about_a_result_is_asked_for_again(talk: Talk) -> None:
    await talk.begin()
    await talk.answer("1", "1", "1", "1")

    assert (await talk.answer("lovely"))["question"]["about"] == "result"


async def test_a_finished_conversation_goes_on_with_what_it_has(talk: Talk) -> None:
    await talk.begin()
    before = await talk.answer("1", "1", "1", "1", STANDS)

    after = await talk.begin(before=before)

    assert after["question"]["about"] == "result"
    assert after["result"] == before["result"]


async def test_an_agent_decides_and_writes_each_stage_without_a_question(graph: Graph) -> None:
    facts: dict[str, str] = {}
    for stage in CONFIGS:
        values = await Talk(graph, AGENT, stage).begin({**NOTHING, "facts": facts})

        assert CONFIGS[stage].model_validate(values["config"])
        assert [part["text"] for part in values["parts"]] == [
            message.text for message in values["messages"] if message.name == "writer"
        ]
        assert values["iterations"] == len(fields_of(stage))
        facts = facts | values["config"]


@pytest.mark.parametrize(
    ("answer", "count"), [(ALL, 2), (NONE, 0), ("1", 2), ("the {0}", 1), ("4", 0)]
)
async def test_a_review_takes_the_suggestions_that_the_writer_chooses(
    graph: Graph, answer: str, count: int
) -> None:
    draft = await draft_of(graph)
    talk = Talk(graph, SessionKind.REVIEW)
    marked = await talk.begin(draft)
    suggested = marked["suggestions"]
    assert [mark["criterion"] for mark in marked["marks"]] == [
        "clarity", "specificity", "conflict", "coherence",
    ]  # fmt: skip

    values = await talk.answer(answer.format(*suggested))

    changed = {
        field for field in draft["config"] if values["config"][field] != draft["config"][field]
    }
    assert len(changed) == count
    assert changed <= set(suggested)
    assert (values["result"] == draft["result"]) == (count == 0)
    assert "__interrupt__" not in values


async def test_a_second_take_is_offered_other_options(graph: Graph) -> None:
    first = await Talk(graph, AGENT).begin()
    second = await Talk(graph, AGENT).begin({**NOTHING, "take": 1})

    assert first["config"] != second["config"]


# -- who writes ----------------------------------------------------------------------------------


async def test_a_chat_model_writes_from_the_facts_and_is_billed() -> None:
    model = scripted("some-model", "A first paragraph.", "A second one.")
    graph = build_graph(InMemorySaver(), model_writer(model))

    values = await Talk(graph, AGENT).begin()

    texts = [part["text"] for part in values["parts"]]
    assert texts == ["A first paragraph.", "A second one."]
    written = [message for message in values["messages"] if message.name == "writer"]
    assert [message.usage_metadata["total_tokens"] for message in written] == [111, 112]
    assert {message.response_metadata["model_name"] for message in written} == {"some-model"}


async def test_a_chat_model_is_told_the_facts_and_the_heading() -> None:
    asked: list[str] = []

    class Listening(GenericFakeChatModel):
        def _generate(self, messages: Any, *args: Any, **options: Any) -> Any:
            asked.append(messages[-1].text)
            return super()._generate(messages, *args, **options)

    model = Listening(messages=iter([AIMessage("One."), AIMessage("Two.")]))
    graph = build_graph(InMemorySaver(), model_writer(model))
    values = await Talk(graph, AGENT).begin()

    for field, fact in values["config"].items():
        assert f"{field}: {fact}" in asked[0]
    assert "Heading: The pitch" in asked[0]


async def test_an_empty_answer_of_a_model_is_replaced_by_the_generator_s() -> None:
    offline = await draft_of(build_graph(InMemorySaver()))
    graph = build_graph(InMemorySaver(), model_writer(scripted("m", "", " ")))

    assert (await draft_of(graph))["result"] == offline["result"]


async def test_a_model_is_named_as_init_chat_model_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider: Any = ModuleType("langchain_groq")
    provider.ChatGroq = lambda model: scripted(model, "A first paragraph.", "A second one.")
    monkeypatch.setitem(sys.modules, "langchain_groq", provider)

    graph = build_graph(InMemorySaver(), writer_named("groq:some-model"))
    values = await Talk(graph, AGENT).begin()

    assert values["messages"][-1].text == "A second one."
    assert values["messages"][-1].response_metadata["model_name"] == "some-model"


def test_without_a_model_the_generator_writes() -> None:
    assert writer_named(None) is story_writer


def test_a_model_of_a_missing_package_is_refused_with_what_to_install() -> None:
    with pytest.raises(ImportError, match="langchain-mistralai"):
        writer_named("mistralai:x")

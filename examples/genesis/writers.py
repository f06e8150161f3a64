"""Who writes the prose of a section: the story generator, or a chat model from the same facts."""

from collections.abc import Awaitable, Callable

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from examples.genesis.story.brief import Brief
from examples.genesis.story.prose import Section

Writer = Callable[[Brief, Section], Awaitable[AIMessage]]
"""Writes a section's paragraph."""

INSTRUCTIONS = """\
You write one paragraph of a novel's plan. Use the facts that you are given and contradict none of \
them. Keep every name. The draft shows what the paragraph is about: write it anew, in proper \
sentences, without a heading and without repeating a phrase. Answer with the paragraph alone."""


async def story_writer(_brief: Brief, section: Section) -> AIMessage:
    """Take the paragraph as the story generator made it."""
    return AIMessage(section.text, name="writer")


def model_writer(model: BaseChatModel) -> Writer:
    """Have a chat model write. Its usage is in the message, and so in `token_usage`."""

    async def write(brief: Brief, section: Section) -> AIMessage:
        facts = "\n".join(f"{field}: {fact}" for field, fact in brief.facts.items())
        asked = f"Facts:\n{facts}\n\nHeading: {section.heading}\n\nDraft:\n{section.text}"
        answer = await model.ainvoke([SystemMessage(INSTRUCTIONS), HumanMessage(asked)])
        text = str(answer.text).strip() or section.text  # some models answer nothing
        return answer.model_copy(update={"name": "writer", "content": text})

    return write


def writer_named(name: str | None) -> Writer:
    """The writer for a model's name such as `openai:gpt-5-mini`; without one, the generator.

    Raises:
        ImportError: `langchain`, or the package of the model's provider, is not installed.
    """
    if name is None:
        return story_writer
    from langchain.chat_models import init_chat_model  # noqa: PLC0415 - only for a real model

    return model_writer(init_chat_model(name))

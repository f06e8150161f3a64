"""A chat model that answers from a script, on which real agents run without a network."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolCall


class ScriptedModel(GenericFakeChatModel):
    """Gives the answers of a script, one for each call, whatever it is asked.

    LangChain gives each answer an id, as it does for a real model.
    """

    def bind_tools(self, tools: Any, **options: Any) -> ScriptedModel:
        """Take tools, as an agent's model must; the script says which are called."""
        return self


def scripted(name: str, *answers: AIMessage | str) -> ScriptedModel:
    """A model of this name that gives these answers.

    Each call takes one token more than the call before, so that no two cost the same.
    """
    messages = [one if isinstance(one, AIMessage) else AIMessage(one) for one in answers]
    for number, message in enumerate(messages, 1):
        message.response_metadata = {"model_name": name}
        message.usage_metadata = {
            "input_tokens": 100 + number,
            "output_tokens": 10,
            "total_tokens": 110 + number,
        }
    return ScriptedModel(messages=iter(messages))


def calling(*calls: ToolCall, text: str = "") -> AIMessage:
    """An answer that calls tools."""
    return AIMessage(text, tool_calls=list(calls))


def call(tool: str, call_id: str, **arguments: Any) -> ToolCall:
    """A call of a tool."""
    return ToolCall(name=tool, args=arguments, id=call_id)

"""A model's message as a `token_usage` row: the tokens that it took, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from langgraph_session_saver.projection.plain_json import clean_text
from langgraph_session_saver.projection.rules import Problem, problem_with

Pricing = Callable[[str, int, int], float]
"""From model, input tokens and output tokens to US dollars."""


class UsageRows:
    """Makes rows of messages with `usage_metadata`; a model without a price costs 0."""

    def __init__(self, pricing: Pricing | None) -> None:
        self._pricing: Pricing = pricing or (lambda _model, _input, _output: 0.0)

    def row(
        self, message: Any, channel: str, time: datetime
    ) -> tuple[dict[str, Any] | None, Problem | None]:
        """The row of a message in a channel, without its keys, and the problem with it.

        The row is None if the message has no usage, or usage that cannot be read.
        """
        usage = field_of(message, "usage_metadata")
        if not usage:
            return None, None
        about = field_of(message, "response_metadata")
        named = field_of(about, "model_name") or field_of(about, "model")
        model = clean_text(str(named or "unknown"))
        try:
            tokens_in, tokens_out = int(usage["input_tokens"]), int(usage["output_tokens"])
        except (KeyError, TypeError, ValueError) as exc:
            expected = "usage_metadata with input_tokens and output_tokens"
            return None, problem_with(channel, usage, expected, exc)
        cost, problem = 0.0, None
        try:
            cost = float(self._pricing(model, tokens_in, tokens_out))
        except Exception as exc:  # noqa: BLE001 - an application's function
            problem = problem_with(channel, model, "a model that `pricing` accepts", exc)
        row = {
            "timestamp": time,
            "agent_type": clean_text(str(field_of(message, "name") or "unknown"))[:255],
            "model": model[:2048],
            "input_tokens": tokens_in,
            "output_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
            "cost_usd": cost,
        }
        return row, problem


def field_of(message: Any, name: str) -> Any:
    """A field of a message, or of a mapping in its place."""
    return message.get(name) if isinstance(message, dict) else getattr(message, name, None)

"""A model's message as a `token_usage` row: the tokens that it took, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from langgraph_session_saver.projection.content import field_of
from langgraph_session_saver.projection.plain_json import clean_text
from langgraph_session_saver.projection.pricing import Prices, Pricing, Tokens
from langgraph_session_saver.projection.rules import Problem, problem_with
from langgraph_session_saver.redaction import SecretKeys
from langgraph_session_saver.validation import MODEL_LENGTH

LARGEST_TOKEN_COUNT = (1 << 53) - 1
"""The largest number of tokens of a call: sums of them fit a column too."""

_COUNT = TypeAdapter(Annotated[int, Field(ge=0, le=LARGEST_TOKEN_COUNT)])

_DETAILS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "cache_read": ("input_token_details", ("cache_read",)),
    "cache_creation": (
        "input_token_details",
        ("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"),
    ),
    "reasoning": ("output_token_details", ("reasoning",)),
}
"""For each detail, where a message has it, and what its names there end with.

There may be several, which add up: OpenAI's have the service tier in front (`flex_cache_read`),
and Anthropic's `cache_creation` is 0 where tokens are counted by how long the cache keeps them.
"""


class UsageRows:
    """Makes rows of messages with `usage_metadata`; a model without a price costs 0."""

    def __init__(self, pricing: Pricing | None, keys: SecretKeys) -> None:
        self._prices = Prices(pricing)
        self._keys = keys

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
        model = clean_text(str(named or "unknown"))[:MODEL_LENGTH]
        try:
            tokens_in = _COUNT.validate_python(usage["input_tokens"])
            tokens_out = _COUNT.validate_python(usage["output_tokens"])
        except (KeyError, TypeError, ValueError) as exc:
            expected = "usage_metadata with input_tokens and output_tokens"
            return None, problem_with(channel, usage, expected, exc, self._keys)
        details, problem = self._read_details(usage, channel)
        cost = 0.0
        try:
            cost = self._prices.cost(model, Tokens(tokens_in, tokens_out, **details))
        except Exception as exc:  # noqa: BLE001 - an application's function
            expected = "a model that `pricing` accepts"
            problem = problem_with(channel, model, expected, exc, self._keys)
        row = {
            "timestamp": time,
            "agent_type": clean_text(str(field_of(message, "name") or "unknown"))[:255],
            "model": model,
            "input_tokens": tokens_in,
            "output_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
            "cost_usd": cost,
            **{f"{name}_tokens": count for name, count in details.items()},
        }
        return row, problem

    def _read_details(
        self, usage: Any, channel: str
    ) -> tuple[dict[str, int | None], Problem | None]:
        """The details that the usage has, and the problem with one that cannot be read."""
        found: dict[str, int | None] = dict.fromkeys(_DETAILS)
        problem = None
        for detail, (group, endings) in _DETAILS.items():
            try:
                counts = [
                    _COUNT.validate_python(count)
                    for name, count in (field_of(usage, group) or {}).items()
                    if count is not None and str(name).endswith(endings)
                ]
            except (AttributeError, ValueError) as exc:
                expected = f"usage_metadata with numbers of tokens as {detail} in {group}"
                problem = problem_with(channel, usage, expected, exc, self._keys)
            else:
                found[detail] = sum(counts) if counts else None
        return found, problem

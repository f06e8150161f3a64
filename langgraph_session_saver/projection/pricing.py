"""What model calls cost in US dollars: by rates for each model, or by an application's function."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from langgraph_session_saver.errors import InvalidConfigError
from langgraph_session_saver.log import logger
from langgraph_session_saver.validation import MODEL_LENGTH, check_text

Rate = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


class Rates(BaseModel):
    """What a model's tokens cost, in US dollars for a million tokens.

    Tokens whose own rate is not given cost what other input or output tokens cost.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Rate
    output: Rate
    cache_read: Rate | None = None
    """Of input tokens that the provider read from its cache."""
    cache_creation: Rate | None = None
    """Of input tokens that the provider wrote to its cache."""
    reasoning: Rate | None = None
    """Of output tokens of the model's reasoning."""


Pricing: TypeAlias = Callable[[str, int, int], float] | Mapping[str, Rates | Mapping[str, float]]
"""Rates by model, or a function from model, input tokens and output tokens to US dollars.

The function raises `LookupError` for a model that it does not know.
"""


class Tokens(NamedTuple):
    """The tokens of a model call; a detail is None where the model's message does not say."""

    input: int
    """All input tokens, cached ones among them."""
    output: int
    """All output tokens, those of the reasoning among them."""
    cache_read: int | None = None
    cache_creation: int | None = None
    reasoning: int | None = None


class Prices:
    """Prices model calls; without `pricing` they cost 0.

    Raises:
        InvalidConfigError: `pricing` is neither a function nor a mapping to rates.
    """

    def __init__(self, pricing: Pricing | None) -> None:
        self._price = _price_function(pricing)
        self._unknown: dict[str, object] = {}

    def cost(self, model: str, tokens: Tokens) -> float:
        """The cost of a call: 0, and once a warning, if the model has no price.

        Raises:
            Exception: Whatever the application's function raises, other than a `LookupError`.
            ValueError: The cost is not a number from 0 on.
        """
        try:
            cost = float(self._price(model, tokens))
        except LookupError:
            first = object()
            # One operation, because threads may come with the same model at the same time.
            if self._unknown.setdefault(model, first) is first:
                logger.warning("model %r has no price: its calls cost 0. Add it to pricing", model)
            return 0.0
        if not 0 <= cost < math.inf:
            raise ValueError(f"its cost is {cost}, and not US dollars from 0 on")
        return cost


def _price_function(pricing: Any) -> Callable[[str, Tokens], float]:
    if pricing is None:
        return lambda _model, _tokens: 0.0
    if isinstance(pricing, Mapping):
        return _PriceList(pricing)
    if callable(pricing):
        function: Callable[[str, int, int], float] = pricing
        return lambda model, tokens: function(model, tokens.input, tokens.output)
    raise InvalidConfigError(
        f"pricing is {pricing!r:.80}: pass a mapping from models to rates, for example "
        "{'gpt-4o': {'input': 2.5, 'output': 10}}, or a function from model, input tokens and "
        "output tokens to US dollars"
    )


class _PriceList:
    """The rates of models, by the longest known start of a model's name."""

    def __init__(self, pricing: Mapping[Any, Any]) -> None:
        self._rates = {_check_model(model): _read_rates(model, pricing[model]) for model in pricing}
        self._longest = max(map(len, self._rates), default=0)

    def __call__(self, model: str, tokens: Tokens) -> float:
        for length in range(min(len(model), self._longest), 0, -1):
            rates = self._rates.get(model[:length])
            if rates is not None:
                return _cost(rates, tokens)
        raise LookupError(model)


def _check_model(model: Any) -> str:
    if not check_text("a model's name in pricing", model, MODEL_LENGTH):
        raise InvalidConfigError(
            "a model's name in pricing is empty: pass the name, or the start of it"
        )
    return str(model)


def _read_rates(model: str, given: Any) -> Rates:
    try:
        return Rates.model_validate(dict(given) if isinstance(given, Mapping) else given)
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        where = "".join(f"[{key!r}]" for key in (model, *error["loc"]))
        raise InvalidConfigError(
            f"pricing{where}: {error['msg']} (found {error['input']!r:.80}). Rates are US dollars "
            "for a million tokens: input and output, and where they differ cache_read, "
            "cache_creation and reasoning"
        ) from exc


def _cost(rates: Rates, tokens: Tokens) -> float:
    read, created = tokens.cache_read or 0, tokens.cache_creation or 0
    reasoning = tokens.reasoning or 0
    parts = (
        (max(tokens.input - read - created, 0), rates.input, rates.input),
        (read, rates.cache_read, rates.input),
        (created, rates.cache_creation, rates.input),
        (max(tokens.output - reasoning, 0), rates.output, rates.output),
        (reasoning, rates.reasoning, rates.output),
    )
    return sum(n * (default if rate is None else rate) for n, rate, default in parts) / 1_000_000

"""Values and helpers for the tests of projections."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage

from tests.support.backends import Sql
from tests.support.rows import from_json, one

MARKS = {
    "visualHierarchy": 80,
    "colorHarmony": 70,
    "spacingConsistency": 90,
    "alignment": 85,
    "readability": 75,
    "mobileAdaptation": 60,
}


def talk(*texts: str) -> list[AIMessage | HumanMessage]:
    """Messages with ids m0, m1 …, a human's and an assistant's in turn."""
    return [
        (AIMessage if n % 2 else HumanMessage)(content, id=f"m{n}")
        for n, content in enumerate(texts)
    ]


def spent(
    name: str | None, tokens_in: int, tokens_out: int, content: str = "hi", **fields: Any
) -> AIMessage:
    """A message of a model with its token usage."""
    usage: Any = {
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
    }
    about = {"model_name": "m-1"}
    return AIMessage(content, name=name, usage_metadata=usage, response_metadata=about, **fields)


def pages(sql: Sql) -> list[tuple[int, str, str | None]]:
    rows = sql("SELECT version, html, description FROM versions ORDER BY version")
    return [(row["version"], row["html"], row["description"]) for row in rows]


def graph_state(sql: Sql) -> Any:
    return from_json(one(sql, "sessions")["graph_state"])


def explode(_state: Any) -> dict[str, Any]:
    raise ValueError("out of flour")

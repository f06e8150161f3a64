"""Random values of channels, and random edits of them."""

from __future__ import annotations

from random import Random
from typing import Any


def edited(value: Any, how: str, seed: int) -> Any:
    """A value after an edit, large enough to be stored as a delta."""
    rng = Random(seed)
    match value:
        case list():
            return _edited_list(value, how, rng)
        case dict():
            return _edited_dict(value, how, rng)
        case str() | bytes():
            return _edited_text(value, how, rng)
        case _:
            kind = rng.randrange(4)
            texts = [words(rng, 8) for _ in range(rng.randrange(40))]
            return [
                texts,
                {f"key {i}": text for i, text in enumerate(texts)},
                " ".join(texts),
                rng.randbytes(rng.randrange(2_000)),
            ][kind]


def words(rng: Random, number: int) -> str:
    """Words of five letters, some of them not ASCII."""
    return " ".join("".join(rng.choices("abcdefgh é漢", k=5)) for _ in range(number))


def _edited_list(value: list[Any], how: str, rng: Random) -> list[Any]:
    at = rng.randrange(len(value) + 1)
    if how == "append" or not value[at : at + 1]:
        return [*value, words(rng, 10)]
    return value[:at] + ([words(rng, 10)] if how == "edit" else []) + value[at + 1 :]


def _edited_dict(value: dict[str, Any], how: str, rng: Random) -> dict[str, Any]:
    name = rng.choice(sorted(value)) if value and how != "append" else f"key {len(value) + 100}"
    if how == "remove":
        return {key: item for key, item in value.items() if key != name}
    return {**value, name: words(rng, 10)}


def _edited_text(value: Any, how: str, rng: Random) -> Any:
    new = words(rng, 10) if isinstance(value, str) else rng.randbytes(60)
    at = rng.randrange(len(value) + 1)
    if how == "append":
        return value + new
    return value[:at] + (new if how == "edit" else value[:0]) + value[at + 60 :]

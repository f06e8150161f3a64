"""English: texts as clauses, sentences and titles, and templates with slots."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import cycle
from typing import Any, cast

import yaml


@cache
def words(name: str) -> Mapping[str, Any]:
    """One of the files of word lists."""
    text = files(__package__).joinpath("words", f"{name}.yaml").read_text("utf-8")
    return cast("Mapping[str, Any]", yaml.safe_load(text))


@cache
def lists() -> Mapping[str, Any]:
    """The lists of all stages, by name."""
    files = ("prompt", "world", "names", "people", "plot")
    return {key: value for name in files for key, value in words(name).items()}


def clause(text: str) -> str:
    """A text as a part of a sentence: without its stop, and without its first capital."""
    first, _, rest = " ".join(text.split()).rstrip(".!?;, ").partition(" ")
    is_name = first.lower() not in words("english")["no names"]
    return f"{first if is_name else first.lower()} {rest}".strip()


def capital(text: str) -> str:
    """A text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """A text as a sentence of its own."""
    return f"{capital(clause(text))}."


def title(text: str) -> str:
    """A text as a title, or as the end of one."""
    small = words("english")["small in titles"]
    return " ".join(word if word in small else capital(word) for word in text.split(" "))


def with_article(noun: str) -> str:
    """A noun after "a" or "an"."""
    is_vowel = noun[0].lower() in "aeiou" and not noun.startswith(("one", "uni", "eu"))
    return f"{'an' if is_vowel or noun.startswith('honest') else 'a'} {noun}"


def items(text: str, most: int = 40) -> list[str]:
    """The parts of a text that is a list."""
    parts = [part.strip() for part in text.replace("\n", ";").split(";")]
    return list(filter(None, parts))[:most]


class Slots(dict[str, str]):
    """What a template's slots hold: facts, and for the name of a list its next entry.

    `{Hero}` is the slot `hero` with a capital, `{hero_s}` its possessive, `{a_thing}` has an
    article in front, and `{title_thing}` is in the letters of a title.
    """

    def __init__(self, facts: Mapping[str, str], shuffled: Callable[[str], Sequence[str]]) -> None:
        super().__init__(facts)
        self._shuffled = shuffled
        self._decks: dict[str, Iterator[str]] = {}

    def __missing__(self, key: str) -> str:
        if key[0].isupper():
            return capital(self[key[0].lower() + key[1:]])
        if key.endswith("_s"):
            return f"{self[key.removesuffix('_s')]}'s"
        if key.startswith("a_"):
            return with_article(self[key.removeprefix("a_")])
        if key.startswith("title_"):
            return title(self[key.removeprefix("title_")])
        if key not in self._decks:
            self._decks[key] = cycle(self._shuffled(key))
        return self.fill(next(self._decks[key]))

    def fill(self, template: str) -> str:
        """A template with its slots filled."""
        return template.format_map(self)

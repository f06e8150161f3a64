"""What is decided about a novel, and what the seed makes of the rest: names, places, objects."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from examples.genesis.story.language import Slots, capital, clause, items, lists, sentence

T = TypeVar("T")


class Figure(NamedTuple):
    """A person of the novel: "Ada Quill, a clerk who counts stairs"."""

    name: str
    who: str

    @property
    def given(self) -> str:
        """The first name; the whole name if it begins with a title."""
        first = self.name.partition(" ")[0]
        return self.name if first.endswith(".") or first in ("Lady", "Lord") else first

    @property
    def family(self) -> str:
        """The family name, or what else the person is called."""
        return self.name.removeprefix(self.given).strip() or self.name


@dataclass(frozen=True)
class Brief:
    """A novel's seed, and the decisions of all stages so far, by field.

    Whatever is drawn depends on these and on what it is for, and on nothing else: a process that
    carries on where another was killed draws the same.
    """

    seed: str
    facts: Mapping[str, str]

    def draw(self, *purpose: object) -> random.Random:
        """Random numbers for one purpose."""
        return random.Random(":".join(map(str, (self.seed, *purpose))))

    def shuffled(self, choices: Sequence[T], *purpose: object) -> list[T]:
        """The choices in an order of their own."""
        return self.draw(*purpose).sample(choices, len(choices))

    def slots(self, *purpose: object) -> Slots:
        """What templates may name. Entries of lists are drawn anew for each purpose."""
        decided = "\n".join(self.facts.values())

        def deck(name: str) -> Sequence[str]:
            entries = self.lists[name]
            fresh = [entry for entry in entries if entry not in decided]
            return self.shuffled(fresh or [*entries], *purpose, name)

        return Slots(self.known, deck)

    @cached_property
    def lists(self) -> Mapping[str, Any]:
        """All word lists, with those of the setting that the era is in, and of its language."""
        found = lists()
        setting = found["settings"][self._row("eras", "era")]
        language = self.draw("language").choice(setting["languages"])
        return {**found, **setting, **found["languages"][language]}

    def _row(self, name: str, field: str) -> Any:
        """What a list says of a decision; of another one in the writer's own words."""
        table = lists()[name]
        return table.get(self.facts.get(field)) or self.draw(name).choice([*table.values()])

    @cached_property
    def hero(self) -> Figure:
        """The protagonist."""
        return self._figure(self.facts.get("protagonist", ""), "hero")

    @cached_property
    def villain(self) -> Figure:
        """The antagonist."""
        return self._figure(self.facts.get("antagonist", ""), "villain")

    @cached_property
    def others(self) -> list[Figure]:
        """The supporting characters, at least two."""
        texts = items(self.facts.get("supporting", ""))
        texts += [""] * (2 - len(texts))
        return [self._figure(text, n) for n, text in enumerate(texts)]

    def _figure(self, text: str, purpose: object) -> Figure:
        draw = self.draw("figure", purpose)
        name = f"{draw.choice(self.lists['given'])} {draw.choice(self.lists['family'])}"
        return Figure(*_named(text, name, "a stranger to nearly everyone"))

    @cached_property
    def town(self) -> tuple[str, str]:
        """The name of the place, and what it is."""
        name = self.draw("town").choice(self.lists["towns"])
        return _named(self.facts.get("place", ""), name, "the only place where this could happen")

    @cached_property
    def known(self) -> Mapping[str, str]:
        """The slots that are the same in the whole novel."""
        found = {field: clause(fact) for field, fact in self.facts.items()}
        found |= self._row("genres", "genre") | self._row("tones", "tone")
        found["kind"] = f"{found.get('tone')} {found.get('genre')}"
        spots = self.shuffled(self.lists["spots"], "spots")
        found |= {f"spot{n}": spot for n, spot in enumerate(spots)}
        found["thing"] = self.draw("thing").choice(self.lists["things"])
        found["town"], found["place"] = self.town
        rules = [clause(rule) for rule in items(self.facts.get("rules", ""))]
        found["rule"], *_, found["rule2"] = [*rules, "nothing is free", "nothing is free"][:2]
        found["all_rules"] = " ".join(map(sentence, rules))
        hero, villain, (ally, other, *_) = self.hero, self.villain, self.others
        found |= {"hero": hero.given, "hero_name": hero.name, "hero_who": hero.who}
        found |= {"villain": villain.family, "villain_name": villain.name}
        found |= {"villain_who": villain.who, "ally": ally.given, "other": other.given}
        found["role"] = hero.who.partition(" who ")[0].partition(" ")[2] or "stranger"
        found["people"] = " ".join(sentence(f"{one.name} is {one.who}") for one in self.others)
        jobs = self.shuffled(self.lists["jobs"], "job")
        found["job"] = next((job for job in jobs if job in found.get("idea", "")), jobs[0])
        draw = Slots(found, lambda name: self.shuffled(self.lists[name], "title"))
        return found | {"title": capital(draw["titles"])}


def _named(text: str, name: str, what: str) -> tuple[str, str]:
    """The name at the beginning of a text, and what follows; where there is none, those given."""
    first, _, rest = clause(text).partition(",")
    if not first[:1].isupper() or len(first.split()) > 4:
        first, rest = name, text
    return first.strip(), clause(rest) or what

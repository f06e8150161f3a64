"""The prose of a stage: its sections, each a heading and a paragraph."""

from collections.abc import Iterator
from typing import NamedTuple

from examples.genesis.models import GenesisStage
from examples.genesis.story.brief import Brief
from examples.genesis.story.language import capital, items, title, words

LAST_BEAT = 11


class Section(NamedTuple):
    """A part of a stage's result."""

    heading: str
    text: str


def heading_of(brief: Brief, stage: GenesisStage) -> str:
    """The title of a stage's result."""
    return brief.slots().fill(words("stages")[stage]["title"])


def sections(brief: Brief, stage: GenesisStage) -> list[Section]:
    """All sections of a stage whose config is complete."""
    if stage is GenesisStage.PLOT_OUTLINE:
        return [*_outline(brief)]
    fill, planned = brief.slots(stage).fill, words("stages")[stage]["sections"]
    return [Section(fill(heading), fill(text)) for heading, text in planned.items()]


def _outline(brief: Brief) -> Iterator[Section]:
    """Parts with their chapters; each chapter tells a beat of the story."""
    slots = brief.slots(GenesisStage.PLOT_OUTLINE)
    acts, chapters = items(brief.facts["acts"]), items(brief.facts["chapters"])
    for n, act in enumerate(acts):
        place = "openings" if n == 0 else "closings" if n == len(acts) - 1 else "middles"
        yield Section(f"Part {n + 1}: {capital(title(act))}", slots[f"act_{place}"])
        begin, end = (len(chapters) * part // len(acts) for part in (n, n + 1))
        for chapter in range(begin, end):
            beat = round(chapter * LAST_BEAT / max(len(chapters) - 1, 1))
            heading = f"{chapter + 1}. {capital(title(chapters[chapter]))}"
            yield Section(heading, slots[f"told{beat}"])
    yield Section("The ending", slots["ending_prose"])

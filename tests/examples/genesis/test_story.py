"""The story generator: a seed is a novel, and its prose can be read."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.genesis.configs import CONFIGS, fields_of
from examples.genesis.models import GenesisStage
from examples.genesis.story.brief import Brief
from examples.genesis.story.language import items, words
from examples.genesis.story.options import COUNT, options, question
from examples.genesis.story.prose import Section, sections

STAGES = [*CONFIGS]
SEEDS = st.text(st.characters(codec="utf-8"), max_size=20)
OWN_WORDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), min_size=1)


def novel(seed: str) -> tuple[dict[str, str], list[Section]]:
    """A novel that is decided by the seed alone."""
    facts: dict[str, str] = {}
    told: list[Section] = []
    for stage in STAGES:
        for field in fields_of(stage):
            brief = Brief(seed, facts)
            facts |= {field: brief.draw("choice", field).choice(options(brief, field))}
        told += sections(Brief(seed, facts), stage)
    return facts, told


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_a_seed_repeats(seed: str) -> None:
    assert novel(seed) == novel(seed)


@given(SEEDS, SEEDS)
@settings(deadline=None, max_examples=30)
def test_two_seeds_tell_different_novels(one: str, other: str) -> None:
    if one != other:
        assert novel(one)[1] != novel(other)[1]


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_no_paragraph_repeats_a_phrase_of_four_words(seed: str) -> None:
    for section in novel(seed)[1]:
        read = re.sub(r"[^\w' ]", "", section.text.lower()).split()
        phrases = Counter(zip(*(read[n:] for n in range(4)), strict=False))
        assert [phrase for phrase, count in phrases.items() if count > 1] == []


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_paragraphs_are_proper_sentences(seed: str) -> None:
    for section in novel(seed)[1]:
        assert re.fullmatch(r"[“A-Z].*[.?]", section.text), section
        wrong = r"[{}]|  |\.\.|\b[Aa] [aeio]|\b[Aa]n [^aeiouh]|[.?] [a-z]|\b(the the|a the)\b"
        assert not re.search(wrong, section.text), section


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_people_have_names_of_the_world_s_language(seed: str) -> None:
    facts, _ = novel(seed)
    brief = Brief(seed, facts)
    for person in (brief.hero, brief.villain, *brief.others):
        assert person.given in brief.lists["given"]
        assert person.family in brief.lists["family"]
    assert brief.town[0] in brief.lists["towns"]


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_an_outline_follows_from_the_people_the_rules_and_the_conflict(seed: str) -> None:
    facts, _ = novel(seed)
    brief = Brief(seed, facts)
    outline = sections(brief, GenesisStage.PLOT_OUTLINE)
    text = " ".join(section.text for section in outline)
    chapters = [each.heading.partition(". ")[2] for each in outline if each.heading[0].isdigit()]

    assert len(chapters) == len(items(facts["chapters"])) == len(set(chapters))
    assert brief.hero.given in text
    assert brief.villain.family in text
    assert any(rule in text for rule in items(facts["rules"]))


@pytest.mark.parametrize("field", [f for stage in STAGES for f in fields_of(stage)])
@given(seed=SEEDS)
@settings(deadline=None, max_examples=10)
def test_options_differ_and_leave_out_what_is_decided(field: str, seed: str) -> None:
    facts, _ = novel(seed)
    offered = options(Brief(seed, facts), field)

    assert question(field).endswith("?")
    assert len(set(offered)) == COUNT
    assert facts[field] not in offered
    again = options(Brief(seed, facts), field, attempt="again")
    assert len(again) == COUNT


@given(SEEDS, st.data())
@settings(deadline=None, max_examples=30)
def test_any_words_of_the_writer_can_be_written_about(seed: str, data: st.DataObject) -> None:
    facts, _ = novel(seed)
    own = {field: data.draw(OWN_WORDS, field) for field in facts}
    for stage in STAGES:
        told = sections(Brief(seed, own), stage)
        assert all(section.text and section.heading for section in told)


def test_own_words_are_made_parts_of_sentences() -> None:
    facts, _ = novel("own")
    facts |= {
        "place": "Venice.",
        "protagonist": "Dr. Ada Quill, A physician who counts stairs.",
        "rules": "No mirrors after dark.\nThe canals listen.",
    }
    brief = Brief("own", facts)

    assert brief.town[0] == "Venice"
    assert (brief.hero.name, brief.known["role"]) == ("Dr. Ada Quill", "physician")
    world = " ".join(each.text for each in sections(brief, GenesisStage.WORLDVIEW))
    assert "No mirrors after dark. The canals listen." in world
    outline = " ".join(each.text for each in sections(brief, GenesisStage.PLOT_OUTLINE))
    assert "no mirrors after dark" in outline


def test_the_word_lists_have_hundreds_of_entries() -> None:
    def count(value: object) -> int:
        if isinstance(value, dict):
            return sum(map(count, value.values()))
        return sum(map(count, value)) if isinstance(value, list) else 1

    assert sum(count(words(name)) for name in ("prompt", "world", "names", "people", "plot")) > 800

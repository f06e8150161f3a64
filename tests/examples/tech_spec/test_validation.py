"""A document is scored by what it lacks."""

from __future__ import annotations

from typing import Any

import pytest

from examples.tech_spec.document import TEMPLATES, Document, write_document
from examples.tech_spec.validation import MARK, validate
from tests.examples.tech_spec.briefs import COMPLETE, brief_of

HOSTING = "**Hosting:** self-hosted is not to be found."


def changed(document: Document, part: str, old: str, new: str = "") -> Document:
    """The document, with something replaced in a part."""
    texts: Any = dict(document)
    assert old in texts[part]
    texts[part] = texts[part].replace(old, new)
    written: Document = texts
    return written


@pytest.mark.parametrize("name", COMPLETE)
def test_a_document_of_the_options_ranked_first_lacks_nothing(name: str) -> None:
    brief = brief_of(name)

    report = validate(write_document(brief), brief)

    assert (report.score, report.findings) == (100, [])


@pytest.mark.parametrize(
    ("part", "old", "new", "finding", "score"),
    [
        (
            "trd_content",
            "**Region:** EU",
            "**Region:** US",
            "**Region:** EU is not to be found.",
            96,
        ),
        ("trd_content", "F3 Waiting list", "F3", "F3 Waiting list is not to be found.", 96),
        ("trd_content", "S6 Calendar", "S6", "S6 Calendar is not to be found.", 96),
        ("architecture_diagram", "Keycloak", "?", "Keycloak is not to be found.", 96),
        ("tech_stack_document", "Keycloak", "?", "Keycloak is not to be found.", 96),
        ("api_specification", "/rooms:", "/halls:", "There is no path /rooms.", 97),
        ("database_schema", "TABLE notes (", "TABLE note (", "There is no table notes.", 97),
    ],
)
def test_what_is_missing_is_found_where_it_belongs(
    part: str, old: str, new: str, finding: str, score: int
) -> None:
    brief = brief_of("clinic")

    report = validate(changed(write_document(brief), part, old, new), brief)

    assert [(each.part, each.text) for each in report.findings] == [(part, finding)]
    assert report.score == score


@pytest.mark.parametrize("text", ["", "paths: [", "nothing", "openapi: 3.1.0"])
def test_an_api_that_cannot_be_read_has_no_paths(text: str) -> None:
    brief = brief_of("clinic")
    document: Document = {**write_document(brief), "api_specification": text}

    found = [each.text for each in validate(document, brief).findings]

    assert "There is no path /patients." in found
    assert ("The part is empty." in found) == (not text)


@pytest.mark.parametrize("part", TEMPLATES)
def test_a_document_without_a_part_is_below_the_mark(part: str) -> None:
    brief = brief_of("auction")
    texts: Any = write_document(brief)
    del texts[part]

    assert validate(texts, brief).score < MARK


def test_an_empty_document_scores_nothing() -> None:
    empty: Any = dict.fromkeys(TEMPLATES, "")

    assert validate(empty, brief_of("clinic")).score == 0


@pytest.mark.parametrize("name", COMPLETE)
def test_choices_that_violate_constraints_are_below_the_mark_until_they_are_answered(
    name: str,
) -> None:
    brief = brief_of(name, place=1)

    report = validate(write_document(brief), brief)
    mended = write_document(brief, [finding.subject for finding in report.findings])

    assert report.score < MARK
    assert validate(mended, brief).score == 100

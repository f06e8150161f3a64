"""The five parts of a document, written from the fixtures' designs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from hashlib import sha256
from typing import Any

import pytest
import yaml
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.tech_spec.catalogue import Category
from examples.tech_spec.document import path, plural, write_document
from tests.examples.tech_spec.briefs import COMPLETE, brief_of

for_each_design = pytest.mark.parametrize("name", COMPLETE)


def references(tree: Any) -> set[str]:
    """All that an OpenAPI document refers to."""
    if isinstance(tree, list):
        return {found for each in tree for found in references(each)}
    if not isinstance(tree, dict):
        return set()
    own = {tree["$ref"]} if "$ref" in tree else set()
    return own.union(*map(references, tree.values()))


@for_each_design
def test_the_requirements_say_what_is_chosen_why_and_for_what(name: str) -> None:
    brief = brief_of(name)
    written = write_document(brief)["trd_content"]

    headings = re.findall("^## (.*)$", written, re.MULTILINE)
    assert headings == [
        "Scope", "Constraints", "Technologies", "Features", "Screens", "Data", "Quality", "Costs",
        "Risks",
    ]  # fmt: skip
    for category, choice in brief.choices.items():
        assert f"### {category.label}: {choice.technology.name}\n" in written
    assert written.count("Chosen by the user: We know it.") == len(brief.choices)
    for subject in (*brief.features, *brief.screens, *brief.entities):
        assert subject in written
    assert f"| together | {brief.monthly_usd:,} |" in written


@for_each_design
def test_the_api_has_the_entities_of_the_prd_and_its_references_resolve(name: str) -> None:
    brief = brief_of(name)
    api = yaml.safe_load(write_document(brief)["api_specification"])

    assert [*api["components"]["schemas"]] == [*brief.entities]
    assert {path(entity) for entity in brief.entities} <= api["paths"].keys()
    for reference in references(api):
        found = api
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
    authentication = brief.choices[Category.AUTHENTICATION].technology.name
    assert authentication in api["components"]["securitySchemes"]["user"]["description"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@for_each_design
async def test_the_database_schema_runs(engine: AsyncEngine, name: str) -> None:
    brief = brief_of(name)
    async with engine.connect() as connection:
        await connection.execute(text("CREATE SCHEMA product"))
        await connection.execute(text("SET LOCAL search_path TO product"))
        statements = write_document(brief)["database_schema"].split(";\n")
        for statement in filter(str.strip, statements):
            await connection.execute(text(statement))
        tables = await connection.scalars(
            text("SELECT table_name FROM information_schema.tables WHERE table_schema = 'product'")
        )
        assert {*tables} == {plural(entity) for entity in brief.entities}
        await connection.rollback()


def test_a_field_that_names_an_entity_is_a_reference() -> None:
    written = write_document(brief_of("auction"))["database_schema"]

    assert 'ALTER TABLE bids ADD FOREIGN KEY ("auction_id") REFERENCES auctions ("id");' in written


@for_each_design
def test_the_diagram_connects_all_technologies(name: str) -> None:
    brief = brief_of(name)
    written = write_document(brief)["architecture_diagram"]

    assert written.startswith("flowchart LR\n    users([Users])\n")
    for category, choice in brief.choices.items():
        assert f'{category}["{category.label}: {choice.technology.name}"]' in written
        assert re.search(rf"> {category}\b", written)


def test_a_risk_is_answered_when_a_validation_has_asked_about_it() -> None:
    brief = brief_of("clinic", place=1)
    risk = "MariaDB lacks row security"

    before, after = (write_document(brief, answered)["trd_content"] for answered in ((), (risk,)))

    assert risk not in before
    assert f"- {risk}. Chosen by the user: We know it." in after


def test_a_document_is_the_same_in_another_process() -> None:
    program = "from tests.examples.tech_spec.briefs import print_digest; print_digest('auction')"
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
        text=True,
    )

    written = repr(write_document(brief_of("auction"))).encode()
    assert told.stdout.strip() == sha256(written).hexdigest()

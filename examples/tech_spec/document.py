"""Writes the five parts of a document from a design and the technologies chosen for it. Pure."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from examples.tech_spec.catalogue import Category
from examples.tech_spec.ranking import Ranked, words
from examples.tech_spec.requirements import Requirements

TEMPLATES = {
    "trd_content": "requirements.md.j2",
    "api_specification": "openapi.yaml.j2",
    "database_schema": "schema.sql.j2",
    "architecture_diagram": "architecture.mmd.j2",
    "tech_stack_document": "technologies.md.j2",
}
"""The template of each part."""

Document = Mapping[str, str]
"""The text of each part."""

SQL_TYPES = {
    r"(^| )(at|until)$": "TIMESTAMP",
    r"(^| )(on|date|birthday)$": "DATE",
    r"^(is|has|by|needs) ": "BOOLEAN",
    r"(bytes|cents|count|grams|height|minutes|position|seconds|sequence|width)$": "INTEGER",
    r"^(latitude|longitude)$": "DOUBLE PRECISION",
}
"""The type of a field by its name; others are text."""

JSON_TYPES = {"BOOLEAN": "boolean", "INTEGER": "integer", "DOUBLE PRECISION": "number"}
"""The type of a field in the API by that in the database; others are text."""


class Choice(NamedTuple):
    """The technology of a category, and who has decided that."""

    technology: Ranked
    decided_by: Literal["the PRD", "the design", "the user", "the agent"]
    reasoning: str | None = None

    @property
    def because(self) -> str:
        """Who has decided that, and why."""
        return f"Chosen by {self.decided_by}{f': {self.reasoning}' if self.reasoning else '.'}"


class Field(NamedTuple):
    """A field of an entity."""

    name: str
    sql_type: str
    references: str | None = None
    """The table of the entity that the field names."""


class Brief(NamedTuple):
    """What a document is written from."""

    design: Mapping[str, Any]
    requirements: Requirements
    choices: Mapping[Category, Choice]

    @property
    def title(self) -> str:
        """The product: the first heading of the PRD."""
        return str(self.design["prd"]).lstrip("# \n").partition("\n")[0]

    @property
    def monthly_usd(self) -> int:
        """What all technologies cost together."""
        return sum(choice.technology.monthly_usd for choice in self.choices.values())

    @property
    def constraints(self) -> dict[str, str]:
        """The constraints of the PRD, in words."""
        return _bullets(self.section("Constraints"))

    @property
    def features(self) -> dict[str, str]:
        """The features of the PRD."""
        return _bullets(self.section("Features"))

    @property
    def entities(self) -> dict[str, list[Field]]:
        """The fields of each entity of the PRD."""
        found = _bullets(self.section("Data"))
        tables = {name.lower(): plural(name) for name in found}
        return {
            name: [_field(field.strip(), tables) for field in text.split(",")]
            for name, text in found.items()
        }

    @property
    def screens(self) -> dict[str, dict[str, str]]:
        """What the design says of each screen: Shows, Actions, Data, States."""
        sections = re.split(r"^## +", self.design["screen_specs"], flags=re.MULTILINE)[1:]
        return {text.partition("\n")[0].strip(): _bullets(text) for text in sections}

    @property
    def risks(self) -> dict[str, str]:
        """What violates the constraints, and who has decided so."""
        found = {
            f"{choice.technology.name} {violation}": choice.because
            for choice in self.choices.values()
            for violation in choice.technology.violations
        }
        spent, budget = self.monthly_usd, self.requirements.budget_usd
        if spent > budget:
            text = f"All technologies cost {spent:,} USD a month where {budget:,} are to be spent"
            found[text] = "The budget has to grow, or a paid service to go."
        return found

    def section(self, heading: str) -> str:
        """A section of the PRD; empty if there is none."""
        rest = self.design["prd"].partition(f"\n## {heading}\n")[2]
        return str(rest.partition("\n## ")[0]).strip()


def write_document(brief: Brief, answered: Iterable[str] = ()) -> Document:
    """Write the five parts.

    Args:
        brief: What they are written from.
        answered: The risks that a validation has asked about.
    """
    answers = {risk: brief.risks[risk] for risk in answered if risk in brief.risks}
    return {
        part: _environment().get_template(name).render(brief=brief, answers=answers)
        for part, name in TEMPLATES.items()
    }


def snake(name: str) -> str:
    """A name as an identifier."""
    return re.sub(r"\W+", "_", name.strip().lower())


def plural(name: str) -> str:
    """The name of an entity's table."""
    name = snake(name)
    if name.endswith(("s", "x", "ch", "sh")):
        return f"{name}es"
    return f"{name[:-1]}ies" if re.search("[^aeiou]y$", name) else f"{name}s"


def path(name: str) -> str:
    """The path of an entity in the API."""
    return f"/{plural(name).replace('_', '-')}"


def _bullets(section: str) -> dict[str, str]:
    """The text of each bullet with a name, on one line."""
    found = re.findall(r"^- \*\*(.+?):?\*\*(.*(?:\n +.*)*)", section, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).lstrip(": ") for name, text in found}


def _field(name: str, tables: Mapping[str, str]) -> Field:
    if name in tables:
        return Field(f"{snake(name)}_id", "VARCHAR(36)", tables[name])
    if name == "id":
        return Field("id", "VARCHAR(36)")
    found = (kind for pattern, kind in SQL_TYPES.items() if re.search(pattern, name))
    return Field(snake(name), next(found, "TEXT"))


@cache
def _environment() -> Environment:
    environment = Environment(  # noqa: S701 - what it renders is not HTML
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"words": words, "plural": plural, "path": path}
    environment.globals |= {"Category": Category, "json_types": JSON_TYPES}
    return environment

"""Reads the technical part of a PRD: its constraints, and what it needs in each category.

    ## Constraints
    - **Peak concurrent users:** 4,000
    - **Monthly budget:** 300 USD
    - **Hosting:** managed, self-hosted or either
    - **Region:** EU, US or any
    - **Licences:** open source or any
    - **Team skills:** Python, SQL

    ## Technology needs
    - **Authentication** (weight 3): Members sign in. Needs: social login, mfa.
    - **Database** (decided: PostgreSQL): Where the records are.
    - **Payments** (not needed): Nobody pays.

A category that is not named is needed, with a weight of 1.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from examples.tech_spec.catalogue import Category, load
from examples.tech_spec.errors import RequirementsError, UnknownOptionError

LABELS = {
    "Peak concurrent users": "users",
    "Monthly budget": "budget_usd",
    "Hosting": "hosting",
    "Region": "region",
    "Licences": "licences",
    "Team skills": "skills",
}

_BULLET = re.compile(r"^- \*\*([^*]+?):?\*\*(?: \(([^)]*)\))?:? *(.*)$", re.MULTILINE)

_NEEDS = re.compile(r"\bNeeds: ([^.]*)\.?\s*$")


def _names(given: str | Sequence[str]) -> Sequence[str]:
    """Names that are separated by commas, sorted: a state that has them is always the same."""
    if not isinstance(given, str):
        return given
    return sorted({part.strip().lower().replace(" ", "_") for part in given.split(",")} - {""})


Number = Annotated[int, BeforeValidator(lambda text: re.sub(r"[ ,]|USD$", "", str(text)))]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Sentence = Annotated[str, BeforeValidator(lambda text: (text[:1].upper() + text[1:]).strip())]


class Need(BaseModel):
    """What a product needs in a category."""

    text: Sentence = ""
    weight: Annotated[int, Field(ge=1, le=3)] = 1
    """How much it matters: 3 is the most."""
    needed: bool = True
    decided: str | None = None
    """The option that was chosen already."""
    capabilities: Names = ()


class Requirements(BaseModel):
    """What options are ranked by."""

    users: Annotated[Number, Field(ge=1)]
    """At the same time, at the peak."""
    budget_usd: Annotated[Number, Field(ge=0)]
    hosting: Literal["managed", "self-hosted", "either"]
    region: Literal["EU", "US", "any"]
    licences: Literal["open source", "any"]
    skills: Names
    needs: Mapping[Category, Need]

    @property
    def needed(self) -> dict[Category, Need]:
        """The categories that the product needs."""
        return {category: need for category, need in self.needs.items() if need.needed}


def read_requirements(prd: str) -> Requirements:
    """Read a PRD.

    Raises:
        RequirementsError: A section or a constraint is missing or cannot be read, or a need names
            a category, a capability or an option that the catalogue does not have.
    """
    found = {name: text for name, _, text in _bullets(prd, "Constraints")}
    if missing := [label for label in LABELS if label not in found]:
        raise RequirementsError(
            f"the PRD's section 'Constraints' lacks {', '.join(missing)}: add a line for each"
        )
    named = dict(_need(*bullet) for bullet in _bullets(prd, "Technology needs"))
    needs = {category: named.get(category, Need()) for category in Category}
    try:
        return Requirements.model_validate(
            {field: found[label] for label, field in LABELS.items()} | {"needs": needs}
        )
    except ValidationError as exc:
        raise RequirementsError(f"the PRD's constraints cannot be read: {_said(exc)}") from exc


def _bullets(prd: str, heading: str) -> Iterator[tuple[str, str, str]]:
    """The name, the marks and the text of each bullet of a section."""
    _, found, rest = prd.partition(f"\n## {heading}\n")
    if not found:
        raise RequirementsError(f"the PRD has no section '## {heading}': add it")
    section = re.sub(r"\n {2,}", " ", rest.partition("\n## ")[0])
    for name, marks, text in _BULLET.findall(section):
        yield name.strip(), marks, text.strip()


def _need(name: str, marks: str, text: str) -> tuple[Category, Need]:
    category = _category(name)
    values: dict[str, object] = {"text": text}
    for mark in filter(None, (part.strip() for part in marks.split(","))):
        match re.split(r"[: ]+", mark, maxsplit=1):
            case ["weight", weight]:
                values["weight"] = weight
            case ["decided", option]:
                values["decided"] = option
            case ["not", "needed"]:
                values["needed"] = False
            case _:
                raise RequirementsError(
                    f"{mark!r} says nothing about {name}: write 'weight 3', 'decided: …' or "
                    "'not needed'"
                )
    if asked := _NEEDS.search(text):
        values |= {"text": text[: asked.start()], "capabilities": asked[1]}
    try:
        need = Need.model_validate(values)
        if need.decided is not None:
            need.decided = load()[category].option(need.decided).name
    except (ValidationError, UnknownOptionError) as exc:
        said = _said(exc) if isinstance(exc, ValidationError) else str(exc)
        raise RequirementsError(f"the need for {name} cannot be read: {said}") from exc
    known = load()[category].capabilities
    if unknown := set(need.capabilities) - set(known):
        raise RequirementsError(
            f"{name} needs {', '.join(sorted(unknown))}, which the catalogue does not know: use "
            f"{', '.join(known)}"
        )
    return category, need


def _category(name: str) -> Category:
    try:
        return Category(name.lower().replace(" ", "_").replace("-", "_"))
    except ValueError as exc:
        known = ", ".join(category.label for category in Category)
        raise RequirementsError(f"{name!r} is no category: use one of {known}") from exc


def _said(exc: ValidationError) -> str:
    labels = {field: label for label, field in LABELS.items()}
    where = ((str(error["loc"][0]), error) for error in exc.errors())
    return "; ".join(f"{labels.get(name, name)}: {error['msg']}" for name, error in where)

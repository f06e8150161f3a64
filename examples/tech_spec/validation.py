"""Scores a document from 0 to 100, and says what it lacks. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from examples.tech_spec.document import TEMPLATES, Brief, path, plural

MARK = 90
"""The score that a document must have."""


class Finding(BaseModel):
    """Something that a part of a document lacks."""

    part: str
    subject: str
    text: str
    points: int
    """What it costs."""


class Report(BaseModel):
    """What a validation has found."""

    score: int
    findings: list[Finding]


def validate(texts: Mapping[str, Any], brief: Brief) -> Report:
    """Validate a document against what it was to be written from."""
    checks = (_empty_parts, _untraced, _unspecified, _unanswered_risks)
    findings = [finding for check in checks for finding in check(texts, brief)]
    lost = sum(finding.points for finding in findings)
    return Report(score=max(0, 100 - lost), findings=findings)


def _empty_parts(texts: Mapping[str, str], _: Brief) -> Iterator[Finding]:
    for part in TEMPLATES:
        if not texts.get(part, "").strip():
            yield Finding(part=part, subject=part, text="The part is empty.", points=20)


def _untraced(texts: Mapping[str, str], brief: Brief) -> Iterator[Finding]:
    """What is decided or demanded, and not to be found where it belongs."""
    names = [choice.technology.name for choice in brief.choices.values()]
    constraints = [f"**{name}:** {value}" for name, value in brief.constraints.items()]
    wanted = {
        "trd_content": [*names, *constraints, *brief.features, *brief.screens, *brief.entities],
        "architecture_diagram": names,
        "tech_stack_document": names,
    }
    for part, subjects in wanted.items():
        for subject in subjects:
            if subject not in texts.get(part, ""):
                text = f"{subject} is not to be found."
                yield Finding(part=part, subject=subject, text=text, points=4)


def _unspecified(texts: Mapping[str, str], brief: Brief) -> Iterator[Finding]:
    """Entities without a path in the API, or without a table."""
    part = "api_specification"
    try:
        paths = yaml.load(texts[part], yaml.CSafeLoader)["paths"].keys()
    except (yaml.YAMLError, LookupError, TypeError, AttributeError):
        paths = set()
    for entity in brief.entities:
        if path(entity) not in paths:
            text = f"There is no path {path(entity)}."
            yield Finding(part=part, subject=entity, text=text, points=3)
        table = f"CREATE TABLE {plural(entity)} ("
        if table not in texts.get("database_schema", ""):
            text = f"There is no table {plural(entity)}."
            yield Finding(part="database_schema", subject=entity, text=text, points=3)


def _unanswered_risks(texts: Mapping[str, str], brief: Brief) -> Iterator[Finding]:
    for risk in brief.risks:
        if risk not in texts.get("trd_content", ""):
            text = f"{risk}: say who has decided so, and why."
            yield Finding(part="trd_content", subject=risk, text=text, points=6)

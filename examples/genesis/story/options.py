"""What a writer is asked, and offered: options, each a text that may be the decision."""

from typing import Any

from examples.genesis.story.brief import Brief
from examples.genesis.story.language import words

COUNT = 3
"""Options of a question."""


def _field(name: str) -> Any:
    stages = words("stages").values()
    return next(stage["fields"][name] for stage in stages if name in stage["fields"])


def question(field: str) -> str:
    """What the writer is asked."""
    return str(_field(field)["question"])


def label(field: str) -> str:
    """What a field is called in a sentence."""
    return str(_field(field).get("label", field))


def options(brief: Brief, field: str, attempt: object = 0) -> list[str]:
    """Options for a field; others at each attempt, and never what is decided already."""
    slots = brief.slots(field, attempt)
    templates = brief.shuffled(_field(field)["options"], field, attempt) * (COUNT + 1)
    offered = dict.fromkeys(slots.fill(template) for template in templates[: COUNT + 1])
    return [text for text in offered if text != brief.facts.get(field)][:COUNT]

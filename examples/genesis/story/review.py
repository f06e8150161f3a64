"""A reader's marks on a draft, and what that reader would change."""

from collections.abc import Mapping
from typing import Any

from examples.genesis.story.brief import Brief
from examples.genesis.story.language import words
from examples.genesis.story.options import options

CRITERIA = [*words("review")["criteria"]]
"""What a draft is marked for, in order."""


def mark(brief: Brief, criterion: str, draft: Mapping[str, str]) -> dict[str, Any]:
    """Mark one side of a draft, from 0 to 100; another draft gets another mark."""
    score = brief.draw("mark", criterion, *sorted(draft.items())).randint(50, 98)
    level = "good" if score >= 82 else "fair" if score >= 65 else "poor"
    comment = words("review")["criteria"][criterion][level]
    return {"criterion": criterion, "score": score, "comment": comment}


def suggestions(brief: Brief, draft: Mapping[str, str], count: int = 2) -> dict[str, str]:
    """Other decisions for some fields of a draft."""
    fields = brief.shuffled(sorted(draft), "suggestions")[:count]
    return {field: options(brief, field, attempt="review")[0] for field in fields}

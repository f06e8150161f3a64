"""The score of a page, in the shape that the `aesthetic_scores` channel carries."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from examples.instant_coffee import checks
from examples.instant_coffee.dom import Page

Dimension = Literal[
    "visualHierarchy",
    "colorHarmony",
    "spacingConsistency",
    "alignment",
    "readability",
    "mobileAdaptation",
]
_CHECKS: dict[Dimension, tuple[float, checks.Check]] = {
    "visualHierarchy": (0.20, checks.visual_hierarchy),
    "colorHarmony": (0.20, checks.colour_harmony),
    "spacingConsistency": (0.15, checks.spacing_consistency),
    "alignment": (0.15, checks.alignment),
    "readability": (0.15, checks.readability),
    "mobileAdaptation": (0.15, checks.mobile_adaptation),
}


# A page that cannot be read is not good, however well it is spaced: the weakest dimension counts
# once more.
_WEAKEST = 0.3


class Suggestion(BaseModel):
    """One thing that would make the page better."""

    dimension: Dimension
    severity: Literal["info", "warning", "critical"]
    message: str
    location: str | None = None
    autoFixable: bool  # noqa: N815 - the name that readers of the column expect


class AestheticScore(BaseModel):
    """How good a page looks, by rules computed from its own HTML and CSS."""

    overall: float = Field(ge=0, le=100)
    dimensions: dict[Dimension, float]
    suggestions: list[Suggestion]
    passThreshold: float | None = None  # noqa: N815 - see above

    @property
    def passed(self) -> bool:
        """Whether the page reaches its pass mark."""
        return self.passThreshold is None or self.overall >= self.passThreshold

    def as_channel(self) -> dict[str, Any]:
        """Return the score as plain JSON values."""
        return self.model_dump(exclude_none=True)


def score_page(html: str, pass_mark: float | None = None) -> AestheticScore:
    """Score a page from 0 to 100.

    Args:
        html: A whole page with its CSS in `style` elements.
        pass_mark: The score from which the page is good enough.

    Returns:
        The overall score (the weighted mean, pulled down by the weakest dimension), six
        dimensions, and what would raise them, gravest first.
    """
    page = Page(html)
    dimensions: dict[Dimension, float] = {}
    suggestions: list[Suggestion] = []
    mean = 0.0
    for name, (weight, check) in _CHECKS.items():
        findings = check(page)
        points = max(0.0, 100.0 - sum(finding.cost for finding in findings))
        dimensions[name] = round(points, 1)
        mean += weight * points
        suggestions += [_suggestion(name, finding) for finding in findings]
    gravity = {"critical": 0, "warning": 1, "info": 2}
    suggestions.sort(key=lambda suggestion: gravity[suggestion.severity])
    return AestheticScore(
        overall=round((1 - _WEAKEST) * mean + _WEAKEST * min(dimensions.values()), 1),
        dimensions=dimensions,
        suggestions=suggestions,
        passThreshold=pass_mark,
    )


def _suggestion(dimension: Dimension, finding: checks.Finding) -> Suggestion:
    severity: Literal["info", "warning", "critical"] = "info"
    if finding.cost >= 25:
        severity = "critical"
    elif finding.cost >= 5:
        severity = "warning"
    return Suggestion(
        dimension=dimension,
        severity=severity,
        message=finding.message,
        location=finding.location,
        autoFixable=finding.fixable,
    )

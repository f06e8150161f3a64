"""Routing: what kind of page a brief asks for, decided by rules that can show their evidence."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from examples.instant_coffee.briefs import Brief, ProductType

Complexity = Literal["simple", "medium", "complex"]
DocTier = Literal["checklist", "standard", "extended"]

_WORDS: dict[ProductType, tuple[str, ...]] = {
    "ecommerce": ("shop", "store", "sell", "cart", "order", "buy", "product", "stock", "ship"),
    "booking": ("book", "appointment", "reserve", "slot", "session", "availability", "chair"),
    "dashboard": ("dashboard", "metric", "figure", "chart", "report", "trend", "monitor", "track"),
    "landing": ("landing page", "launch", "waitlist", "trial", "subscri", "pricing", "feature"),
    "card": ("card", "portfolio", "contact", "business card", "who i am", "find me", "links"),
    "invitation": ("invit", "wedding", "birthday", "party", "rsvp", "guest", "celebrat"),
}  # fmt: skip
_KINDS: dict[str, ProductType] = {
    "products": "ecommerce",
    "slots": "booking",
    "services": "booking",
    "metrics": "dashboard",
    "bars": "dashboard",
    "line": "dashboard",
    "table": "dashboard",
    "features": "landing",
    "prices": "landing",
    "links": "card",
    "timeline": "invitation",
}
_SKILLS: dict[ProductType, str] = {
    "ecommerce": "storefront",
    "booking": "appointments",
    "dashboard": "figures",
    "landing": "campaign",
    "card": "calling-card",
    "invitation": "occasion",
}
_TIERS: dict[Complexity, DocTier] = {
    "simple": "checklist",
    "medium": "standard",
    "complex": "extended",
}
_MIMIC = re.compile(r"\b(exactly|identical|copy|just like|match)\b", re.IGNORECASE)
_NOT_MIMIC = re.compile(
    r"\b(not|no|never|without)\b[\w\s]{0,20}?\b(exactly|identical|copy|match)", re.IGNORECASE
)


@dataclass(frozen=True)
class Route:
    """The routing decision, with what it rests on."""

    product_type: ProductType
    complexity: Complexity
    doc_tier: DocTier
    skill_id: str
    style_reference_mode: Literal["full_mimic", "style_only"] | None
    evidence: tuple[str, ...]


def route_brief(brief: Brief) -> Route:
    """Decide product type, complexity, document tier, skill and style mode of a brief."""
    product_type, evidence = _product_type(brief)
    complexity = _complexity(brief)
    return Route(
        product_type=product_type,
        complexity=complexity,
        doc_tier=_TIERS[complexity],
        skill_id=f"{_SKILLS[product_type]}-{complexity}",
        style_reference_mode=_style_mode(brief.style_reference),
        evidence=evidence,
    )


def _product_type(brief: Brief) -> tuple[ProductType, tuple[str, ...]]:
    if brief.product_type:
        return brief.product_type, ("the brief says so",)
    text = f"{brief.request} {brief.tagline}".lower()
    found: dict[ProductType, list[str]] = {kind: [] for kind in get_args(ProductType)}
    for kind, words in _WORDS.items():
        found[kind] += [f'"{word}"' for word in words if re.search(rf"\b{word}", text)]
    for section in brief.sections:
        if section.kind in _KINDS:
            found[_KINDS[section.kind]].append(f"a section of {section.kind}")
    best = max(found, key=lambda kind: len(found[kind]))
    if not found[best]:
        return "landing", ("nothing more specific was found",)
    return best, tuple(dict.fromkeys(found[best]))


def _complexity(brief: Brief) -> Complexity:
    items = sum(len(section.items) + len(section.rows) for section in brief.sections)
    weight = len(brief.sections) * 2 + items
    if weight <= 14:
        return "simple"
    return "medium" if weight <= 28 else "complex"


def _style_mode(reference: str | None) -> Literal["full_mimic", "style_only"] | None:
    if not reference:
        return None
    mimics = _MIMIC.search(reference) and not _NOT_MIMIC.search(reference)
    return "full_mimic" if mimics else "style_only"

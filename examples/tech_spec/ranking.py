"""Scores the options of a category against the requirements of a PRD. Pure.

What meets every constraint scores from 50 to 100, by how well it fits; what violates one scores
less than 50. So the best option is the one ranked first, and never one that the PRD rules out if
another is left.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from pydantic import BaseModel

from examples.tech_spec.catalogue import Option
from examples.tech_spec.requirements import Need, Requirements

HEADROOM = 2
"""An option that carries this many times the expected users fits as well as any."""


class Ranked(BaseModel):
    """An option, and how it meets the requirements."""

    name: str
    summary: str
    homepage: str
    licence: str
    monthly_usd: int
    score: float
    reasons: list[str]
    warnings: list[str]
    """What the team should know."""
    violations: list[str]
    """The constraints that it does not meet."""
    strengths: list[str]
    limits: list[str]


class _Judgement(NamedTuple):
    """How an option meets one requirement."""

    kind: Literal["reason", "warning", "violation"]
    text: str
    fit: float = 1
    """From 0 to 1."""
    weight: int = 0
    """Its share of the score; that of a constraint without degrees is 0."""


def rank(options: Iterable[Option], need: Need, requirements: Requirements) -> list[Ranked]:
    """Rank the options of a category, the best one first."""
    ranked = (assess(option, need, requirements) for option in options)
    return sorted(ranked, key=lambda each: (-each.score, each.name))


def assess(option: Option, need: Need, requirements: Requirements) -> Ranked:
    """Score one option."""
    judged = [*_judgements(option, need, requirements)]
    texts = {
        kind: [each.text for each in judged if each.kind == kind]
        for kind in ("reason", "warning", "violation")
    }
    fit = sum(each.fit * each.weight for each in judged) / sum(each.weight for each in judged)
    count = len(texts["violation"])
    return Ranked(
        **option.model_dump(mode="json", include={*Ranked.model_fields}),
        monthly_usd=option.cost.monthly_usd,
        score=round(49 * fit / count if count else 50 + 50 * fit, 1),
        reasons=texts["reason"],
        warnings=texts["warning"],
        violations=texts["violation"],
    )


def _judgements(option: Option, need: Need, requirements: Requirements) -> Iterator[_Judgement]:
    if asked := set(need.capabilities):
        lacking = asked - option.capabilities
        text = f"lacks {words(lacking)}" if lacking else f"offers {words(asked)}"
        yield _Judgement(_met(not lacking), text, 1 - len(lacking) / len(asked), 3)

    carried, users = option.scaling.concurrent_users, requirements.users
    text = f"carries {carried:,} concurrent users where {users:,} are expected"
    yield _Judgement(_met(carried >= users), text, min(1, carried / (HEADROOM * users)), 2)

    cost, budget = option.cost.monthly_usd, requirements.budget_usd
    text = f"costs about {cost:,} USD a month where {budget:,} are to be spent"
    fit = max(0, 1 - cost / budget) if budget else float(not cost)
    kind = "warning" if cost <= budget and fit < 0.5 else _met(cost <= budget)
    yield _Judgement(kind, text, fit, 2)

    if (hosting := requirements.hosting) != "either":
        is_met = hosting in option.hosting
        yield _Judgement(_met(is_met), f"is {'' if is_met else 'not '}offered {hosting}")
    if (region := requirements.region) != "any":
        is_met = region in option.regions
        text = f"{'keeps' if is_met else 'does not keep'} data in the {region}"
        yield _Judgement(_met(is_met), text)
    if requirements.licences == "open source":
        text = f"is {'' if option.open_source else 'not '}open source ({option.licence})"
        yield _Judgement(_met(option.open_source), text)

    if learnt := option.skills - set(requirements.skills):
        text = f"needs {words(learnt)}, which the team has to learn"
        yield _Judgement("warning", text, 1 - len(learnt) / len(option.skills), 3)
    else:
        yield _Judgement("reason", "is known to the team", 1, 3)


def _met(is_met: bool) -> Literal["reason", "violation"]:  # noqa: FBT001 - a private helper
    return "reason" if is_met else "violation"


def words(names: Iterable[str]) -> str:
    """Names as a list in a sentence."""
    *first, last = sorted(name.replace("_", " ") for name in names)
    return f"{', '.join(first)} and {last}" if first else last

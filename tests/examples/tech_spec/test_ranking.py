"""Options are ranked by what a PRD requires."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.tech_spec.catalogue import Category, load
from examples.tech_spec.ranking import Ranked, assess, rank
from examples.tech_spec.requirements import Need, Requirements


def required(**changes: Any) -> Requirements:
    """Requirements that rule nothing out, with changes."""
    nothing = {
        "users": 1_000, "budget_usd": 500, "hosting": "either", "region": "any", "licences": "any",
        "skills": ("python", "sql"), "needs": {},
    }  # fmt: skip
    return Requirements.model_validate({**nothing, **changes})


def ranked(category: Category, need: Need | None = None, **changes: Any) -> list[Ranked]:
    return rank(load()[category].options, need or Need(), required(**changes))


def judged(name: str, category: Category, need: Need | None = None, **changes: Any) -> Ranked:
    return assess(load()[category].option(name), need or Need(), required(**changes))


@pytest.mark.parametrize(
    ("category", "changes", "first"),
    [
        (Category.AUTHENTICATION, {}, "Supabase Auth"),
        (Category.AUTHENTICATION, {"users": 100_000}, "Amazon Cognito"),
        (Category.AUTHENTICATION, {"skills": ("java", "operations")}, "Keycloak"),
        (Category.DATABASE, {}, "MariaDB"),
        (Category.DATABASE, {"users": 100_000}, "CockroachDB"),
        (Category.DATABASE, {"skills": ("javascript",)}, "MongoDB"),
        (Category.FILE_UPLOAD, {"hosting": "managed"}, "Cloudflare R2"),
        (Category.EMAIL, {"hosting": "self-hosted"}, "Postal"),
        (Category.PAYMENTS, {"region": "EU"}, "Mollie"),
        (Category.PAYMENTS, {"region": "US"}, "Paddle"),
        (Category.PAYMENTS, {"licences": "open source"}, "Kill Bill"),
        (Category.FRONTEND_FRAMEWORK, {"users": 100_000}, "Angular"),
        (Category.BACKEND_FRAMEWORK, {}, "Django"),
        (Category.BACKEND_FRAMEWORK, {"skills": ("typescript", "javascript")}, "NestJS"),
        (Category.DEPLOYMENT, {}, "Render"),
        (Category.DEPLOYMENT, {"budget_usd": 20}, "Docker Compose on a server"),
    ],
)
def test_what_comes_first_hangs_on_the_requirements(
    category: Category, changes: dict[str, Any], first: str
) -> None:
    assert ranked(category, **changes)[0].name == first


@pytest.mark.parametrize(
    ("capability", "first"),
    [("embedded", "SQLite"), ("row_security", "PostgreSQL"), ("horizontal_writes", "CockroachDB")],
)
def test_what_comes_first_offers_what_is_needed(capability: str, first: str) -> None:
    assert ranked(Category.DATABASE, Need(capabilities=(capability,)))[0].name == first


@pytest.mark.parametrize(
    ("name", "changes", "violation"),
    [
        ("SQLite", {"users": 20_000}, "carries 500 concurrent users where 20,000 are expected"),
        ("PostgreSQL", {"budget_usd": 20}, "costs about 50 USD a month where 20 are to be spent"),
        ("SQLite", {"users": 500, "hosting": "managed"}, "is not offered managed"),
        ("MongoDB", {"licences": "open source"}, "is not open source (SSPL-1.0)"),
    ],
)
def test_a_constraint_that_is_not_met_is_named(
    name: str, changes: dict[str, Any], violation: str
) -> None:
    found = judged(name, Category.DATABASE, **changes)

    assert found.violations == [violation]
    assert found.score < 50


def test_a_region_and_a_capability_that_are_not_offered_are_named() -> None:
    need = Need(capabilities=("cards", "marketplace_payouts"))

    assert judged("Mollie", Category.PAYMENTS, need, region="US").violations == [
        "does not keep data in the US"
    ]
    assert judged("Paddle", Category.PAYMENTS, need).violations == ["lacks marketplace payouts"]


def test_what_the_team_has_to_learn_and_what_takes_half_of_the_budget_are_warnings() -> None:
    found = judged("PostgreSQL", Category.DATABASE, skills=("python",), budget_usd=80)

    assert found.warnings == [
        "costs about 50 USD a month where 80 are to be spent",
        "needs sql, which the team has to learn",
    ]
    assert found.score >= 50


REQUIREMENTS = st.builds(
    required,
    users=st.integers(1, 500_000),
    budget_usd=st.integers(0, 5_000),
    hosting=st.sampled_from(("managed", "self-hosted", "either")),
    region=st.sampled_from(("EU", "US", "any")),
    licences=st.sampled_from(("open source", "any")),
    skills=st.sets(st.sampled_from(("sql", "python", "typescript", "java", "go"))).map(tuple),
)


@given(category=st.sampled_from(Category), requirements=REQUIREMENTS, data=st.data())
def test_no_option_that_violates_a_constraint_is_ranked_above_one_that_meets_all(
    category: Category, requirements: Requirements, data: st.DataObject
) -> None:
    catalogue = load()[category]
    needed = data.draw(st.sets(st.sampled_from(sorted(catalogue.capabilities)), max_size=3))
    options = data.draw(st.permutations(catalogue.options))
    need = Need(capabilities=tuple(sorted(needed)))

    found = rank(options, need, requirements)

    violates = [bool(option.violations) for option in found]
    assert violates == sorted(violates)
    scores = [option.score for option in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 100 for score in scores)
    assert all((score < 50) == bad for score, bad in zip(scores, violates, strict=True))
    assert found == rank(catalogue.options, need, requirements)

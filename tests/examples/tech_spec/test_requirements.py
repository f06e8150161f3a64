"""The technical part of a PRD: what is read, and what cannot be."""

from __future__ import annotations

import pytest

from examples.tech_spec.catalogue import Category
from examples.tech_spec.errors import RequirementsError
from examples.tech_spec.fixtures import JOBS, read_documents
from examples.tech_spec.requirements import Need, read_requirements

PRD = """# A product

## Constraints

- **Peak concurrent users:** 4,000
- **Monthly budget:** 300 USD
- **Hosting:** managed
- **Region:** EU
- **Licences:** open source
- **Team skills:** Python, TypeScript,
  SQL

## Technology needs

- **Authentication** (weight 3): members sign in,
  and stay so. Needs: social login, mfa.
- **Database** (decided: postgresql, weight 2): Where the records are.
- **Payments** (not needed): Nobody pays.

## Out of scope

- **Email**: nothing of this is read.
"""


def test_constraints_and_needs_are_read() -> None:
    found = read_requirements(PRD)
    assert (found.users, found.budget_usd, found.hosting) == (4000, 300, "managed")
    assert (found.region, found.licences) == ("EU", "open source")
    assert found.skills == ("python", "sql", "typescript")
    assert found.needs[Category.AUTHENTICATION] == Need(
        text="Members sign in, and stay so.", weight=3, capabilities=("mfa", "social_login")
    )
    assert found.needs[Category.DATABASE].decided == "PostgreSQL"
    assert not found.needs[Category.PAYMENTS].needed


def test_a_category_that_is_not_named_is_needed() -> None:
    assert read_requirements(PRD).needs[Category.EMAIL] == Need()


@pytest.mark.parametrize("name", JOBS)
def test_requirements_are_the_same_after_a_step_was_stored_as_json(name: str) -> None:
    found = read_requirements(read_documents(name)["prd"])
    assert type(found).model_validate(found.model_dump(mode="json")) == found


def test_the_three_products_differ() -> None:
    read = [read_requirements(read_documents(name)["prd"]) for name in JOBS]
    for field in ("users", "budget_usd", "hosting", "skills"):
        assert len({getattr(each, field) for each in read}) == len(JOBS), field


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("## Constraints", "## Limits", "no section '## Constraints'"),
        ("- **Region:** EU\n", "", "lacks Region"),
        ("4,000", "many", "Peak concurrent users: Input should be a valid integer"),
        ("4,000", "0", "Peak concurrent users: Input should be greater than or equal to 1"),
        ("managed", "the moon", "Hosting: Input should be 'managed', 'self-hosted' or 'either'"),
        ("**Payments**", "**Telepathy**", "'Telepathy' is no category"),
        ("mfa", "retina scan", "needs retina_scan, which the catalogue does not know"),
        ("postgresql", "Clay tablets", "'Clay tablets' is no option for database"),
        ("weight 3", "weight 9", "weight: Input should be less than or equal to 3"),
        ("not needed", "perhaps", "'perhaps' says nothing about Payments"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(old: str, new: str, says: str) -> None:
    with pytest.raises(RequirementsError, match=says):
        read_requirements(PRD.replace(old, new))

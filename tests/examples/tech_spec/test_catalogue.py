"""The catalogue of options: what it has to have, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from examples.tech_spec import catalogue
from examples.tech_spec.catalogue import Category, CategoryCatalogue, load
from examples.tech_spec.errors import UnknownOptionError


@pytest.fixture
def email() -> dict[str, Any]:
    """The file of a category, to be changed."""
    file = Path(catalogue.__file__).parent / "email.yaml"
    read: dict[str, Any] = yaml.safe_load(file.read_text())
    return read


def test_each_of_ten_categories_has_four_to_six_options() -> None:
    assert list(load()) == list(Category)
    assert len(Category) == 10
    assert all(4 <= len(each.options) <= 6 for each in load().values())


@pytest.mark.parametrize("category", Category)
def test_a_capability_tells_options_apart(category: Category) -> None:
    known = load()[category]
    for capability in known.capabilities:
        having = [each.name for each in known.options if capability in each.capabilities]
        assert having, f"no option for {category} has {capability}"
    shapes = {each.capabilities for each in known.options}
    assert len(shapes) > 1 or category is Category.EMAIL


@pytest.mark.parametrize("category", Category)
def test_every_constraint_of_a_product_leaves_an_option(category: Category) -> None:
    options = load()[category].options
    for region in ("EU", "US"):
        assert any(region in each.regions for each in options)
    for hosting in ("managed", "self-hosted"):
        assert any(hosting in each.hosting for each in options)
    assert any(each.open_source and "self-hosted" in each.hosting for each in options)


def test_an_option_is_found_whatever_its_case() -> None:
    assert load()[Category.DATABASE].option(" postgresql ").name == "PostgreSQL"


def test_an_unknown_option_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(UnknownOptionError, match="choose one of Stripe, Adyen, Mollie") as refused:
        load()[Category.PAYMENTS].option("Barter")
    assert refused.value.members["known"][0] == "Stripe"


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (["category"], "carrier_pigeons", "authentication"),
        (["options", 0, "regions"], [], "at least 1"),
        (["options", 0, "cost", "monthly_usd"], -1, "greater than or equal to 0"),
        (["options", 0, "capabilities"], ["telepathy"], "without meaning: .*telepathy"),
        (["options", 0, "homepage"], "nowhere", "valid URL"),
        (["options", 0, "licens"], "MIT", "Extra inputs are not permitted"),
        (["options", 1, "name"], "amazon ses", "more than one option is called amazon ses"),
        (["options"], [], "at least 4"),
    ],
)
def test_a_file_with_a_fault_is_refused(
    email: dict[str, Any], path: list[Any], value: object, says: str
) -> None:
    assert CategoryCatalogue.model_validate(email).category is Category.EMAIL
    *parents, last = path
    place: Any = email
    for part in parents:
        place = place[part]
    place[last] = value
    with pytest.raises(ValidationError, match=says):
        CategoryCatalogue.model_validate(email)

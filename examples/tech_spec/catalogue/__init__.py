"""The technologies that the agent knows, with facts: a YAML file for each category.

Prices are list prices of 2025 in US dollars, rounded: for a comparison, not for a budget.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, model_validator

from examples.tech_spec.errors import UnknownOptionError


class Category(StrEnum):
    """What a product may need a technology for."""

    AUTHENTICATION = "authentication"
    DATABASE = "database"
    FILE_UPLOAD = "file_upload"
    EMAIL = "email"
    PAYMENTS = "payments"
    FRONTEND_FRAMEWORK = "frontend_framework"
    BACKEND_FRAMEWORK = "backend_framework"
    CACHING = "caching"
    REAL_TIME = "real_time"
    DEPLOYMENT = "deployment"

    @property
    def label(self) -> str:
        """The category in words."""
        return self.value.replace("_", " ").capitalize()


Hosting = Literal["managed", "self-hosted"]
Text = Annotated[str, Field(min_length=1, max_length=300)]


class Facts(BaseModel):
    """A part of the catalogue: an unknown or misspelt field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Cost(Facts):
    """What an option costs."""

    model: Literal["free", "flat", "usage", "per user", "per transaction"]
    monthly_usd: Annotated[int, Field(ge=0)]
    """The smallest setup that is fit for production, its servers among it."""
    note: Text


class Scaling(Facts):
    """How far an option goes."""

    concurrent_users: Annotated[int, Field(ge=1)]
    """Up to which it is usually run without a redesign."""
    how: Text


class Option(Facts):
    """A technology."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    summary: Text
    homepage: HttpUrl
    licence: Text
    open_source: bool
    """Whether the licence is one that the Open Source Initiative has approved."""
    hosting: Annotated[frozenset[Hosting], Field(min_length=1)]
    regions: Annotated[frozenset[Literal["EU", "US"]], Field(min_length=1)]
    """Where the data may be kept."""
    cost: Cost
    scaling: Scaling
    skills: frozenset[str]
    """What its team has to know."""
    capabilities: frozenset[str]
    strengths: Annotated[tuple[Text, ...], Field(min_length=2)]
    limits: Annotated[tuple[Text, ...], Field(min_length=1)]


class CategoryCatalogue(Facts):
    """A category: what may be asked of its options, and the options."""

    category: Category
    question: Text
    """What the user is asked."""
    capabilities: Annotated[Mapping[str, Text], Field(min_length=3)]
    options: Annotated[tuple[Option, ...], Field(min_length=4, max_length=6)]

    @model_validator(mode="after")
    def _check_options(self) -> "CategoryCatalogue":
        names = [option.name.casefold() for option in self.options]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"more than one option is called {', '.join(sorted(twice))}")
        for option in self.options:
            if unknown := option.capabilities - set(self.capabilities):
                raise ValueError(f"{option.name} has capabilities without meaning: {unknown}")
        return self

    def option(self, name: str) -> Option:
        """The option of a name, whatever its case.

        Raises:
            UnknownOptionError: There is none; names those that there are.
        """
        for option in self.options:
            if option.name.casefold() == name.strip().casefold():
                return option
        known = [option.name for option in self.options]
        raise UnknownOptionError(
            f"{name!r} is no option for {self.category}: choose one of {', '.join(known)}",
            category=self.category,
            known=known,
        )


@cache
def load() -> Mapping[Category, CategoryCatalogue]:
    """Read and validate the catalogue.

    Raises:
        pydantic.ValidationError: A file is not what a `CategoryCatalogue` should be.
    """
    files = (Path(__file__).parent / f"{category}.yaml" for category in Category)
    read = (CategoryCatalogue.model_validate(yaml.safe_load(file.read_text())) for file in files)
    return {each.category: each for each in read}

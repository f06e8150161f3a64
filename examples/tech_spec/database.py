"""The engine that the agent and its saver share: it knows where the design agent's tables are."""

from sqlalchemy import URL, Connection, make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.tech_spec.models import SHARED
from examples.web import database
from examples.web.homes import database_option

HOME = ".tech-spec"

DATABASE_OPTION = database_option(HOME, "tech_spec.db")


def schemas_of(url: str | URL) -> dict[str, str | None]:
    """The schema of the design agent's tables, as a `schema_translate_map`.

    PostgreSQL has schemas. On MariaDB a schema is a database of its own, and SQLite has none.
    """
    url = make_url(url)
    place = {"sqlite": None, "postgresql": SHARED}
    return {SHARED: place.get(url.get_backend_name(), f"{url.database}_{SHARED}")}


def place_of_designs(connection: Connection) -> str | None:
    """The schema of the design agent's tables, for statements to which no map is applied."""
    place: str | None = connection.get_execution_options()["schema_translate_map"][SHARED]
    return place


def make_engine(url: str | URL) -> AsyncEngine:
    """Make the engine of a database's URL."""
    return database.make_engine(url, schemas_of(url))

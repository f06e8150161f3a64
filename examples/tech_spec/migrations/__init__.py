"""Migrations of the agent's tables, together with the package's."""

from functools import partial
from pathlib import Path

from examples.tech_spec.database import make_engine
from examples.web import migrations

FOLDER = Path(__file__).parent

upgrade = partial(migrations.upgrade, FOLDER)
"""`await upgrade(url, revision="head")` brings a database to a revision."""

migrated = partial(migrations.migrated, FOLDER, make_engine)
"""`async with migrated(url) as engine` migrates a database, and opens its engine."""

"""Alembic's environment."""

from examples.tech_spec.database import make_engine
from examples.tech_spec.models import SHARED, Base
from examples.web import migrations

ANOTHER_AGENTS = {t.name for t in Base.metadata.tables.values() if t.schema == SHARED}

DESCENDING = {"idx_session_status_created"}
"""SQLAlchemy does not see on MariaDB that it descends."""

uncompared = ANOTHER_AGENTS | DESCENDING
migrations.run("tech_spec", Base.metadata, make_engine, uncompared=uncompared)

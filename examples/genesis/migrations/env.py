"""Alembic's environment."""

from examples.genesis.models import Base
from examples.web import migrations
from examples.web.database import make_engine

migrations.run("genesis", Base.metadata, make_engine)

"""Routing and model usage of a session."""

from langgraph_session_saver.schema.migrations import seeds
from langgraph_session_saver.schema.migrations.steps import Steps

revision = "0002"
down_revision = "0001"

LOSES = {"sessions": dict.fromkeys(column.name for column in seeds.routing_columns())}


def upgrade(steps: Steps) -> None:
    """Add the columns to sessions; old rows have none of it."""
    steps.extend("sessions", *seeds.routing(steps.place()))


def downgrade(steps: Steps) -> None:
    """Drop them."""
    steps.retract("sessions", *seeds.routing(steps.place()))

"""Routing and model usage of a session."""

from langgraph_session_saver.schema.migrations.past_tables import ROUTING, routing
from langgraph_session_saver.schema.migrations.steps import Steps

revision = "0002"
down_revision = "0001"

LOSES = {"sessions": dict.fromkeys(ROUTING)}


def upgrade(steps: Steps) -> None:
    """Add the columns to sessions; they are NULL in existing rows."""
    steps.extend("sessions", *routing(steps.factory()))


def downgrade(steps: Steps) -> None:
    """Drop them."""
    steps.retract("sessions", *routing(steps.factory()))

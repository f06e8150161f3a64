"""Graph state, build and scores of a session."""

from langgraph_session_saver.schema.migrations.past_tables import state
from langgraph_session_saver.schema.migrations.steps import Steps

revision = "0003"
down_revision = "0002"

LOSES = {
    "sessions": {
        "graph_state": None,
        "build_status": "pending",
        "build_artifacts": None,
        "aesthetic_scores": None,
    }
}


def upgrade(steps: Steps) -> None:
    """Add the columns to sessions; existing rows get a pending build."""
    factory = steps.factory()
    steps.extend("sessions", *state(steps.factory()))
    steps.fill(factory.table("sessions", *state(factory)), build_status="pending")


def downgrade(steps: Steps) -> None:
    """Drop them."""
    steps.retract("sessions", *state(steps.factory()))

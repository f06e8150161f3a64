"""Graph state, build and scores of a session."""

from langgraph_session_saver.schema.migrations import seeds
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
    """Add the columns to sessions; the builds of old rows are pending."""
    place = steps.place()
    steps.extend("sessions", *seeds.state(place))
    sessions = seeds.sessions(place, *seeds.state_columns())
    steps.fill(sessions, build_status="pending")


def downgrade(steps: Steps) -> None:
    """Drop them."""
    steps.retract("sessions", *seeds.state(steps.place()))

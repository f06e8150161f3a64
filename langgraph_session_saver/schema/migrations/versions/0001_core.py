"""Core tables: sessions, messages, versions, token_usage."""

from langgraph_session_saver.schema.migrations import seeds
from langgraph_session_saver.schema.migrations.steps import Steps

revision = "0001"
down_revision = None

LOSES: dict[str, dict[str, object]] = {
    "messages": {},
    "versions": {},
    "token_usage": {},
    "sessions": {},
}


def upgrade(steps: Steps) -> None:
    """Create the tables."""
    place = steps.place()
    for declare in (seeds.sessions, seeds.messages, seeds.versions, seeds.token_usage):
        steps.create(declare(place))


def downgrade(steps: Steps) -> None:
    """Drop them."""
    for name in LOSES:
        steps.drop(name)

"""Core tables: sessions, messages, versions, token_usage."""

from langgraph_session_saver.schema.migrations.past_tables import OriginalTables
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
    for table in OriginalTables(steps.schema, steps.prefix).applications({}):
        steps.create(table)


def downgrade(steps: Steps) -> None:
    """Drop them."""
    for name in LOSES:
        steps.drop(name)

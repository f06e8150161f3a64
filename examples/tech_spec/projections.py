"""What a step of the graph does to the agent's tables, in the step's own transaction."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import UpdateBase, update

from examples.tech_spec.graph import ENDS
from examples.tech_spec.models import (
    AgentErrorLog,
    GeneratedTRDDocument,
    Role,
    TechConversation,
    TechResearch,
    TechSpecSession,
    derived_id,
)
from langgraph_session_saver import Projection, Step

ROLES = {"human": Role.USER, "ai": Role.AGENT, "system": Role.SYSTEM}
"""Who speaks, by LangChain's type of message."""

Row = Mapping[str, Any]
Read = Callable[[Step], Iterator[tuple[object, Row]]]


class SessionStatus(Projection):
    """Updates the session, whose row was made before the first step."""

    def applies(self, step: Step) -> bool:
        """At each step but the first: LangGraph saves the input before it is in channels."""
        return "stage" in step.values

    def statements(self, step: Step) -> Iterable[UpdateBase]:
        """The update."""
        values = step.values
        of_session = update(TechSpecSession).where(TechSpecSession.id == step.session_id)
        yield of_session.values(
            status=values["status"],
            current_stage=values["stage"],
            progress_percentage=values["progress"],
            session_data={
                "completeness": values.get("completeness", 0),
                "gaps": [*values.get("research", {})],
                "pending": values.get("pending", []),
                "tries": values.get("document", {}).get("version", 0),
            },
            updated_at=step.time,
            completed_at=step.time if values["stage"] in ENDS else None,
        )


class RowsOf(Projection):
    """A channel as rows of a table; what has no column is left out.

    Args:
        channel: The channel.
        model: The table's.
        read: The rows, each after what its id is derived from.
    """

    def __init__(self, channel: str, model: Any, read: Read) -> None:
        self.channels = (channel,)
        self.table = model.__table__
        self._columns = model.__table__.columns.keys()
        self._read = read

    def rows(self, step: Step) -> Iterable[Row]:
        """The rows."""
        for key, row in self._read(step):
            row_id = derived_id(step.session_id, self.channels[0], key)
            kept = {name: value for name, value in row.items() if name in self._columns}
            yield {**kept, "id": row_id, "session_id": step.session_id}


def _research(step: Step) -> Iterator[tuple[object, Row]]:
    for category, gap in step.values["research"].items():
        yield category, {"technology_category": category, **gap}


def _conversation(step: Step) -> Iterator[tuple[object, Row]]:
    for message in step.values["messages"]:
        told = message.additional_kwargs
        is_gap = told["category"] in step.values["research"]
        about = derived_id(step.session_id, "research", told["category"]) if is_gap else None
        said = {"role": ROLES[message.type], "message": message.text}
        yield message.id, {"research_id": about, **said, **told}


def _document(step: Step) -> Iterator[tuple[object, Row]]:
    document = step.values["document"]
    yield document["version"], document


def _errors(step: Step) -> Iterator[tuple[object, Row]]:
    for error in step.values["errors"]:
        yield error["id"], error


PROJECTIONS: Mapping[str, Projection | None] = {
    "messages": None,  # conversation and errors have tables of the agent's own
    "errors": None,
    "research": RowsOf("research", TechResearch, _research),
    "conversation": RowsOf("messages", TechConversation, _conversation),
    "document": RowsOf("document", GeneratedTRDDocument, _document),
    "error_log": RowsOf("errors", AgentErrorLog, _errors),
    "session": SessionStatus(),
}
"""The saver's option `projections`, in the order of the references."""

"""A LangGraph checkpointer that lives in the application's own SQL database.

with SessionSaver.from_conn_string("sqlite:///app.db") as saver:
    graph = builder.compile(checkpointer=saver)
"""

from langgraph_session_saver.errors import (
    CheckpointNotFoundError,
    CorruptBlobError,
    DatabaseError,
    DatabaseUnavailableError,
    DriverNotInstalledError,
    HistoryLostError,
    InvalidConfigError,
    NotConfirmedError,
    ProjectionError,
    SchemaError,
    SerializationError,
    SessionConflictError,
    SessionNotFoundError,
    SessionSaverError,
    StoragePermissionError,
    ThreadNotFoundError,
    ValueTooLargeError,
    VersionNotFoundError,
    WrongFaceError,
)
from langgraph_session_saver.inspection.comparing import Change
from langgraph_session_saver.inspection.differences import ChannelDiff, Diff
from langgraph_session_saver.inspection.history import Entry, History, Older
from langgraph_session_saver.projections import (
    GraphState,
    MessageRows,
    PageVersions,
    Projection,
    SessionColumns,
    Step,
)
from langgraph_session_saver.saver import SessionSaver
from langgraph_session_saver.schemas import (
    AestheticScore,
    BuildInfo,
    BuildStatus,
    ModelUsage,
    RoutingMetadata,
    SessionMetadata,
)
from langgraph_session_saver.sessions.records import (
    ErrorRecord,
    MessageRecord,
    Page,
    SessionRecord,
    UsageRecord,
    UsageSummary,
    VersionRecord,
)

__all__ = [
    "AestheticScore",
    "BuildInfo",
    "BuildStatus",
    "Change",
    "ChannelDiff",
    "CheckpointNotFoundError",
    "CorruptBlobError",
    "DatabaseError",
    "DatabaseUnavailableError",
    "Diff",
    "DriverNotInstalledError",
    "Entry",
    "ErrorRecord",
    "GraphState",
    "History",
    "HistoryLostError",
    "InvalidConfigError",
    "MessageRecord",
    "MessageRows",
    "ModelUsage",
    "NotConfirmedError",
    "Older",
    "Page",
    "PageVersions",
    "Projection",
    "ProjectionError",
    "RoutingMetadata",
    "SchemaError",
    "SerializationError",
    "SessionColumns",
    "SessionConflictError",
    "SessionMetadata",
    "SessionNotFoundError",
    "SessionRecord",
    "SessionSaver",
    "SessionSaverError",
    "Step",
    "StoragePermissionError",
    "ThreadNotFoundError",
    "UsageRecord",
    "UsageSummary",
    "ValueTooLargeError",
    "VersionNotFoundError",
    "VersionRecord",
    "WrongFaceError",
]

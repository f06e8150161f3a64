"""A LangGraph checkpointer that lives in the application's own SQL database.

with SessionSaver.from_conn_string("sqlite:///app.db") as saver:
    graph = builder.compile(checkpointer=saver)
"""

from langgraph_session_saver.errors import (
    BackupFileError,
    CheckpointNotFoundError,
    CorruptBlobError,
    DamagedBackupError,
    DatabaseError,
    DatabaseUnavailableError,
    DriverNotInstalledError,
    HistoryLostError,
    InvalidConfigError,
    NewerBackupError,
    NotABackupError,
    ProjectionError,
    SchemaError,
    SerializationError,
    SessionConflictError,
    SessionSaverError,
    StoragePermissionError,
    ThreadNotFoundError,
    TransferConflictError,
    TransferMismatchError,
    ValueTooLargeError,
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
from langgraph_session_saver.transfer import Imported, Progress, Transferred
from langgraph_session_saver.transfer import copy as copy_database

__all__ = [
    "AestheticScore",
    "BackupFileError",
    "BuildInfo",
    "BuildStatus",
    "Change",
    "ChannelDiff",
    "CheckpointNotFoundError",
    "CorruptBlobError",
    "DamagedBackupError",
    "DatabaseError",
    "DatabaseUnavailableError",
    "Diff",
    "DriverNotInstalledError",
    "Entry",
    "GraphState",
    "History",
    "HistoryLostError",
    "Imported",
    "InvalidConfigError",
    "MessageRows",
    "ModelUsage",
    "NewerBackupError",
    "NotABackupError",
    "Older",
    "PageVersions",
    "Progress",
    "Projection",
    "ProjectionError",
    "RoutingMetadata",
    "SchemaError",
    "SerializationError",
    "SessionColumns",
    "SessionConflictError",
    "SessionMetadata",
    "SessionSaver",
    "SessionSaverError",
    "Step",
    "StoragePermissionError",
    "ThreadNotFoundError",
    "TransferConflictError",
    "TransferMismatchError",
    "Transferred",
    "ValueTooLargeError",
    "WrongFaceError",
    "copy_database",
]

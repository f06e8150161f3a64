"""The errors this package raises: one root, each also the builtin a caller would catch.

SessionSaverError
├── InvalidConfigError (ValueError)         ids, namespaces, options, filters
├── SessionConflictError (ValueError)       a call names another session or owner
├── CheckpointNotFoundError (LookupError)   a run that starts from a checkpoint that is not there
├── ThreadNotFoundError (LookupError)       a thread to look into that is not there
├── SessionNotFoundError (LookupError)      a session to change that is not there
├── VersionNotFoundError (LookupError)      a page that its session does not have
├── HistoryLostError (LookupError)          stored data that a read or a step needs is gone
├── CorruptBlobError (ValueError)           stored bytes that are not what was written
├── SerializationError (TypeError)          a value the serde cannot write, or may not read
├── ValueTooLargeError (ValueError)         a value over what the database takes
├── ProjectionError (ValueError)            a projected value that does not validate
├── DatabaseUnavailableError (ConnectionError)
├── DatabaseError (RuntimeError)            any other refusal of the database
├── DriverNotInstalledError (ImportError)
├── StoragePermissionError (PermissionError)
├── SchemaError (RuntimeError)              missing, foreign or newer tables
├── NotConfirmedError (ValueError)          a destructive call without its confirmation
└── WrongFaceError (RuntimeError)           a sync call where only an async one can work
"""


class SessionSaverError(Exception):
    """Root of every error that this package raises."""


class InvalidConfigError(SessionSaverError, ValueError):
    """A config, id, option or filter is not usable; nothing was written."""


class SessionConflictError(SessionSaverError, ValueError):
    """A call names another session or owner than the thread has; nothing was written."""


class CheckpointNotFoundError(SessionSaverError, LookupError):
    """A checkpoint that a call names, or starts a run from, does not exist; nothing was written."""


class ThreadNotFoundError(SessionSaverError, LookupError):
    """There is no thread with this id."""


class HistoryLostError(SessionSaverError, LookupError):
    """Stored data that a checkpoint needs is gone from the database."""


class CorruptBlobError(SessionSaverError, ValueError):
    """Stored bytes cannot be decoded: they are not what this package wrote."""


class SerializationError(SessionSaverError, TypeError):
    """The serde cannot write a value, or is not allowed to read one."""


class ValueTooLargeError(SessionSaverError, ValueError):
    """A serialised value is larger than the database or its driver takes."""


class ProjectionError(SessionSaverError, ValueError):
    """A channel's value does not validate as what its projection expects."""


class DatabaseUnavailableError(SessionSaverError, ConnectionError):
    """The database cannot be reached, or went away and stayed away."""


class DatabaseError(SessionSaverError, RuntimeError):
    """The database refused a statement."""


class DriverNotInstalledError(SessionSaverError, ImportError):
    """The URL needs a driver that is not installed."""


class StoragePermissionError(SessionSaverError, PermissionError):
    """The database file or its directory cannot be written."""


class SchemaError(SessionSaverError, RuntimeError):
    """The tables are missing, newer than this code, or somebody else's."""


class NotConfirmedError(SessionSaverError, ValueError):
    """A call that destroys rows was made without its confirmation; nothing was changed."""


class WrongFaceError(SessionSaverError, RuntimeError):
    """A sync call was made where only the async one can work."""


class SessionNotFoundError(SessionSaverError, LookupError):
    """There is no session with this id."""


class VersionNotFoundError(SessionSaverError, LookupError):
    """A session has no page of this number."""

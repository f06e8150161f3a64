"""The errors this package raises: one root, each also the builtin a caller would catch.

SessionSaverError
├── InvalidConfigError (ValueError)         ids, namespaces, options, filters
├── AmbiguousIdError (InvalidConfigError)    the start of an id that several have
├── SessionConflictError (ValueError)       a call names another session or owner
├── CheckpointNotFoundError (LookupError)   a run that starts from a checkpoint that is not there
├── ThreadNotFoundError (LookupError)       a thread to look into that is not there
├── SessionNotFoundError (LookupError)      a session to change that is not there
├── VersionNotFoundError (LookupError)      a page that its session does not have
├── HistoryLostError (LookupError)          stored data that a read or a step needs is gone
├── CorruptBlobError (ValueError)           stored bytes that are not what was written
├── SerializationError (TypeError, ValueError) a value the serde cannot write, or may not read
├── ValueTooLargeError (ValueError)         a value over what the database takes
├── ProjectionError (ValueError)            a projected value that does not validate
├── DatabaseUnavailableError (ConnectionError)
├── PoolExhaustedError (TimeoutError)       all connections of an engine's pool are in use
├── DatabaseError (RuntimeError)            any other refusal of the database
├── DriverNotInstalledError (ImportError)
├── StoragePermissionError (PermissionError)
├── NotABackupError (ValueError)            a file to restore that is none of ours
│   ├── DamagedBackupError                  … or was, before it was cut or changed
│   └── NewerBackupError                    … or is one that this code is too old for
├── BackupFileError (OSError)               a backup's file cannot be written or read
├── TransferConflictError (ValueError)      the target has another row under the same key
├── TransferMismatchError (RuntimeError)    both sides were read, and differ
├── SchemaError (RuntimeError)              missing, foreign or newer tables
├── NotConfirmedError (ValueError)          a destructive call without its confirmation
├── WrongFaceError (RuntimeError)           a sync call where only an async one can work
└── WrongLoopError (RuntimeError)           an event loop that an AsyncEngine does not belong to
"""


class SessionSaverError(Exception):
    """Root of every error that this package raises."""


class InvalidConfigError(SessionSaverError, ValueError):
    """A config, id, option or filter is not usable; nothing was written."""


class AmbiguousIdError(InvalidConfigError):
    """Several threads, sessions or checkpoints have ids that start so."""


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


class SerializationError(SessionSaverError, TypeError, ValueError):
    """The serde cannot write a value, or is not allowed to read one.

    The serde's own exception is the `__cause__`, and `except` with its class catches this error
    too, or with the class's nearest base if an instance cannot be made from a message alone.
    """


class ValueTooLargeError(SessionSaverError, ValueError):
    """A serialised value is larger than the database or its driver takes."""


class ProjectionError(SessionSaverError, ValueError):
    """A channel's value does not validate as what its projection expects."""


class DatabaseUnavailableError(SessionSaverError, ConnectionError):
    """The database cannot be reached, or went away and stayed away."""


class PoolExhaustedError(SessionSaverError, TimeoutError):
    """No connection of the engine's pool became free within the pool's own timeout."""


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


class NotABackupError(SessionSaverError, ValueError):
    """A file is not a backup that can be restored; nothing was written."""


class DamagedBackupError(NotABackupError):
    """A backup was cut off or changed since it was made; nothing was written."""


class NewerBackupError(NotABackupError):
    """A backup was made by a newer version of this package; nothing was written."""


class BackupFileError(SessionSaverError, OSError):
    """A backup's file cannot be written or read; nothing half-written has its name."""


class TransferConflictError(SessionSaverError, ValueError):
    """The database has another row under the key of one that is to be written."""


class TransferMismatchError(SessionSaverError, RuntimeError):
    """Source and target of a copy were both read, and differ."""


class SessionNotFoundError(SessionSaverError, LookupError):
    """There is no session with this id."""


class VersionNotFoundError(SessionSaverError, LookupError):
    """A session has no page of this number."""


class WrongLoopError(SessionSaverError, RuntimeError):
    """The connections of an AsyncEngine belong to another event loop."""

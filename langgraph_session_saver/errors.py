"""The errors that this package raises: one root, and each is also the builtin a caller would catch.

SessionSaverError
├── InvalidConfigError (ValueError)          an unusable config, id, option, filter or URL
│   └── AmbiguousIdError                     the start of an id that several ids have
├── SessionConflictError (ValueError)        a call names another session than the thread's
│   └── AccessDeniedError (PermissionError)  the thread or session belongs to another owner
├── SessionDeletedError (LookupError)        a step of a thread whose session is soft-deleted
├── ThreadConflictError (RuntimeError)       another run has continued the thread (single_writer)
├── CheckpointNotFoundError (LookupError)    no such checkpoint
├── ThreadNotFoundError (LookupError)        no such thread
├── SessionNotFoundError (LookupError)       no such session
├── VersionNotFoundError (LookupError)       no such page in its session
├── ClockError (RuntimeError)                the host's clock is behind another host's
├── HistoryLostError (LookupError)           stored data that a read or a step needs was deleted
├── CorruptBlobError (ValueError)            stored bytes that do not decode
│   └── UnreadableValueError (SerializationError)  bytes that the serde cannot read
├── SerializationError (TypeError, ValueError)  a value that the serde cannot write or may not read
│   └── PlaintextError                       a value in clear, with `require_encryption=True`
├── ValueTooLargeError (ValueError)          a value larger than the database takes
├── ProjectionError (ValueError)             a projected value that does not validate
├── DatabaseUnavailableError (ConnectionError)  no connection, or a lost one
├── PoolExhaustedError (TimeoutError)        all connections of an engine's pool are in use
├── DatabaseError (RuntimeError)             any other error of the database
├── DriverNotInstalledError (ImportError)    the URL's driver cannot be imported
├── StoragePermissionError (PermissionError) a read-only database, or a missing privilege
├── StorageFullError (OSError)               no space for what a call stores
├── NotABackupError (ValueError)             a file that is not a backup
│   ├── DamagedBackupError                   a backup that was cut off or changed
│   └── NewerBackupError                     a backup made by a newer version of this package
├── BackupFileError (OSError)                a backup file that cannot be written or read
├── TransferConflictError (ValueError)       the target has other content under the same key
├── TransferMismatchError (RuntimeError)     source and target of a copy differ afterwards
├── SchemaError (RuntimeError)               missing, foreign or newer tables
├── NotConfirmedError (ValueError)           a destructive call without its confirmation
├── WrongFaceError (RuntimeError)            a sync call where only an async one works
├── NestedCallError (RuntimeError)           a write to SQLite from within another of its thread
└── WrongLoopError (RuntimeError)            an event loop that an AsyncEngine does not belong to
"""


class SessionSaverError(Exception):
    """Root of every error that this package raises."""


class InvalidConfigError(SessionSaverError, ValueError):
    """A config, id, option, filter or URL cannot be used; nothing was written."""


class AmbiguousIdError(InvalidConfigError):
    """The start of an id fits several threads, sessions or checkpoints."""


class SessionConflictError(SessionSaverError, ValueError):
    """A call names another session or owner than the thread has; nothing was written."""


class AccessDeniedError(SessionConflictError, PermissionError):
    """A thread or session belongs to another owner than the call names; nothing was written.

    The message names no owner.
    """


class SessionDeletedError(SessionSaverError, LookupError):
    """A thread's session is soft-deleted, and takes no further steps; nothing was written."""


class ThreadConflictError(SessionSaverError, RuntimeError):
    """Another run has continued a thread of a saver with `single_writer`; nothing was written."""


class CheckpointNotFoundError(SessionSaverError, LookupError):
    """A checkpoint that a call names, or starts a run from, does not exist; nothing was written."""


class ThreadNotFoundError(SessionSaverError, LookupError):
    """There is no thread with this id."""


class ClockError(SessionSaverError, RuntimeError):
    """A checkpoint would sort before the one that it follows; it was not saved."""


class HistoryLostError(SessionSaverError, LookupError):
    """Stored data that a checkpoint needs was deleted from the database."""


class CorruptBlobError(SessionSaverError, ValueError):
    """Stored bytes cannot be decoded: they are not what this package wrote."""


class SerializationError(SessionSaverError, TypeError, ValueError):
    """The serde cannot write a value, or is not allowed to read one.

    The serde's own exception is the `__cause__`, and `except` with its class catches this error
    too, or with the class's nearest base if an instance cannot be made from a message alone.
    """


class PlaintextError(SerializationError):
    """A stored value is not encrypted, and the saver requires that it is."""


class UnreadableValueError(CorruptBlobError, SerializationError):
    """The serde cannot read stored bytes: they are damaged, or of another serde or key."""


class ValueTooLargeError(SessionSaverError, ValueError):
    """A serialised value is larger than the database or its driver accepts."""


class ProjectionError(SessionSaverError, ValueError):
    """A channel's value does not validate against its projection."""


class DatabaseUnavailableError(SessionSaverError, ConnectionError):
    """The database cannot be reached, or the connection was lost and retries failed."""


class PoolExhaustedError(SessionSaverError, TimeoutError):
    """No connection of the engine's pool became free within the pool's own timeout."""


class DatabaseError(SessionSaverError, RuntimeError):
    """The database reported an error for a statement."""


class DriverNotInstalledError(SessionSaverError, ImportError):
    """The driver that the URL names cannot be imported."""


class StoragePermissionError(SessionSaverError, PermissionError):
    """The database cannot be written: it is read-only, or its user lacks a privilege.

    Of SQLite, the file or its directory. Nothing was written.
    """


class StorageFullError(SessionSaverError, OSError):
    """The database has no space for what a call stores; nothing was written."""


class SchemaError(SessionSaverError, RuntimeError):
    """The tables are missing, newer than this version, or not this package's."""


class NotConfirmedError(SessionSaverError, ValueError):
    """A call that destroys rows was made without its confirmation; nothing was changed."""


class WrongFaceError(SessionSaverError, RuntimeError):
    """A sync call was made where only the async one works."""


class NotABackupError(SessionSaverError, ValueError):
    """A file is not a backup, or cannot be restored; nothing was written."""


class DamagedBackupError(NotABackupError):
    """A backup was cut off or changed since it was made; nothing was written."""


class NewerBackupError(NotABackupError):
    """A backup was made by a newer version of this package; nothing was written."""


class BackupFileError(SessionSaverError, OSError):
    """A backup file cannot be written or read; no partial file is left under its name."""


class TransferConflictError(SessionSaverError, ValueError):
    """The database has a row with the same key and other content."""


class TransferMismatchError(SessionSaverError, RuntimeError):
    """Source and target of a copy differ afterwards."""


class SessionNotFoundError(SessionSaverError, LookupError):
    """There is no session with this id."""


class VersionNotFoundError(SessionSaverError, LookupError):
    """The session has no page with this number."""


class NestedCallError(SessionSaverError, RuntimeError):
    """A write to SQLite was called from within another write of the same thread.

    SQLite has one writer, so the call would wait for itself. Nothing of it was written.
    """


class WrongLoopError(SessionSaverError, RuntimeError):
    """The connections of an AsyncEngine belong to another event loop."""

"""What the application refuses, each with its HTTP status: one root, `GenesisError`."""

from http import HTTPStatus

from examples.web.problems import ApplicationError


class GenesisError(ApplicationError):
    """The root of the application's own errors."""


class NotFoundError(GenesisError, LookupError):
    """What is named does not exist, or is another owner's."""

    status = HTTPStatus.NOT_FOUND
    title = "Not found"


class ScopeError(GenesisError, ValueError):
    """The session is not one of the novel's."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = "Session of another scope"


class IncompleteConfigError(GenesisError, ValueError):
    """The stage's config lacks something; `members["errors"]` has each field."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = "Incomplete config"


class StateError(GenesisError, RuntimeError):
    """The flow, stage or session is not in a state that allows this."""

    status = HTTPStatus.CONFLICT
    title = "Not in this state"


class EventIdError(GenesisError, ValueError):
    """An event's id is not one from which a watcher of this flow can go on."""

    status = HTTPStatus.BAD_REQUEST
    title = "Invalid event id"

"""What the agent refuses, each with its HTTP status: one root, `TechSpecError`."""

from http import HTTPStatus

from examples.web.problems import ApplicationError


class TechSpecError(ApplicationError):
    """The root of the agent's own errors."""


class DesignJobError(TechSpecError, ValueError):
    """A design job that no document can be written for."""


class DesignJobNotFoundError(DesignJobError, LookupError):
    """The design job does not exist."""

    status = HTTPStatus.NOT_FOUND
    title = "Design job not found"


class DesignJobUnfinishedError(DesignJobError):
    """The design agent has not completed the job."""

    status = HTTPStatus.CONFLICT
    title = "Design job unfinished"


class MissingDocumentsError(DesignJobError):
    """The job lacks documents; `members["missing"]` has their types."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = "Missing documents"


class RequirementsError(TechSpecError, ValueError):
    """The technical part of a PRD cannot be read."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = "Unreadable requirements"


class UnknownOptionError(TechSpecError, ValueError):
    """The catalogue has no such option in the category."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = "Unknown option"


class NotPendingError(TechSpecError, RuntimeError):
    """The user is not asked about the category, or another user has decided it."""

    status = HTTPStatus.CONFLICT
    title = "Not to be decided"


class SessionNotFoundError(TechSpecError, LookupError):
    """The agent has no such session."""

    status = HTTPStatus.NOT_FOUND
    title = "Session not found"


class DocumentNotFoundError(TechSpecError, LookupError):
    """The session has no such document, or none yet."""

    status = HTTPStatus.NOT_FOUND
    title = "Document not found"

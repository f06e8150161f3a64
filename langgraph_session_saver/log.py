"""The package's logger, and text from outside that is made safe to show."""

from __future__ import annotations

import logging


def printable(text: str, keep: str = "") -> str:
    """Escape control characters and others that are not printable, as Python does."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def _make_printable(record: logging.LogRecord) -> bool:
    """Make the arguments of a log line printable, so that an id cannot add a line or colours."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            arg if isinstance(arg, int | float) else printable(str(arg)) for arg in record.args
        )
    return True


logger = logging.getLogger("langgraph_session_saver")
logger.addFilter(_make_printable)

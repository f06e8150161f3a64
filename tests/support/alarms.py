"""Signals that interrupt the main thread wherever it is."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SoftTimeLimit(Exception):  # noqa: N818 - as task queues call it
    """What a signal's handler raises."""


@contextmanager
def alarm(after: float) -> Iterator[threading.Event]:
    """Raise `SoftTimeLimit` in the main thread after some seconds, wherever that is then."""
    is_over = threading.Event()

    def raise_it(*_: object) -> None:
        is_over.set()
        raise SoftTimeLimit

    before = signal.signal(signal.SIGALRM, raise_it)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        yield is_over
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

"""A projection for a process that is to be killed before a certain step is stored."""

from __future__ import annotations

import signal
from typing import Any

from langgraph_session_saver import Projection, Step


class StopAt(Projection):
    """Stops the process before it stores a step, to be killed there."""

    def __init__(self, session_id: str, number: int) -> None:
        self._session_id = session_id
        self._left = number

    def columns(self, step: Step) -> dict[str, Any]:
        """Count the steps of the session."""
        if step.session_id == self._session_id:
            self._left -= 1
            if self._left == 0:
                print("stopped", flush=True)
                signal.pause()
        return {}

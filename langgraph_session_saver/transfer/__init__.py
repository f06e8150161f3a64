"""Moving house: backup and restore, copies between databases, and imports from other savers."""

from langgraph_session_saver.transfer.progress import Progress, Transferred

__all__ = ["Progress", "Transferred"]

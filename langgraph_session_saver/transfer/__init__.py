"""Backup and restore, copies between databases, and imports from other savers."""

from langgraph_session_saver.transfer.copying import copy
from langgraph_session_saver.transfer.importing import Imported
from langgraph_session_saver.transfer.progress import Progress, Transferred

__all__ = ["Imported", "Progress", "Transferred", "copy"]

"""The scripts of `history` and `diff`: what to read, and what it says of each checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from langgraph.checkpoint.base import writes_sort_key
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, TASKS
from sqlalchemy import Row

from langgraph_session_saver.chains import resolve
from langgraph_session_saver.codec import blob_key, unframe
from langgraph_session_saver.comparing import compare
from langgraph_session_saver.configs import Place, place_of
from langgraph_session_saver.core import Core, Script, reading
from langgraph_session_saver.decoding import TYPE, Undecodable, decode_plainly
from langgraph_session_saver.differences import ChannelDiff, ChannelKind, Diff
from langgraph_session_saver.errors import (
    CheckpointNotFoundError,
    HistoryLostError,
    InvalidConfigError,
    ThreadNotFoundError,
)
from langgraph_session_saver.history import Entry, History, Older, Status
from langgraph_session_saver.lanes import Tree
from langgraph_session_saver.lookups import Lookups
from langgraph_session_saver.reading import ANCESTORS
from langgraph_session_saver.status import _node_of as node_of

"""Another saver's plain version numbers replaced by unique ones, so that forks stay apart. Pure.

Numbers repeat: two forks of one checkpoint give different values the version 4. A unique version
has the number and a hash of the checkpoint where the version first appears. A checkpoint
therefore gets the same versions whenever it is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from langgraph.checkpoint.base import Checkpoint

from langgraph_session_saver.encoding.keys import hash_key, next_version
from langgraph_session_saver.errors import InvalidConfigError


class Versions(NamedTuple):
    """The versions of a checkpoint's channels, and those that each node has seen."""

    channels: Mapping[str, Any] = {}
    seen: Mapping[str, Mapping[str, Any]] = {}


def unique_versions(checkpoint: Checkpoint, parent: Versions) -> Versions:
    """A checkpoint's versions, with unique ones in place of numbers.

    A version that the parent has is the one that the parent is stored with.
    """

    def unique(version: Any, channel: str, *known: Any) -> Any:
        """The version, or the known one that has its number."""
        number = _number(version)
        if number is None:
            return version
        for other in known:
            counter = str(other).partition(".")[0]
            if counter.isdecimal() and int(counter) == number:
                return other
        counter = next_version(number - 1).partition(".")[0]
        return f"{counter}.{hash_key(channel, str(number), checkpoint['id']).hex()[:12]}"

    channels = {
        channel: unique(version, channel, parent.channels.get(channel))
        for channel, version in checkpoint["channel_versions"].items()
    }
    seen = {}
    for node, versions in checkpoint["versions_seen"].items():
        before = parent.seen.get(node, {})
        seen[node] = {
            name: unique(v, name, before.get(name), parent.channels.get(name), channels.get(name))
            for name, v in versions.items()
        }
    return Versions(channels, seen)


def _number(version: Any) -> int | None:
    """The number of a plain version; None for a version that is unique already."""
    if isinstance(version, str):
        return int(version) if version.isdecimal() else None
    if version != int(version):
        raise InvalidConfigError(
            f"a channel has the version {version!r}: expected text or a whole number"
        )
    return int(version)

"""Plain versions of another saver made ours, so that forks keep their values apart. Pure.

Numbers repeat: two forks of one checkpoint give different values the version 4. Ours have a
counter and a part that tells them apart, made here of the checkpoint where the version first
appears. A checkpoint therefore gets the same versions whenever it is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from langgraph.checkpoint.base import Checkpoint

from langgraph_session_saver.encoding.keys import hash_key, next_version
from langgraph_session_saver.errors import InvalidConfigError


class Versions(NamedTuple):
    """A checkpoint's versions."""

    channels: Mapping[str, Any]
    seen: Mapping[str, Mapping[str, Any]]


NONE = Versions({}, {})


def renamed(checkpoint: Checkpoint, parent: Versions) -> Versions:
    """A checkpoint's versions, with ours in place of plain ones.

    Args:
        checkpoint: As the other saver has it.
        parent: The versions that its parent has here.
    """
    channels = {
        channel: _renamed(version, channel, checkpoint["id"], parent.channels.get(channel))
        for channel, version in checkpoint["channel_versions"].items()
    }
    seen = {
        node: {
            channel: _renamed(
                version,
                channel,
                checkpoint["id"],
                parent.seen.get(node, {}).get(channel),
                parent.channels.get(channel),
                channels.get(channel),
            )
            for channel, version in versions.items()
        }
        for node, versions in checkpoint["versions_seen"].items()
    }
    return Versions(channels, seen)


def _renamed(version: Any, channel: str, checkpoint_id: str, *known: Any) -> Any:
    """One version; where it is the number of a known one, that one."""
    number = _number(version)
    if number is None:
        return version
    for name in known:
        counter = str(name).partition(".")[0]
        if counter.isdecimal() and int(counter) == number:
            return name
    counter = next_version(number - 1).partition(".")[0]
    return f"{counter}.{hash_key(channel, str(number), checkpoint_id).hex()[:12]}"


def _number(version: Any) -> int | None:
    """The number that a plain version is; None for one that tells forks apart by itself."""
    if isinstance(version, str):
        return int(version) if version.isdecimal() else None
    if version != int(version):
        raise InvalidConfigError(f"a channel has the version {version!r}: neither text nor whole")
    return int(version)

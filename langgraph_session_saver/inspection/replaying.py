"""A `DeltaChannel`'s value, as far as it can be told without the graph's reducer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langgraph_session_saver.inspection.decode import SNAPSHOT, TYPE


def replay(seed: Any, writes: Sequence[Any]) -> Any:
    """Put together a snapshot and the writes since, as LangGraph's own list reducers would.

    Lists are joined; of things with ids the later replaces the earlier, and a `RemoveMessage`
    takes one out. What does not start as a list is returned as a snapshot with its writes.
    """
    if isinstance(seed, Mapping) and seed.get(TYPE) == SNAPSHOT:
        seed = seed.get("value")
    if seed is not None and not isinstance(seed, list):
        return {"snapshot": seed, "writes": list(writes)}
    items: list[Any] = list(seed or [])
    for write in writes:
        if _type_of(write) == "Overwrite":
            value = write.get("value")
            items = list(value) if isinstance(value, list) else [value]
        else:
            items += write if isinstance(write, list) else [write]
    return _with_ids_once(items)


def _with_ids_once(items: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    places: dict[str, int] = {}
    for item in items:
        one = item.get("id") if isinstance(item, Mapping) and TYPE in item else None
        if not isinstance(one, str):
            found.append(item)
        elif _type_of(item) == "RemoveMessage":
            if one == "__remove_all__":
                found, places = [], {}
            elif one in places:
                found[places.pop(one)] = _GONE
        elif one in places:
            found[places[one]] = item
        else:
            places[one] = len(found)
            found.append(item)
    return [item for item in found if item is not _GONE]


_GONE = object()


def _type_of(value: Any) -> str | None:
    name = value.get(TYPE) if isinstance(value, Mapping) else None
    return str(name).rpartition(".")[2] if name is not None else None

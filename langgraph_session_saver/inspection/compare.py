"""What differs between two decoded values, path by path. Pure, and bounded in its work."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any, Literal, TypeAlias

from langgraph_session_saver.inspection.decode import SNAPSHOT, TYPE
from langgraph_session_saver.projection.plain_json import shorten

Kind: TypeAlias = Literal[
    "added", "removed", "changed", "appended", "inserted", "dropped", "edited", "reordered"
]

MOST_CHANGES = 100
"""Changes listed of one value; the rest are counted."""

DEEPEST = 32
"""Levels that are compared one by one; below, a value is the same or changed."""

LONG_TEXT = 80
"""Characters from which text is compared line by line."""

MOST_LINES = 2_000
"""Changed lines that are compared with each other: the work grows with their square."""

MOST_SHOWN = 200
"""Lines of a unified diff that are kept."""

MOST_OF_LINE = 500
"""Characters of a line that are kept."""

MOST_MIDDLE = 400
"""Changed items, of a list whose items have no ids, that are matched with each other."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs.

    Attributes:
        path: Where in the value: `[3].content`, or "" for the value itself.
        kind: "appended", "inserted", "dropped" and "reordered" are of lists, "added" and "removed"
            of keys; "edited" is a list's item that was replaced whole.
        before: What was there, decoded; None where nothing was.
        after: What is there now.
        text: For long text, a unified diff.
        by: For numbers, after less before.
    """

    path: str
    kind: Kind
    before: Any = None
    after: Any = None
    text: tuple[str, ...] | None = None
    by: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences of two values, and how many more there are."""

    changes: tuple[Change, ...]
    more: int = 0


def compare(before: Any, after: Any) -> Comparison:
    """List what differs between two decoded values."""
    found = _differences("", _unwrapped(before), _unwrapped(after), 0)
    changes = tuple(islice(found, MOST_CHANGES))
    return Comparison(changes, more=sum(1 for _ in islice(found, 100_000)))


def _unwrapped(value: Any) -> Any:
    if isinstance(value, Mapping) and value.get(TYPE) == SNAPSHOT:
        return value.get("value")
    return value


def _differences(path: str, before: Any, after: Any, depth: int) -> Iterator[Change]:
    if _is_same(before, after):
        return
    if depth < DEEPEST:
        if isinstance(before, Mapping) and isinstance(after, Mapping) and _alike(before, after):
            number = _as_number(before), _as_number(after)
            if None in number:
                yield from _in_mapping(path, before, after, depth)
                return
        elif _is_list(before) and _is_list(after):
            yield from _in_list(path, before, after, depth)
            return
    yield _changed(path, before, after)


def _alike(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> bool:
    """Whether two mappings are of one type, so that their fields can be compared."""
    return bool(before.get(TYPE) == after.get(TYPE))


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_same(before: Any, after: Any) -> bool:
    """Equality that tells True from 1, and takes NaN for itself."""
    if isinstance(before, bool) is not isinstance(after, bool):
        return False
    if isinstance(before, float) and isinstance(after, float) and math.isnan(before):
        return math.isnan(after)
    try:
        return bool(before == after) and not _hides_bool(before, after)
    except RecursionError:
        return False


def _hides_bool(before: Any, after: Any) -> bool:
    """Whether short equal containers hold True for 1 somewhere."""
    if isinstance(before, Mapping):
        return any(not _is_same(before[key], after[key]) for key in before)
    if _is_list(before) and len(before) <= MOST_MIDDLE:
        return any(not _is_same(a, b) for a, b in zip(before, after, strict=True))
    return False


def _changed(path: str, before: Any, after: Any) -> Change:
    kind: Kind = "edited" if path.endswith("]") else "changed"
    if isinstance(before, str) and isinstance(after, str):
        if max(len(before), len(after)) >= LONG_TEXT:
            return Change(path, kind, before, after, text=tuple(_text_diff(before, after)))
        return Change(path, kind, before, after)
    old, new = _as_number(before), _as_number(after)
    by = None if old is None or new is None else _difference(old, new)
    return Change(path, kind, before, after, by=by)


def _as_number(value: Any) -> Decimal | None:
    """A number, or a stored `Decimal`."""
    if isinstance(value, Mapping) and value.get(TYPE) == "decimal.Decimal":
        value = value.get("value")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _difference(old: Decimal, new: Decimal) -> float | None:
    try:
        by = float(new - old)
    except ArithmeticError:
        return None
    return by if math.isfinite(by) else None


# -- mappings -----------------------------------------------------------------------------------


def _in_mapping(
    path: str, before: Mapping[Any, Any], after: Mapping[Any, Any], depth: int
) -> Iterator[Change]:
    for key, value in before.items():
        if key not in after:
            yield Change(_at(path, key), "removed", before=value)
        else:
            yield from _differences(_at(path, key), value, after[key], depth + 1)
    for key, value in after.items():
        if key not in before:
            yield Change(_at(path, key), "added", after=value)


def _at(path: str, key: Any) -> str:
    if isinstance(key, str) and key.isidentifier():
        return f"{path}.{key}" if path else key
    return f"{path}[{key!r}]"


# -- lists --------------------------------------------------------------------------------------


def _in_list(path: str, before: Any, after: Any, depth: int) -> Iterator[Change]:
    old, new = _ids(before), _ids(after)
    if old is not None and new is not None:
        yield from _by_id(path, dict(zip(old, before, strict=True)), new, after, depth)
        return
    start, end = _common_ends(before, after)
    old_middle, new_middle = before[start : len(before) - end], after[start : len(after) - end]
    if not old_middle or not new_middle or len(old_middle) == len(new_middle):
        yield from _side_by_side(path, start, old_middle, new_middle, depth, is_end=not end)
    elif max(len(old_middle), len(new_middle)) > MOST_MIDDLE:
        yield from _replaced(path, start, start, old_middle, new_middle, is_end=not end)
    else:
        yield from _matched(path, start, old_middle, new_middle, depth, is_end=not end)


def _ids(values: Sequence[Any]) -> list[Any] | None:
    """The ids of a list of things that each have one of their own, as messages do."""
    ids = [value.get("id") if isinstance(value, Mapping) else None for value in values]
    if any(not isinstance(one, str | int) for one in ids) or len(set(ids)) != len(ids):
        return None
    return ids


def _by_id(
    path: str, before: Mapping[Any, Any], ids: Sequence[Any], after: Sequence[Any], depth: int
) -> Iterator[Change]:
    there = set(ids)
    for n, (one, value) in enumerate(before.items()):
        if one not in there:
            yield Change(f"{path}[{n}]", "dropped", before=value)
    known = [one for one in ids if one in before]
    last = ids.index(known[-1]) if known else -1
    for n, (one, value) in enumerate(zip(ids, after, strict=True)):
        if one in before:
            yield from _differences(f"{path}[{n}]", before[one], value, depth + 1)
        else:
            yield Change(f"{path}[{n}]", "appended" if n > last else "inserted", after=value)
    if known != [one for one in before if one in there]:
        yield Change(path, "reordered", before=list(before), after=list(ids))


def _common_ends(before: Sequence[Any], after: Sequence[Any]) -> tuple[int, int]:
    """How many items are the same at the start, and then at the end."""
    limit = min(len(before), len(after))
    start = next((n for n in range(limit) if not _is_same(before[n], after[n])), limit)
    limit -= start
    end = next((n for n in range(limit) if not _is_same(before[-1 - n], after[-1 - n])), limit)
    return start, end


def _side_by_side(
    path: str, start: int, before: Any, after: Any, depth: int, *, is_end: bool
) -> Iterator[Change]:
    if not before or not after:
        yield from _replaced(path, start, start, before, after, is_end=is_end)
        return
    for n, (old, new) in enumerate(zip(before, after, strict=True), start):
        yield from _differences(f"{path}[{n}]", old, new, depth + 1)


def _replaced(
    path: str, old_start: int, new_start: int, before: Any, after: Any, *, is_end: bool
) -> Iterator[Change]:
    for n, value in enumerate(before, old_start):
        yield Change(f"{path}[{n}]", "dropped", before=value)
    for n, value in enumerate(after, new_start):
        yield Change(f"{path}[{n}]", "appended" if is_end else "inserted", after=value)


def _matched(
    path: str, start: int, before: Any, after: Any, depth: int, *, is_end: bool
) -> Iterator[Change]:
    """Match the items of two short lists by what they are."""
    number: Callable[[Any], int] = _Numbers().of
    matcher = difflib.SequenceMatcher(
        None, [number(v) for v in before], [number(v) for v in after], autojunk=False
    )
    for tag, i, i_end, j, j_end in matcher.get_opcodes():
        if tag == "equal":
            continue
        at_end = is_end and j_end == len(after)
        both = min(i_end - i, j_end - j)
        for n in range(both):
            at = f"{path}[{start + j + n}]"
            yield from _differences(at, before[i + n], after[j + n], depth + 1)
        yield from _replaced(
            path, start + i + both, start + j + both,
            before[i + both : i_end], after[j + both : j_end], is_end=at_end,
        )  # fmt: skip


class _Numbers:
    """Numbers values so that the same ones get the same number; they need not be hashable."""

    def __init__(self) -> None:
        self._seen: list[Any] = []

    def of(self, value: Any) -> int:
        for n, known in enumerate(self._seen):
            if _is_same(known, value):
                return n
        self._seen.append(value)
        return len(self._seen) - 1


# -- text ---------------------------------------------------------------------------------------


def _text_diff(before: str, after: str) -> Iterator[str]:
    """A unified diff of the lines that changed, and of how many lines there are more."""
    lines = iter(_line_diff(before.splitlines(), after.splitlines()))
    for n, line in enumerate(lines):
        if n == MOST_SHOWN:
            yield f"… and {1 + sum(1 for _ in lines):,} more lines"
            return
        yield shorten(line, MOST_OF_LINE)


def _line_diff(before: list[str], after: list[str]) -> Iterator[str]:
    start, end = _common_ends(before, after)
    if len(before) - start - end == 1 == len(after) - start - end:
        before[start], after[start] = _excerpts(before[start], after[start])
    start, end = max(0, start - 3), max(0, end - 3)
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    if max(len(old), len(new)) > MOST_LINES:
        yield f"@@ lines {start + 1:,} to {len(before) - end:,} of {len(before):,} were replaced @@"
        yield from (f"-{line}" for line in old)
        yield from (f"+{line}" for line in new)
        return
    for line in islice(difflib.unified_diff(old, new, lineterm=""), 2, None):
        yield _moved(line, start) if line.startswith("@@ ") else line


def _excerpts(before: str, after: str) -> tuple[str, str]:
    """Of two long lines, what is around the place where they begin to differ."""
    if max(len(before), len(after)) <= LONG_TEXT:
        return before, after
    same = _common_ends(before, after)[0]
    at = max(0, same - LONG_TEXT // 4)
    start = "…" if at else ""
    return start + before[at:], start + after[at:]


def _moved(header: str, by: int) -> str:
    """A hunk's header with the line numbers of the whole text."""
    ranges = []
    for part in header.strip("@ ").split(" "):
        first, comma, length = part[1:].partition(",")
        ranges.append(f"{part[0]}{int(first) + by}{comma}{length}")
    return f"@@ {' '.join(ranges)} @@"

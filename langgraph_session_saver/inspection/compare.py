"""Compare two decoded values path by path. Pure, and bounded in its work."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import count, islice, repeat
from typing import Any, Literal, TypeAlias

from langgraph_session_saver.inspection.decode import TYPE, without_snapshot
from langgraph_session_saver.projection.plain_json import shorten

Kind: TypeAlias = Literal[
    "added", "removed", "changed", "appended", "inserted", "dropped", "edited", "reordered"
]

DECIMAL = "decimal.Decimal"

MOST_CHANGES = 100
"""Changes listed of one value; the rest are counted."""

MOST_COUNTED = 100_000
"""Changes counted beyond those listed."""

DEEPEST = 32
"""Levels that are compared one by one; a deeper value is only the same or changed."""

LONG_TEXT = 80
"""Characters from which text is compared line by line."""

MOST_LINES = 2_000
"""Changed lines that are matched with each other, which takes quadratic time."""

MOST_SHOWN = 200
"""Lines kept of a unified diff."""

MOST_OF_LINE = 500
"""Characters kept of a line."""

MOST_MATCHED = 400
"""Changed list items without ids that are matched with each other, which takes quadratic time."""

MOST_COMPARED = 10_000_000
"""Parts that are compared before values are no longer looked into: then they are only the same or
changed, which compares every part once more at most."""

MOST_STEPS = 50_000_000
"""Steps that are spent on matching list items and lines."""

MOST_OF_TEXT = 4 << 20
"""Characters of a text that are compared line by line."""

MOST_OF_KEY = 200
"""Characters of a key in a path."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        path: Where in the value: `[3].content`, or "" for the value itself.
        kind: "added" and "removed" are of keys; "appended", "inserted", "dropped", "edited" and
            "reordered" are of list items; "changed" is of any other value.
        before: The old value, decoded; None if there was none.
        after: The new value, decoded; None if there is none.
        text: For long text, a unified diff.
        by: For numbers, the new one minus the old one.
    """

    path: str
    kind: Kind
    before: Any = None
    after: Any = None
    text: tuple[str, ...] | None = None
    by: float | None = None


class Work:
    """What may still be done to compare two values."""

    def __init__(self) -> None:
        self.parts = MOST_COMPARED
        self._steps = MOST_STEPS

    def may_match(self, old: Sequence[Any], new: Sequence[Any], *, is_text: bool = False) -> bool:
        """Whether hashable items may be matched; then the steps are taken off.

        `difflib` looks at all pairs of equal items, in the worst case once for each item. Of a text
        it leaves out the lines that are many.
        """
        counts = Counter(new)
        most = len(new) // 100 + 1 if is_text and len(new) >= 200 else len(new)
        pairs = sum(n for n in map(counts.__getitem__, old) if n <= most)
        steps = (pairs + len(old)) * (1 + min(len(old), len(new)))
        if steps > self._steps:
            return False
        self._steps -= steps
        return True


def compare(before: Any, after: Any) -> tuple[tuple[Change, ...], int]:
    """The differences of two decoded values, and the number of those that are not listed."""
    work = Work()
    found = _differences("", without_snapshot(before), without_snapshot(after), 0, work)
    changes = tuple(_with_text(change, work) for change in islice(found, MOST_CHANGES))
    return changes, sum(1 for _ in islice(found, MOST_COUNTED))


def _differences(path: str, before: Any, after: Any, depth: int, work: Work) -> Iterator[Change]:
    if _is_same(before, after, work):
        return
    may_descend = depth < DEEPEST and work.parts > 0
    if may_descend and _is_list(before) and _is_list(after):
        yield from _in_list(path, before, after, depth, work)
    elif (
        may_descend
        and isinstance(before, Mapping)
        and isinstance(after, Mapping)
        and before.get(TYPE) == after.get(TYPE) != DECIMAL
    ):
        yield from _in_mapping(path, before, after, depth, work)
    else:
        yield _changed(path, before, after)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_same(before: Any, after: Any, work: Work) -> bool:
    """Equality under which True is not 1, and NaN is NaN; every part is compared once."""
    work.parts -= 1
    if before is after:
        return True
    try:
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            return before.keys() == after.keys() and all(
                _is_same(before[key], after[key], work) for key in before
            )
        if _is_list(before) and _is_list(after):
            return (
                isinstance(before, list) is isinstance(after, list)
                and len(before) == len(after)
                and all(map(_is_same, before, after, repeat(work)))
            )
    except RecursionError:
        return False
    if isinstance(before, float) and isinstance(after, float) and math.isnan(before):
        return math.isnan(after)
    return isinstance(before, bool) is isinstance(after, bool) and bool(before == after)


def _hash(value: Any, work: Work) -> int:
    """A hash that values have in common if they are the same."""
    work.parts -= 1
    try:
        if isinstance(value, Mapping):
            return hash(frozenset((key, _hash(item, work)) for key, item in value.items()))
        if _is_list(value):
            return hash(tuple(map(_hash, value, repeat(work))))
        return 0 if isinstance(value, float) and math.isnan(value) else hash(value)
    except (RecursionError, TypeError):  # no two values that are nested so deeply are the same
        return 0


def _changed(path: str, before: Any, after: Any) -> Change:
    kind: Kind = "edited" if path.endswith("]") else "changed"
    return Change(path, kind, before, after, by=_difference(before, after))


def _excerpt(before: str, after: str) -> tuple[str, str]:
    """Of long texts, what starts shortly before they differ."""
    if max(len(before), len(after)) <= MOST_OF_TEXT:
        return before, after
    at = max(0, _common_start(before, after) - LONG_TEXT)
    return before[at : at + MOST_OF_TEXT], after[at : at + MOST_OF_TEXT]


def _with_text(change: Change, work: Work) -> Change:
    """A change of text with its diff, which takes long: not made for changes that are counted."""
    before, after = change.before, change.after
    if not isinstance(before, str) or not isinstance(after, str):
        return change
    if max(len(before), len(after)) < LONG_TEXT:
        return change
    return replace(change, text=tuple(_text_diff(*_excerpt(before, after), work)))


def _difference(before: Any, after: Any) -> float | None:
    """The difference of two numbers; None for other values, and where no float can hold it."""
    try:
        by = float(_as_number(after) - _as_number(before))
    except (TypeError, ValueError, ArithmeticError):
        return None
    return by if math.isfinite(by) else None


def _as_number(value: Any) -> Decimal:
    """A number, or a decoded `Decimal`; raises for any other value."""
    if isinstance(value, Mapping) and value.get(TYPE) == DECIMAL:
        value = value.get("value")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return Decimal(str(value))


def _in_mapping(
    path: str, before: Mapping[Any, Any], after: Mapping[Any, Any], depth: int, work: Work
) -> Iterator[Change]:
    for key in {**before, **after}:
        if key not in after:
            yield Change(_at(path, key), "removed", before=before[key])
        elif key not in before:
            yield Change(_at(path, key), "added", after=after[key])
        else:
            yield from _differences(_at(path, key), before[key], after[key], depth + 1, work)


def _at(path: str, key: Any) -> str:
    if isinstance(key, str | bytes) and len(key) > MOST_OF_KEY:
        return f"{path}[{key[:MOST_OF_KEY]!r}…]"
    if isinstance(key, str) and key.isidentifier():
        return f"{path}.{key}" if path else key
    return f"{path}[{key!r}]"


# -- lists --------------------------------------------------------------------------------------


def _in_list(path: str, before: Any, after: Any, depth: int, work: Work) -> Iterator[Change]:
    old_ids, new_ids = _ids(before), _ids(after)
    if old_ids is not None and new_ids is not None:
        items = dict(zip(old_ids, before, strict=True))
        yield from _by_id(path, items, new_ids, after, depth, work)
        return
    start, end = _common_ends(before, after, lambda one, other: _is_same(one, other, work))
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    for i, i_end, j, j_end in _changed_ranges(old, new, work):
        pairs = min(i_end - i, j_end - j)
        for n in range(pairs):
            at = f"{path}[{start + j + n}]"
            yield from _differences(at, old[i + n], new[j + n], depth + 1, work)
        for n in range(i + pairs, i_end):
            yield Change(f"{path}[{start + n}]", "dropped", before=old[n])
        kind: Kind = "appended" if not end and j_end == len(new) else "inserted"
        for n in range(j + pairs, j_end):
            yield Change(f"{path}[{start + n}]", kind, after=new[n])


def _ids(values: Sequence[Any]) -> list[Any] | None:
    """The ids of the items, as messages have them; None if one has no id of its own."""
    ids = [value.get("id") if isinstance(value, Mapping) else None for value in values]
    if any(not isinstance(one, str | int) for one in ids) or len(set(ids)) != len(ids):
        return None
    return ids


def _by_id(
    path: str,
    before: Mapping[Any, Any],
    ids: Sequence[Any],
    after: Sequence[Any],
    depth: int,
    work: Work,
) -> Iterator[Change]:
    """Compare the items of two lists that have the same id."""
    present = set(ids)
    for n, (one, value) in enumerate(before.items()):
        if one not in present:
            yield Change(f"{path}[{n}]", "dropped", before=value)
    known = [one for one in ids if one in before]
    last = ids.index(known[-1]) if known else -1
    for n, (one, value) in enumerate(zip(ids, after, strict=True)):
        if one in before:
            yield from _differences(f"{path}[{n}]", before[one], value, depth + 1, work)
        else:
            yield Change(f"{path}[{n}]", "appended" if n > last else "inserted", after=value)
    if known != [one for one in before if one in present]:
        yield Change(path, "reordered", before=list(before), after=list(ids))


def _common_ends(
    before: Sequence[Any], after: Sequence[Any], is_same: Callable[[Any, Any], bool]
) -> tuple[int, int]:
    """The number of equal items at the start, and at the end of what is left."""
    limit = min(len(before), len(after))
    start = next((n for n in range(limit) if not is_same(before[n], after[n])), limit)
    limit -= start
    end = next((n for n in range(limit) if not is_same(before[-1 - n], after[-1 - n])), limit)
    return start, end


def _changed_ranges(
    old: Sequence[Any], new: Sequence[Any], work: Work
) -> list[tuple[int, int, int, int]]:
    """Ranges that differ: start and end in the old list, start and end in the new one."""
    if not old or not new or len(old) == len(new):
        return [(0, len(old), 0, len(new))]
    all_of_both = [(0, len(old), 0, 0), (len(old), len(old), 0, len(new))]
    if max(len(old), len(new)) > MOST_MATCHED:
        return all_of_both
    known: dict[int, list[tuple[int, Any]]] = {}
    numbers = count()

    def number(value: Any) -> int:
        """A number that stands for a value, which need not be hashable, and its equals."""
        similar = known.setdefault(_hash(value, work), [])
        # Hashes of numbers can be made to collide.
        are_few = work.parts > 0
        n = next((n for n, one in similar if are_few and _is_same(one, value, work)), None)
        if n is None:
            n = next(numbers)
            similar.append((n, value))
        return n

    old_numbers, new_numbers = [*map(number, old)], [*map(number, new)]
    if not work.may_match(old_numbers, new_numbers):
        return all_of_both
    matcher = difflib.SequenceMatcher(None, old_numbers, new_numbers, autojunk=False)
    return [ranges for tag, *ranges in matcher.get_opcodes() if tag != "equal"]  # type: ignore[misc]


# -- text ---------------------------------------------------------------------------------------


def _text_diff(before: str, after: str, work: Work) -> Iterator[str]:
    """A unified diff, cut to `MOST_SHOWN` lines."""
    lines = iter(_line_diff(before.splitlines(), after.splitlines(), work))
    for line in islice(lines, MOST_SHOWN):
        yield shorten(line, MOST_OF_LINE)
    if more := sum(1 for _ in lines):
        yield f"… and {more:,} more lines"


def _line_diff(before: list[str], after: list[str], work: Work) -> Iterator[str]:
    start, end = _common_ends(before, after, operator.eq)
    if len(before) - start - end == 1 == len(after) - start - end:
        before[start], after[start] = _excerpts(before[start], after[start])
    start, end = max(0, start - 3), max(0, end - 3)  # three lines of context
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    if max(len(old), len(new)) > MOST_LINES or not work.may_match(old, new, is_text=True):
        yield f"@@ lines {start + 1:,} to {len(before) - end:,} of {len(before):,} were replaced @@"
        yield from (f"-{line}" for line in old)
        yield from (f"+{line}" for line in new)
        return
    for line in islice(difflib.unified_diff(old, new, lineterm=""), 2, None):
        if line.startswith("@@ "):  # its line numbers count from `start`
            line = re.sub(r"([-+])(\d+)", lambda n: f"{n[1]}{int(n[2]) + start}", line)  # noqa: PLW2901
        yield line


def _excerpts(before: str, after: str) -> tuple[str, str]:
    """Two long lines from shortly before the place where they start to differ."""
    if max(len(before), len(after)) <= LONG_TEXT:
        return before, after
    at = max(0, _common_start(before, after) - LONG_TEXT // 4)
    start = "…" if at else ""
    return start + before[at:], start + after[at:]


def _common_start(before: str, after: str) -> int:
    """The number of equal characters at the start."""
    start, most = 0, min(len(before), len(after))
    while start < most:
        middle = (start + most + 1) // 2
        if before[start:middle] == after[start:middle]:
            start = middle
        else:
            most = middle - 1
    return start

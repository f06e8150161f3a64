"""The script of `history`: a page of checkpoints in a number of statements that does not grow."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from sqlalchemy import Row

from langgraph_session_saver.checkpointer.config import place_of
from langgraph_session_saver.checkpointer.context import Context
from langgraph_session_saver.encoding.chains import of_thread, resolve
from langgraph_session_saver.encoding.keys import Place
from langgraph_session_saver.errors import (
    CheckpointNotFoundError,
    CorruptBlobError,
    HistoryLostError,
    InvalidConfigError,
    ThreadNotFoundError,
)
from langgraph_session_saver.inspection.decode import Undecodable, decode_plainly
from langgraph_session_saver.inspection.facts import (
    Facts,
    changed_channels,
    facts_of,
    nodes_that_ran,
    status_of,
)
from langgraph_session_saver.inspection.history import Entry, History, Older
from langgraph_session_saver.inspection.lanes import Drawn, Tree
from langgraph_session_saver.inspection.queries import Lookups
from langgraph_session_saver.sql.scripts import Request, Script

LARGEST_PAGE = 1_000
"""Checkpoints that one page holds."""

LARGEST_CONTROL = 64_000
"""Bytes of a channel that are read to say which nodes are due: a `Send` may hold a whole state."""

Sizes = Mapping[bytes, tuple[int | None, int]]


class Timeline:
    """Reads pages of a thread's history."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lookups = Lookups(context.tables)

    def history(
        self,
        serde: SerializerProtocol,
        thread_id: Any,
        checkpoint_ns: Any,
        limit: Any,
        before: Any,
    ) -> Script[History]:
        """Read a page."""
        place = place_in(thread_id, checkpoint_ns)
        size, start = _checked_limit(limit), _checked_before(before)
        at, look = (place.thread.key, place.ns_key), self._lookups
        last = start.checkpoint_id if start else None
        place_in(thread_id, checkpoint_ns, last)
        rows = yield Request.read(lambda conn: look.page(conn, *at, last, size + 1))
        if not rows:
            yield from refuse_missing(look, place, is_first=start is None)
        page = [facts_of(serde, row) for row in rows[:size]]
        known = yield from self._with_parents(serde, at, page)
        ids = [one.id for one in page]
        writes: Mapping[str, list[Row[Any]]] = yield Request.read(
            lambda conn: look.write_facts(conn, *at, ids)
        )
        keys = {key for one in page for key in one.keys().values()}
        keys |= {key for one in known.values() for key in one.control_keys().values()}
        sizes: Sizes = yield Request.read(lambda conn: look.sizes(conn, at[0], keys))
        values = yield from self._control_values(serde, at[0], known.values(), sizes)
        tree = Tree(start.lanes if start else ())
        continued = {one.parent_id for one in known.values() if one.source == "loop"}
        entries = tuple(
            _entry(one, known, continued, writes.get(one.id, []), sizes, values, tree)
            for one in page
        )
        older = Older(ids[-1], tree.lanes) if len(rows) > size else None
        return History(place.thread.thread_id, place.checkpoint_ns, entries, older)

    def _with_parents(
        self, serde: SerializerProtocol, at: tuple[bytes, bytes], page: Sequence[Facts]
    ) -> Script[dict[str, Facts]]:
        """The page by id, and those parents that are on a later one."""
        known = {one.id: one for one in page}
        missing = {one.parent_id for one in page if one.parent_id} - known.keys()
        if missing:
            rows = yield Request.read(lambda conn: self._lookups.named(conn, *at, missing))
            known |= {row.checkpoint_id: facts_of(serde, row) for row in rows}
        return known

    def _control_values(
        self, serde: SerializerProtocol, thread_key: bytes, checkpoints: Any, sizes: Sizes
    ) -> Script[dict[bytes, Any]]:
        """The small values that say what is due, by blob."""
        wanted = {
            (thread_key, key)
            for one in checkpoints
            for key in one.control_keys().values()
            if 1 < (sizes.get(key, (None, 0))[0] or 0) <= LARGEST_CONTROL
        }
        if not wanted:
            return {}
        rows = yield Request.read(lambda conn: self._context.operations.get_chains(conn, wanted))
        return {key: value_of(serde, thread_key, key, rows) for _, key in wanted}


def value_of(
    serde: SerializerProtocol,
    thread_key: bytes,
    key: bytes,
    rows: Mapping[tuple[bytes, bytes], Row[Any]],
) -> Any:
    """A channel's value, decoded structurally; `Undecodable` where its rows are gone or damaged."""
    try:
        value = resolve(key, of_thread(rows, thread_key), lambda _: None)
    except (HistoryLostError, CorruptBlobError) as exc:
        return Undecodable(str(exc), sum(len(row.data) for row in rows.values()))
    return decode_plainly(serde, value.typed)


def place_in(thread_id: Any, checkpoint_ns: Any, checkpoint_id: str | None = None) -> Place:
    """The namespace of a thread that a call names, and perhaps a checkpoint of it.

    Raises:
        InvalidConfigError: An id that no database could hold.
    """
    named = {"checkpoint_ns": checkpoint_ns, "checkpoint_id": checkpoint_id}
    return place_of({"configurable": {"thread_id": thread_id, **named}})


def refuse_missing(look: Lookups, place: Place, *, is_first: bool = True) -> Script[None]:
    """Say what is missing where no checkpoint was found.

    Args:
        look: The statements.
        place: Where it was looked for.
        is_first: Whether anything at all should have been there.

    Raises:
        ThreadNotFoundError: There is no such thread.
        CheckpointNotFoundError: The namespace holds no checkpoint.
    """
    thread = place.thread
    if not (yield Request.read(lambda conn: look.has_thread(conn, thread.key))):
        raise ThreadNotFoundError(
            f"there is no thread {thread.thread_id!r}: thread_id is what the graph ran with, in "
            "config['configurable']"
        )
    if is_first:
        others = yield Request.read(lambda conn: look.namespaces(conn, thread.key, 10))
        has = f"it has them in {', '.join(map(repr, others))}" if others else "it has none at all"
        raise CheckpointNotFoundError(
            f"thread {thread.thread_id!r} has no checkpoint in namespace {place.checkpoint_ns!r}: "
            f"{has}"
        )


def _checked_limit(limit: Any) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise InvalidConfigError(
            f"limit is a {type(limit).__name__} ({limit!r:.80}): pass a number"
        )
    if not 1 <= limit <= LARGEST_PAGE:
        raise InvalidConfigError(
            f"limit is {limit:,}: a page holds 1 to {LARGEST_PAGE:,} checkpoints, and "
            "before=history.older gives the next"
        )
    return limit


def _checked_before(before: Any) -> Older | None:
    if before is None or (isinstance(before, Older) and before.checkpoint_id):
        return before
    if isinstance(before, str) and before:
        return Older(before)
    raise InvalidConfigError(
        f"before is a {type(before).__name__} ({before!r:.80}): pass the `older` of the page "
        "before, or a checkpoint id"
    )


def _entry(
    one: Facts,
    known: Mapping[str, Facts],
    continued: Collection[str | None],
    writes: Sequence[Row[Any]],
    sizes: Sizes,
    values: Mapping[bytes, Any],
    tree: Tree,
) -> Entry:
    parent = known.get(one.parent_id) if one.parent_id else None
    is_listed = parent is not None and not parent.row.hidden
    changed = changed_channels(one, parent)
    status, nodes = status_of(one, writes, values, has_next_step=one.id in continued)
    drawn: Drawn = tree.draw(one.id, one.parent_id if is_listed else None)
    keys = one.keys()
    return Entry(
        checkpoint_id=one.id,
        parent_id=one.parent_id,
        parent_is_listed=is_listed,
        run_id=one.row.run_id,
        step=one.step,
        source=one.source,
        ran=nodes_that_ran(one, parent, values),
        changed=changed,
        status=status,
        nodes=nodes,
        time=one.time,
        size=_sum(
            one,
            [sizes.get(key, (None, 0))[0] for key in keys.values()]
            + [one.inline_size(channel) for channel in one.inline],
        ),
        stored=len(one.row.data)
        + len(one.row.metadata_data)
        + sum(row.stored for row in writes)
        + sum(sizes[keys[c]][1] for c in changed if c in keys and keys[c] in sizes),
        lane=drawn.lane,
        graph=drawn.line,
        graph_above=drawn.above,
        problem=one.problem,
    )


def _sum(one: Facts, sizes: Sequence[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    is_complete = len(known) == len(sizes) and (one.versions or not one.problem)
    return sum(known) if is_complete else None

"""Stored bytes that are cut into rows, and joined again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph_session_saver.encoding.framing import frame, unframe
from langgraph_session_saver.encoding.pieces import (
    HEAD_BYTES,
    MOST_PIECES,
    content_of,
    cut,
    is_in_pieces,
    is_piece,
    join,
    missing_from,
    most_bytes,
)
from langgraph_session_saver.errors import CorruptBlobError, HistoryLostError

SIZES = st.integers(HEAD_BYTES + 1, HEAD_BYTES + 40)
"""Bytes of a row."""


@st.composite
def cuts(draw: st.DrawFn) -> tuple[bytes, int]:
    """Stored bytes that are too large for a row, and the bytes of a row."""
    size = draw(SIZES)
    return draw(st.binary(min_size=size + 1, max_size=8 * size)), size


def joined(own: bytes, pieces: Sequence[bytes | None]) -> bytes:
    return join(own, iter(pieces))


@given(cuts())
def test_what_is_cut_is_joined_again(made: tuple[bytes, int]) -> None:
    stored, size = made
    own, pieces = cut(stored, size)

    whole = joined(own, pieces)

    assert content_of(whole) == stored
    assert (is_in_pieces(whole), missing_from(whole)) == (True, 0)
    assert missing_from(own) == sum(len(piece) - 1 for piece in pieces)


@given(cuts())
def test_all_rows_but_the_last_are_as_large_as_a_row_may_be(made: tuple[bytes, int]) -> None:
    stored, size = made
    own, pieces = cut(stored, size)

    assert len(pieces) == len(list(pieces)) > 0
    assert [len(row) for row in (own, *pieces)][:-1] == [size] * len(pieces)
    assert 1 < len(pieces[-1]) <= size
    assert all(map(is_piece, pieces))


@given(cuts(), st.data())
def test_a_missing_piece_is_told(made: tuple[bytes, int], data: st.DataObject) -> None:
    own, pieces = cut(*made)
    missing = data.draw(st.integers(0, len(pieces) - 1))

    whole = joined(own, [piece for at, piece in enumerate(pieces) if at < missing])
    with_gap = joined(own, [None if at == missing else piece for at, piece in enumerate(pieces)])

    for found in (whole, with_gap):
        assert found == own
        with pytest.raises(HistoryLostError, match=f"of {len(made[0]):,} bytes are not all in"):
            content_of(found)


@given(cuts(), st.data())
def test_a_changed_byte_is_told(made: tuple[bytes, int], data: st.DataObject) -> None:
    own, pieces = cut(*made)
    rows = [bytearray(row) for row in (own, *pieces)]
    row = rows[data.draw(st.integers(0, len(pieces)))]
    row[data.draw(st.integers(HEAD_BYTES if row is rows[0] else 1, len(row) - 1))] ^= 1

    whole = joined(bytes(rows[0]), [bytes(piece) for piece in rows[1:]])

    with pytest.raises(CorruptBlobError, match="stored in pieces, and their"):
        content_of(whole)


@given(st.binary(min_size=200, max_size=400), st.sampled_from([1, 20]))
def test_a_value_in_pieces_unpacks_as_one_in_a_row(data: bytes, times: int) -> None:
    framed = frame(data * times)

    own, pieces = cut(framed, HEAD_BYTES + 8)

    assert unframe(joined(own, pieces)) == unframe(framed)


@given(SIZES)
def test_the_largest_value_has_the_most_pieces(size: int) -> None:
    assert len(cut(bytes(most_bytes(size)), size)[1]) == MOST_PIECES
    assert len(cut(bytes(most_bytes(size) + 1), size)[1]) == MOST_PIECES + 1


def test_pieces_of_another_value_do_not_lengthen_one() -> None:
    own, pieces = cut(bytes(100), HEAD_BYTES + 30)
    _, longer = cut(bytes(200), HEAD_BYTES + 30)

    assert joined(own, [*pieces, *longer]) == joined(own, pieces)

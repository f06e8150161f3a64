"""Cursors of pages that somebody forged."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from langgraph_session_saver import InvalidConfigError, SessionSaver
from tests.support.backends import EACH_ONCE
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE

BY_TIME = "sessions:updated_at,id:desc"
BY_POSITION = "messages:position,id:asc"


def cursor(*values: Any) -> str:
    """A cursor as the repositories make them."""
    return encoded(json.dumps(values).encode())


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


HOSTILE = {
    "deep": encoded(b"[" * 200_000),
    "long": "A" * 1_000_000,
    "not ASCII": "☃" * 8,
    "lone surrogate": "\ud800",
    "beyond the years": cursor(BY_TIME, "9999-12-31T23:59:59-12:00", "s"),
    "before the years": cursor(BY_TIME, "0001-01-01T00:00:00+12:00", "s"),
    "no time": cursor(BY_TIME, "soon", "s"),
    "number too long": encoded(b'["x",' + b"9" * 5_000 + b"]"),
    "infinite": cursor(BY_POSITION, float("inf"), 1),
    "not a number": cursor(BY_POSITION, float("nan"), 1),
    "NUL": cursor(BY_TIME, "2026-01-01T00:00:00Z", "\x00"),
    "no cursor": cursor({}, {}, {}),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
async def test_a_forged_cursor_is_an_invalid_argument(
    make_saver: SaverFactory, hostile: str
) -> None:
    saver = make_saver()
    await saver.sessions.acreate("s")

    with pytest.raises(InvalidConfigError, match="after is"):
        await saver.sessions.alist(after=hostile)
    with pytest.raises(InvalidConfigError, match="after is"):
        await saver.sessions.amessages("s", after=hostile)


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59Z", "1000-01-01T00:00:00Z"])
async def test_a_cursor_of_the_first_or_last_year_is_one(
    make_saver: SaverFactory, moment: str
) -> None:
    saver = make_saver()
    await saver.sessions.acreate("s")

    found = await saver.sessions.alist(after=cursor(BY_TIME, moment, "s"))

    assert len(found) == moment.startswith("9")


values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(),
        st.datetimes(timezones=st.timezones()).map(str), st.sampled_from([BY_TIME, BY_POSITION]),
    ),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
cursors = st.one_of(
    st.text(),
    st.binary().map(encoded),
    st.lists(values, max_size=4).map(lambda made: cursor(*made)),
    st.tuples(values, values).map(lambda made: cursor(BY_TIME, *made)),
    st.tuples(values, values).map(lambda made: cursor(BY_POSITION, *made)),
)


@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cursors)
@pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)
@example(cursor(BY_TIME, "2026-01-01T00:00:00Z", "s"))
def test_any_cursor_gives_a_page_or_is_an_invalid_argument(
    sync_saver: SessionSaver, after: str
) -> None:
    with suppress(InvalidConfigError):
        sync_saver.sessions.list(after=after)
    with suppress(InvalidConfigError):
        sync_saver.sessions.messages("s", after=after)

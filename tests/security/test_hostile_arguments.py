"""Ids and filters of any text and shape: rows, or an error that says what is wrong with them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langgraph_session_saver import InvalidConfigError, SessionSaver
from tests.support.rows import checkpoint, config

pytestmark = pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)

quick = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

texts = st.text(st.characters(exclude_categories=[]), max_size=300)  # lone surrogates too
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary() | st.uuids(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def put(saver: SessionSaver, where: Any, **metadata: Any) -> Any:
    made = checkpoint(1, {"note": 1})
    about: Any = {"source": "loop", "step": 1, **metadata}
    return saver.put(where, made, about, made["channel_versions"])


@quick
@given(
    anything, st.sampled_from(["thread_id", "session_id", "owner_id", "checkpoint_ns", "run_id"])
)
def test_a_thread_under_any_id_is_read_by_that_id_or_refused(
    sync_saver: SessionSaver, any_id: Any, name: str
) -> None:
    where = config("t", checkpoint_ns="")
    where["configurable"][name] = any_id
    try:
        at = put(sync_saver, where)
    except InvalidConfigError:
        return
    found = sync_saver.get_tuple({"configurable": {**where["configurable"], **at["configurable"]}})
    assert found is not None
    sync_saver.delete_thread(at["configurable"]["thread_id"])


@quick
@given(st.dictionaries(texts, anything, max_size=2))
def test_any_filter_lists_rows_or_is_refused(sync_saver: SessionSaver, wanted: Any) -> None:
    put(sync_saver, config("t", checkpoint_ns=""), user="ada")
    with suppress(InvalidConfigError):
        for found in sync_saver.list(None, filter=wanted):
            assert all(found.metadata.get(key) == value for key, value in wanted.items())

"""Processes that are forked while another thread of the parent is at work."""

from __future__ import annotations

import pytest

from tests.support.zygote import Zygote


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("fork_while_a_thread_holds_a_cache", {}),
        ("fork_while_threads_fill_a_cache", {"forks": 50}),
    ],
)
def test_a_child_uses_a_cache_that_a_thread_of_its_parent_had_locked(
    zygote: Zygote, program: str, arguments: dict[str, int]
) -> None:
    child = zygote.spawn(f"tests.support.forking:{program}", arguments)
    assert child.wait() == 0, child.text

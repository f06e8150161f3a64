"""LangGraph's conformance suite, on every backend through every face."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate

from tests.support.savers import SaverFactory

# The eight capabilities, each with how many tests the suite's version 0.0.2 has: no fewer may run.
EXPECTED = {
    "put": 17,
    "put_writes": 10,
    "get_tuple": 10,
    "list": 16,
    "delete_thread": 5,
    "delete_for_runs": 7,
    "copy_thread": 8,
    "prune": 8,
}


async def test_all_eight_capabilities_are_detected_and_pass_in_full(
    make_saver: SaverFactory,
) -> None:
    @checkpointer_test(name=f"SessionSaver-{make_saver.backend.name}-{make_saver.face}")
    async def fresh() -> AsyncGenerator[BaseCheckpointSaver[Any], None]:
        yield make_saver()

    report = await validate(fresh)

    failures = {name: result.failures for name, result in report.results.items() if result.failures}
    assert not failures, "\n".join(line for lines in failures.values() for line in lines)
    assert len(EXPECTED) == 8
    assert set(report.results) == set(EXPECTED)
    for name, result in report.results.items():
        assert (result.detected, result.passed) == (True, True), name
        assert (result.tests_failed, result.tests_skipped) == (0, 0), name
        assert result.tests_passed >= EXPECTED[name], name

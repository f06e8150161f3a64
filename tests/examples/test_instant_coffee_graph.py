from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from langgraph.checkpoint.memory import InMemorySaver

from examples.instant_coffee import graph as graph_module
from examples.instant_coffee import offline
from examples.instant_coffee.briefs import Brief, default_paths, load_briefs
from examples.instant_coffee.graph import Graph, Options, build_graph, session_folder
from examples.instant_coffee.interview import Question
from examples.instant_coffee.runner import OpenQuestionError, run_brief, thread_of

BRIEFS = load_briefs(default_paths())
PATCHBOX = BRIEFS["patchbox"]


class KilledError(Exception):
    pass


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return build_graph(InMemorySaver(), Options(tmp_path / "dist"))


def history(graph: Graph, thread_id: str) -> list[dict[str, Any]]:
    config = {"configurable": {"thread_id": thread_id}}
    states: Iterator[Any] = graph.get_state_history(config)  # type: ignore[arg-type]
    return [snapshot.values for snapshot in states][::-1]


@pytest.mark.parametrize("stem", BRIEFS)
def test_every_brief_is_published_above_the_threshold(
    graph: Graph, stem: str, tmp_path: Path
) -> None:
    outcome = run_brief(graph, stem, BRIEFS[stem])

    page = tmp_path / "dist" / stem / "index.html"
    assert outcome.succeeded
    assert outcome.how == "started"
    assert outcome.state["aesthetic_scores"]["overall"] >= 90
    assert outcome.state["html"]["html"] == page.read_text(encoding="utf-8")
    assert outcome.state["build_artifacts"]["dist_path"] == str(page.parent)
    assert [file.name for file in page.parent.iterdir()] == ["index.html"]


def test_the_status_goes_from_pending_through_building_to_success(graph: Graph) -> None:
    outcome = run_brief(graph, "patchbox", PATCHBOX)

    seen = [values.get("build_status") for values in history(graph, outcome.thread_id)]
    assert list(dict.fromkeys(seen)) == [None, "pending", "building", "success"]


def test_a_worse_page_is_never_kept(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    def ruin(design: Any, _type: Any, _score: Any, tried: set[str]) -> tuple[Any, list[str]]:
        left = [name for name in ("colorHarmony", "readability") if name not in tried]
        return design.model_copy(update={"mobile": False, "line_height": 0.9}), left[:1]

    monkeypatch.setattr(graph_module, "refine_design", ruin)

    outcome = run_brief(graph, "patchbox", PATCHBOX)

    scores = [v["aesthetic_scores"] for v in history(graph, outcome.thread_id) if "html" in v]
    assert all(score == scores[0] for score in scores)
    assert outcome.state["html"]["description"] == "First page"
    assert outcome.state["tried"] == ["colorHarmony", "readability"]
    assert outcome.succeeded


def test_no_rounds_means_no_refinement(graph: Graph) -> None:
    outcome = run_brief(graph, "patchbox", PATCHBOX, rounds=0)

    assert outcome.succeeded
    assert outcome.state["html"]["description"] == "First page"
    assert "style_refiner" not in outcome.state["model_usage"]


def test_every_model_message_carries_its_usage(graph: Graph) -> None:
    outcome = run_brief(graph, "patchbox", PATCHBOX)

    spoken = [m for m in outcome.state["messages"] if getattr(m, "usage_metadata", None)]
    assert {m.name for m in spoken} == {
        "classifier", "interviewer", "expander", "writer", "validator", "style_refiner",
    }  # fmt: skip
    for message in spoken:
        assert message.usage_metadata["total_tokens"] > 0  # type: ignore[index,union-attr]
        assert message.response_metadata["model_name"] in offline.PRICES


def test_the_interview_asks_open_questions_and_uses_the_answers(graph: Graph) -> None:
    asked: list[Question] = []

    def answer(questions: list[Question]) -> dict[str, str]:
        asked.extend(questions)
        return {"call_to_action": "Ride with us"}

    outcome = run_brief(graph, "patchbox", PATCHBOX, answer=answer)

    assert [question["field"] for question in asked] == ["call_to_action", "contact"]
    assert "Ride with us" in outcome.state["html"]["html"]
    assert "oil@patchbox.example" in outcome.state["html"]["html"]


def test_a_question_without_default_waits_and_is_answered_later(graph: Graph) -> None:
    brief = PATCHBOX.model_copy(update={"defaults": {}})
    with pytest.raises(OpenQuestionError, match="'call_to_action'"):
        run_brief(graph, "patchbox", brief)

    outcome = run_brief(
        graph, "patchbox", brief, answer=lambda qs: {q["field"]: "Sure" for q in qs}
    )

    assert outcome.how == "resumed"
    assert outcome.succeeded


@pytest.mark.parametrize("node", ["route", "expand", "start_build", "generate", "score", "refine"])
def test_a_run_that_stops_after_any_step_resumes_there(graph: Graph, node: str) -> None:
    def stop(name: str, _update: dict[str, Any]) -> None:
        if name == node:
            raise KilledError

    seen: list[str] = []
    with pytest.raises(KilledError):
        run_brief(graph, "patchbox", PATCHBOX, on_step=stop)
    outcome = run_brief(graph, "patchbox", PATCHBOX, on_step=lambda name, _: seen.append(name))
    whole = run_brief(graph, "other", PATCHBOX)

    assert outcome.how == "resumed"
    assert "route" not in seen
    assert outcome.state["html"] == whole.state["html"]
    assert [m.content for m in outcome.state["messages"]] == [
        m.content for m in whole.state["messages"]
    ]


def test_a_finished_run_is_not_repeated(graph: Graph) -> None:
    first = run_brief(graph, "patchbox", PATCHBOX)
    again = run_brief(graph, "patchbox", PATCHBOX)
    changed = run_brief(graph, "patchbox", PATCHBOX.model_copy(update={"tagline": "New"}))

    assert again.how == "finished before"
    assert again.state == first.state
    assert not again.changed
    assert changed.changed


def test_fresh_starts_a_new_session(graph: Graph, tmp_path: Path) -> None:
    run_brief(graph, "patchbox", PATCHBOX, fresh=True)
    second = run_brief(graph, "patchbox", PATCHBOX, fresh=True)

    assert second.thread_id == "instant-coffee/patchbox/2"
    assert thread_of(graph, "patchbox") == second.thread_id
    assert (tmp_path / "dist" / session_folder(second.thread_id) / "index.html").exists()


def test_a_page_that_cannot_be_written_fails_the_build_and_can_be_retried(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    dist.write_text("in the way", encoding="utf-8")
    graph = build_graph(InMemorySaver(), Options(dist))

    failed = run_brief(graph, "patchbox", PATCHBOX)
    dist.unlink()
    retried = run_brief(graph, "patchbox", PATCHBOX)

    assert failed.state["build_status"] == "failed"
    assert "could not be written" in failed.state["build_artifacts"]["error"]
    assert retried.how == "retried"
    assert retried.succeeded
    assert "error" not in retried.state["build_artifacts"]


def test_a_page_that_cannot_be_rendered_fails_the_build(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> str:
        raise TemplateError("no such block")

    monkeypatch.setattr(graph_module, "render_page", broken)

    outcome = run_brief(graph, "patchbox", PATCHBOX)

    assert outcome.state["build_status"] == "failed"
    assert "no such block" in outcome.state["build_artifacts"]["error"]


def test_briefs_survive_serialisation(graph: Graph) -> None:
    outcome = run_brief(graph, "patchbox", PATCHBOX)

    assert Brief.model_validate(outcome.state["brief"]) == PATCHBOX

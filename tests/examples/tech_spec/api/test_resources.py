"""The API: a job is started, watched, decided about, and its document read in three formats."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from examples.tech_spec.fixtures import read_job
from tests.examples.tech_spec.api.clients import Client, client_of, options_of


async def test_a_job_is_started_asks_and_writes_its_document(client: Client, app: FastAPI) -> None:
    job = read_job("clinic")
    path = f"/api/projects/{job.project_id}/start-tech-spec"
    started = await client.http.post(path, json={"design_job_id": job.id})
    assert started.status_code == 202
    status_path = started.headers["Location"]
    session = status_path.removesuffix("/status")
    await app.state.resources.runs.wait()

    status = await client.status(session)
    assert (status["status"], status["current_stage"]) == ("paused", "await_decisions")
    assert (status["project_id"], status["design_job_id"]) == (job.project_id, job.id)
    assert status["completeness"] < 80
    assert status["pending"]
    for category in status["pending"]:
        (gap,) = [gap for gap in status["research"] if gap["category"] == category]
        assert gap["gap"]
        assert gap["selected_technology"] is None
        scores = [option["score"] for option in gap["options"]]
        assert scores == sorted(scores, reverse=True)

    seen = []
    for category in status["pending"]:
        technology = options_of(status, category)[-1]
        answer = await client.decide(session, category, technology)
        assert answer.status_code == 202
        seen.append(answer.json()["progress_percentage"])
        (gap,) = [gap for gap in answer.json()["research"] if gap["category"] == category]
        assert gap["selected_technology"] == technology
    assert seen == sorted(seen)
    await app.state.resources.runs.wait()

    status = await client.status(session)
    assert (status["status"], status["current_stage"]) == ("completed", "completed")
    assert (status["progress_percentage"], status["pending"], status["errors"]) == (100, [], [])
    assert status["completeness"] >= 80
    assert status["completed_at"]
    trd = (await client.http.get(f"{session}/trd")).json()
    newest = status["documents"][-1]
    assert {name: trd[name] for name in newest} == newest
    assert newest["quality_score"] >= 90
    assert technology in trd["tech_stack_document"]


@pytest.fixture
async def written(client: Client, app: FastAPI) -> str:
    """A session that has written its document."""
    session = await client.start()
    await app.state.resources.runs.wait()
    await client.decide_all(session)
    await app.state.resources.runs.wait()
    return f"{session}/trd"


async def test_a_document_is_read_as_data_as_markdown_and_as_a_page(
    client: Client, written: str
) -> None:
    for format_, accept, media_type, beginning in (
        ("json", "application/json", "application/json", "{"),
        ("markdown", "text/markdown", "text/markdown; charset=utf-8", "# "),
        ("html", "text/html,*/*;q=0.8", "text/html; charset=utf-8", "<!doctype html>"),
    ):
        named = await client.http.get(written, params={"format": format_})
        accepted = await client.http.get(written, headers={"Accept": accept})
        for answer in (named, accepted):
            assert (answer.status_code, answer.headers["Content-Type"]) == (200, media_type)
            assert answer.text.startswith(beginning)
            assert answer.headers["Vary"] == "Accept"
            assert answer.headers["RateLimit"]
        assert named.content == accepted.content
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_a_version_and_a_least_score_choose_the_document(
    client: Client, written: str
) -> None:
    newest = (await client.http.get(written)).json()

    chosen = {"version": newest["version"], "min_score": newest["quality_score"]}
    assert (await client.http.get(written, params=chosen)).json() == newest
    assert (await client.http.get(written, params={"version": 99})).status_code == 404


async def test_a_viewer_reads_what_an_editor_has_started(
    app: FastAPI, client: Client, written: str
) -> None:
    async with client_of(app, roles=["viewer"]) as viewer:
        status = await viewer.http.get(written.replace("/trd", "/status"))
        assert status.status_code == 200
        assert (await viewer.http.get(written)).status_code == 200


async def test_health_needs_no_token(app: FastAPI, client: Client) -> None:
    del client.http.headers["Authorization"]
    answer = await client.http.get("/health")

    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert answer.json()["latency_ms"] >= 0
    assert "RateLimit" not in answer.headers


async def test_a_server_whose_tables_are_not_those_it_needs_is_not_well(
    client: Client, app: FastAPI
) -> None:
    revision = "session_saver_alembic_version"
    async with app.state.resources.engine.begin() as connection:
        await connection.exec_driver_sql(f"ALTER TABLE {revision} RENAME TO moved")
    answer = await client.http.get("/health")
    async with app.state.resources.engine.begin() as connection:
        await connection.exec_driver_sql(f"ALTER TABLE moved RENAME TO {revision}")

    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert (await client.http.get("/health")).status_code == 200


async def test_the_api_is_described_with_its_problems_and_formats(client: Client) -> None:
    paths = (await client.http.get("/openapi.json")).json()["paths"]

    sessions = "/api/tech-spec/sessions/{session_id}"
    assert set(paths) == {
        "/api/projects/{project_id}/start-tech-spec", f"{sessions}/status",
        f"{sessions}/decisions", f"{sessions}/trd", "/health",
    }  # fmt: skip
    decide = paths[f"{sessions}/decisions"]["post"]["responses"]
    assert {"202", "401", "403", "404", "409", "422", "429"} == set(decide)
    read = paths[f"{sessions}/trd"]["get"]["responses"]
    assert {"application/json", "text/markdown", "text/html"} == set(read["200"]["content"])
    assert {"406", "404"} <= set(read)

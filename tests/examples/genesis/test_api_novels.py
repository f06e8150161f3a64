"""Whole novels through the API: one writer, and many flows at once by several servers."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from examples.genesis.configs import require_complete
from examples.genesis.models import (
    BindingStatus,
    GenesisEvent,
    GenesisFlow,
    GenesisStage,
    GenesisStageRecord,
    GenesisStageSession,
    GenesisStatus,
    StageStatus,
)
from examples.web.database import reading
from examples.web.models import new_id
from tests.examples.genesis.authors import BEGINNING, STAGES
from tests.examples.genesis.clients import Client, Server, client_of
from tests.support.backends import BACKEND_NAMES

KINDS = ("user_interaction", "agent_autonomous", "agent_autonomous", "review")


async def test_a_novel_is_talked_through_to_its_end(serve: Callable[..., Server]) -> None:
    async with client_of(address=serve().address) as client:
        novel = await client.begin("Salt")
        flow_id = novel["id"]
        async with client.watch(flow_id) as sent:
            for stage in STAGES:
                record = await client.stage(flow_id)
                assert record["stage"] == stage
                session = await client.open_session(record["id"], "user_interaction")
                await client.say(session)
                await client.converse(session, sent)
                review = await client.open_session(record["id"], "review")
                await client.say(review)
                await client.converse(review, sent)
                bound = await client.every(f"/api/stages/{record['id']}/sessions")
                assert [each["is_primary"] for each in bound] == [True, False]
                after = [*GenesisStage][stage.position + 1]
                flow = await client.advance(flow_id, after)
        stages = await client.every(f"/api/flows/{flow_id}/stages")

    assert (flow["current_stage"], flow["status"]) == ("FINISHED", "COMPLETED")
    assert [stage["status"] for stage in stages] == ["COMPLETED"] * len(STAGES)
    assert [flow["state"][stage]["result"] for stage in STAGES] == [
        stage["result"] for stage in stages
    ]


@pytest.mark.parametrize(
    ("database", "flows", "workers", "deeds"),
    [
        ("sqlite", 50, 8, 100),
        ("postgresql", 3, 2, 16),
        ("mariadb", 3, 2, 16),
        *(pytest.param(name, 50, 8, 800, marks=pytest.mark.heavy) for name in BACKEND_NAMES),
    ],
    indirect=["database"],
)
async def test_many_flows_at_once_keep_to_the_state_machine(
    engine: AsyncEngine, serve: Callable[..., Server], flows: int, workers: int, deeds: int
) -> None:
    """Servers do what comes, allowed or not, to the same novels; then these are finished."""
    servers = [serve() for _ in range(workers)]
    owner_id, seed = new_id(), random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    statuses: Counter[int] = Counter()

    async with client_of(address=servers[0].address, owner_id=owner_id) as client:
        novels = [await client.begin(f"Novel {n}", seed=f"{n}") for n in range(flows)]
    ids = [novel["id"] for novel in novels]

    async def work(number: int) -> None:
        dice = random.Random(seed + number)
        address = servers[number].address
        async with client_of(address=address, owner_id=owner_id) as client:
            for _ in range(deeds // workers):
                statuses[await _do_something(client, dice, dice.choice(ids))] += 1
            for flow_id in ids[number::workers]:
                await _finish(client, flow_id)

    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            group.create_task(work(number))

    print(dict(statuses))
    assert set(statuses) <= {200, 201, 202, 404, 409, 412, 422}
    for flow_id in ids:
        await _check(engine, flow_id)


async def _do_something(client: Client, dice: random.Random, flow_id: str) -> int:
    """A change that may be allowed or not; returns its status."""
    stages = await client.every(f"/api/flows/{flow_id}/stages")
    stage = f"/api/stages/{dice.choice(stages)['id']}"
    bound = await client.every(f"{stage}/sessions")
    session = dice.choice(bound)["session_id"] if bound else "none"
    elsewhere = await client.every(f"/api/stages/{dice.choice(stages)['id']}/sessions")
    other = dice.choice(elsewhere)["session_id"] if elsewhere else "none"
    method, path, body = dice.choice(
        [
            ("POST", f"/api/flows/{flow_id}/advance", {"to": dice.choice([*GenesisStage][:-1])}),
            ("POST", f"{stage}/complete", None),
            ("POST", f"{stage}/sessions", {"title": "A session", "kind": dice.choice(KINDS)}),
            ("PUT", f"{stage}/sessions/{other}", {"is_primary": dice.choice([True, None])}),
            ("PUT", f"{stage}/primary", {"session_id": session}),
            ("POST", f"{stage}/sessions/{session}/messages", {"text": BEGINNING}),
            ("POST", f"{stage}/sessions/{session}/messages", {"text": "2"}),
        ]
    )
    tag = (await client.http.get(stage)).headers["ETag"]
    headers = {"If-Match": tag} if dice.random() < 0.3 and "/flows/" not in path else {}
    answer = await client.http.request(method, path, json=body, headers=headers)
    assert answer.status_code < 500, (method, path, body, answer.text)
    return answer.status_code


async def _finish(client: Client, flow_id: str) -> None:
    """Let an agent work on each stage that is left, while others still do what they like."""
    while (await client.get(f"/api/flows/{flow_id}"))["status"] == "IN_PROGRESS":
        stage = await client.stage(flow_id)
        after = [*GenesisStage][GenesisStage(stage["stage"]).position + 1]
        answer = await client.http.post(f"/api/flows/{flow_id}/advance", json={"to": after})
        assert answer.status_code in {200, 409, 422}, answer.text
        if answer.status_code != 422:
            continue
        sessions = f"/api/stages/{stage['id']}/sessions"
        made = await client.http.post(
            sessions, json={"title": "The last", "kind": "agent_autonomous"}
        )
        if made.status_code != 201:
            continue
        session_id = made.json()["session_id"]
        chosen = await client.http.put(
            f"/api/stages/{stage['id']}/primary", json={"session_id": session_id}
        )
        said = await client.http.post(f"{sessions}/{session_id}/messages", json={"text": "Go."})
        if (chosen.status_code, said.status_code) != (200, 202):
            continue
        async with client.watch(flow_id) as sent:
            async for event in sent:
                of_session = event.data["session_id"] == session_id
                if of_session and event.data["data"].get("status") == "PAUSED":
                    break


async def _check(engine: AsyncEngine, flow_id: str) -> None:
    """What must hold of a flow that is finished, whatever was done to it."""
    async with reading(engine) as orm:
        flow = await orm.get_one(GenesisFlow, flow_id)
        stages = [
            *await orm.scalars(
                select(GenesisStageRecord)
                .where(GenesisStageRecord.flow_id == flow_id)
                .order_by(GenesisStageRecord.started_at)
            )
        ]
        bound = [
            *await orm.scalars(
                select(GenesisStageSession).where(
                    GenesisStageSession.stage_id.in_([stage.id for stage in stages])
                )
            )
        ]
        events = [*await orm.scalars(select(GenesisEvent).where(GenesisEvent.flow_id == flow_id))]
    assert (flow.current_stage, flow.status) == (GenesisStage.FINISHED, GenesisStatus.COMPLETED)
    for stage in STAGES:
        passes = [each for each in stages if each.stage is stage]
        assert passes
        assert all(each.status is StageStatus.COMPLETED for each in passes)
    for record in stages:
        require_complete(record.stage, record.config)
        of_stage = [each for each in bound if each.stage_id == record.id]
        assert sum(each.is_primary is True for each in of_stage) <= 1
        assert not [each for each in of_stage if each.status is BindingStatus.ACTIVE]
    last: dict[str, Any] = {record.stage: record for record in stages}
    for stage in STAGES:
        brought = flow.state[stage]
        assert (brought["config"], brought["result"]) == (last[stage].config, last[stage].result)
    positions = sorted(event.position for event in events)
    assert positions == [*range(1, len(events) + 1)]

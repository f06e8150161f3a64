"""Rate limits: calls of one caller and of all, counted in memory and in Redis, by a still clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi import Depends, FastAPI
from httpx import ASGITransport, AsyncClient, Response

from examples.web import problems
from examples.web.models import new_id
from examples.web.rate_limits import RateLimitError, RateLimits, count_call
from examples.web.tokens import Tokens
from tests.support.redis import RedisServer, needs_redis, redis_server

TOKENS = Tokens("of thirty-two bytes or of some more")


class Clock:
    """A clock that stands still until it is set forward."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.5

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(server: RedisServer) -> RedisServer:
    server.empty()
    return server


@pytest.fixture(params=["memory", pytest.param("redis", marks=needs_redis)])
async def limits(request: pytest.FixtureRequest) -> AsyncIterator[RateLimits]:
    """Three calls a minute of each caller, and five of all."""
    url = request.getfixturevalue("redis").url if request.param == "redis" else None
    async with RateLimits(url, per_caller=3, in_all=5) as limits:
        yield limits


@asynccontextmanager
async def application(limits: RateLimits) -> AsyncIterator[AsyncClient]:
    app = FastAPI()
    app.state.tokens, app.state.rate_limits = TOKENS, limits
    problems.install(app)

    @app.get("/limited", dependencies=[Depends(count_call)])
    async def limited() -> str:
        return "done"

    @app.get("/health")
    async def health() -> str:
        return "well"

    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        yield client


async def call(client: AsyncClient, caller: str) -> Response:
    bearer = {"Authorization": f"Bearer {TOKENS.issue(caller)}"}
    return await client.get("/limited", headers=bearer)


async def test_a_caller_over_the_limit_is_told_when_to_call_again(
    limits: RateLimits, clock: Clock
) -> None:
    ada = new_id()
    async with application(limits) as client:
        for left in (2, 1, 0):
            answer = await call(client, ada)
            assert answer.status_code == 200
            assert f'"caller";r={left};' in answer.headers["RateLimit"]
            clock.now += 10
        refused = await call(client, ada)

        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "31")
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.json()["detail"] == "you may make 3 calls a minute: repeat this one in 31 s"
        assert refused.headers["RateLimit-Policy"] == '"caller";q=3;w=60, "all";q=5;w=60'
        assert refused.headers["RateLimit"] == '"caller";r=0;t=31'
        clock.now += 29
        assert (await call(client, ada)).status_code == 429
        clock.now += 2
        assert (await call(client, ada)).status_code == 200


async def test_all_callers_together_have_a_limit(limits: RateLimits, clock: Clock) -> None:
    callers = [new_id() for _ in range(6)]
    for caller in callers[:5]:
        await limits.count(caller)

    with pytest.raises(RateLimitError, match="all callers together may make 5 calls") as caught:
        await limits.count(callers[5])
    assert (caught.value.headers or {})["Retry-After"] == "61"
    clock.now += 61
    assert (await limits.count(callers[5]))["RateLimit"].endswith('"all";r=4;t=61')


async def test_whoever_is_over_his_limit_takes_nothing_from_the_others(
    limits: RateLimits, clock: Clock
) -> None:
    ada, eve = new_id(), new_id()
    for _ in range(3):
        await limits.count(eve)
    for _ in range(10):
        with pytest.raises(RateLimitError):
            await limits.count(eve)

    assert '"all";r=1;' in (await limits.count(ada))["RateLimit"]


async def test_of_calls_at_once_no_more_pass_than_may(limits: RateLimits, clock: Clock) -> None:
    ada = new_id()
    results = await asyncio.gather(*(limits.count(ada) for _ in range(20)), return_exceptions=True)

    assert sum(isinstance(result, dict) for result in results) == 3
    assert sum(isinstance(result, RateLimitError) for result in results) == 17


async def test_what_is_not_limited_answers_a_caller_who_is_over_the_limit(
    limits: RateLimits, clock: Clock
) -> None:
    ada = new_id()
    async with application(limits) as client:
        for _ in range(4):
            last = await call(client, ada)
        assert last.status_code == 429
        assert (await client.get("/health")).status_code == 200


@needs_redis
async def test_servers_with_one_redis_count_together(redis: RedisServer, clock: Clock) -> None:
    ada = new_id()
    async with (
        RateLimits(redis.url, per_caller=2) as one,
        RateLimits(redis.url, per_caller=2) as other,
    ):
        await one.count(ada)
        await other.count(ada)
        with pytest.raises(RateLimitError):
            await one.count(ada)


@needs_redis
async def test_while_redis_is_away_each_server_counts_its_own_and_says_so_once(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ada = new_id()
    with redis_server(tmp_path) as redis:
        async with RateLimits(redis.url, per_caller=2) as limits:
            await limits.count(ada)
            redis.kill()
            for _ in range(2):
                await limits.count(ada)
            with pytest.raises(RateLimitError):
                await limits.count(ada)
            redis.start()
            for _ in range(2):
                await limits.count(ada)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith("Redis does not count calls: ")
    assert told[1] == "Redis counts calls again"


def test_a_url_that_names_no_redis_is_refused() -> None:
    with pytest.raises(ValueError, match="redis://"):
        RateLimits("http://localhost")

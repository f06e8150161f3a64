"""Rate limits: how often one caller, and all callers together, may call within a minute.

Each window moves: what counts are the calls of the last 60 seconds. They are counted in Redis,
where one is named, for all servers together; else each server counts its own.
"""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self

from fastapi import Request, Response
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from examples.web.problems import ApplicationError
from examples.web.tokens import Caller

SECONDS_FOR_REDIS = 1
"""How long a call waits for Redis, at most."""

logger = logging.getLogger(__name__)


class RateLimitError(ApplicationError, RuntimeError):
    """The limit of calls within a minute is reached."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    title = "Too many requests"

    def __init__(self, detail: str, headers: Mapping[str, str]) -> None:
        super().__init__(detail)
        self.headers = headers


@dataclass(frozen=True)
class Limit:
    """A number of calls within a minute."""

    name: str
    whose: str
    item: RateLimitItem

    @property
    def policy(self) -> str:
        """What it is, in the header `RateLimit-Policy`."""
        return f'"{self.name}";q={self.item.amount};w={self.item.get_expiry()}'


class RateLimits:
    """Counts calls, and refuses those over a limit. Use it in an `async with`.

    Args:
        redis_url: The Redis that counts, as `redis://host:6379/0`; by default memory does.
        per_caller: How many calls a minute one caller may make.
        in_all: How many all callers together may make.
    """

    def __init__(
        self, redis_url: str | None = None, *, per_caller: int = 100, in_all: int = 1000
    ) -> None:
        self._limits = (
            Limit("caller", "you", RateLimitItemPerMinute(per_caller)),
            Limit("all", "all callers together", RateLimitItemPerMinute(in_all)),
        )
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._pool = _pool_of(redis_url) if redis_url else None
        self._limiter = _limiter_of(redis_url, self._pool) if redis_url else self._own
        self._is_redis_away = False

    async def __aenter__(self) -> Self:
        """Connect with the first call."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections to Redis."""
        if self._pool:
            await self._pool.aclose()

    async def count(self, caller_id: str) -> Mapping[str, str]:
        """Count a call; returns the headers that say how many are left.

        A Redis that does not answer stops nobody: meanwhile this process counts its own calls.

        Raises:
            RateLimitError: A limit is reached.
        """
        try:
            headers = await self._count(self._limiter, caller_id)
        except RedisError as exc:
            if not self._is_redis_away:  # once, and not for each call meanwhile
                logger.warning("Redis does not count calls: %s", exc)
            self._is_redis_away = True
            return await self._count(self._own, caller_id)
        if self._is_redis_away:
            logger.warning("Redis counts calls again")
        self._is_redis_away = False
        return headers

    async def _count(self, limiter: MovingWindowRateLimiter, caller_id: str) -> Mapping[str, str]:
        """Count for the caller first: one who is over his limit takes nothing from the others."""
        headers = {"RateLimit-Policy": ", ".join(limit.policy for limit in self._limits)}
        left = []
        for limit in self._limits:
            key = (limit.name, caller_id) if limit.name == "caller" else (limit.name,)
            is_allowed = await limiter.hit(limit.item, *key)
            window = await limiter.get_window_stats(limit.item, *key)
            seconds = math.floor(window.reset_time - time.time()) + 1
            left.append(f'"{limit.name}";r={window.remaining};t={seconds}')
            headers["RateLimit"] = ", ".join(left)
            if not is_allowed:
                raise RateLimitError(
                    f"{limit.whose} may make {limit.item.amount} calls a minute: repeat this one "
                    f"in {seconds} s",
                    headers | {"Retry-After": str(seconds)},
                )
        return headers


async def count_call(request: Request, response: Response, caller: Caller) -> None:
    """Count a call of the application's `state.rate_limits`; a dependency of limited routes."""
    limits: RateLimits = request.app.state.rate_limits
    response.headers.update(await limits.count(caller.owner_id))


def _pool_of(url: str) -> ConnectionPool:
    retry = Retry(NoBackoff(), retries=1)  # a connection that has been closed at rest
    return ConnectionPool.from_url(
        url,
        retry=retry,
        socket_timeout=SECONDS_FOR_REDIS,
        socket_connect_timeout=SECONDS_FOR_REDIS,
    )


def _limiter_of(url: str, pool: Any) -> MovingWindowRateLimiter:
    storage = RedisStorage(f"async+{url}", implementation="redispy", connection_pool=pool)
    return MovingWindowRateLimiter(storage)

"""Savers on a backend, through a face."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from langgraph_session_saver import SessionSaver
from tests.support.backends import Backend
from tests.support.faces import FaceName, SyncFaceAdapter


class SaverFactory:
    """Makes savers on one backend through one face; call it with ``SessionSaver``'s options.

    Each call makes an engine of its own, as another process would have, unless ``engine=`` is
    given. All are closed at the end of the test.
    """

    def __init__(self, backend: Backend, face: FaceName) -> None:
        self.backend = backend
        self.face = face
        self._made: list[SessionSaver] = []

    def __call__(
        self, *, engine: Engine | AsyncEngine | None = None, **options: Any
    ) -> SessionSaver:
        if engine is None:
            use_async = self.face == "async"
            backend = self.backend
            engine = backend.warm_async_engine() if use_async else backend.warm_engine()
        saver = SessionSaver(engine, **options)
        self._made.append(saver)
        if self.face == "sync":
            return cast("SessionSaver", SyncFaceAdapter(saver))
        return saver

    async def aclose(self) -> None:
        while self._made:
            saver = self._made.pop()
            if self.face == "sync":
                saver.close()
            else:
                await saver.aclose()

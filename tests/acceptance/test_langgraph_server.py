"""The checkpointer that `langgraph.json` names, called as the LangGraph server calls it.

What the server does is read from langgraph-api 0.16.7 (`langgraph_api/_checkpointer/_adapter.py`,
`langgraph_runtime_inmem/ops.py`), which is no dependency: it loads the path of `langgraph.json`,
enters it once for each thread with an event loop, and talks to what it gets through an adapter
that adds to the metadata, makes the versions itself, and says "delete_all".
"""

from __future__ import annotations

import importlib
import json
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
)
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.types import Command

from examples.langgraph_server.graph import builder
from langgraph_session_saver import InvalidConfigError, SchemaError
from langgraph_session_saver.server import checkpointer
from tests.support.backends import Backend, Sql
from tests.support.forwarding import ForwardingSaver

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/langgraph_server"
PREFIX = "LANGGRAPH_SESSION_SAVER_"


class ServersAdapter(ForwardingSaver):
    """The server's adapter for a custom checkpointer."""

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Any:
        named = {
            key: value
            for key, value in config["configurable"].items()
            if not key.startswith("__") and key not in {"checkpoint_ns", "checkpoint_id"}
        }
        enriched = cast("CheckpointMetadata", {**named, **config.get("metadata", {}), **metadata})
        return await super().aput(config, checkpoint, enriched, new_versions)

    def get_next_version(self, current: str | None, channel: None) -> str:
        number = 0 if current is None else int(current.split(".")[0])
        return f"{number + 1:032}.{random.random():.16f}"


def load(path: str) -> Any:
    """Load a module's checkpointer from a path of `langgraph.json`, as the server does."""
    module, _, name = path.rpartition(".")
    return vars(importlib.import_module(module))[name]


@pytest.fixture
def in_environment(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Backend:
    monkeypatch.setenv(f"{PREFIX}URL", backend.url)
    return backend


async def test_a_run_is_interrupted_resumed_copied_rolled_back_and_deleted(
    in_environment: Backend, sql: Sql
) -> None:
    config = json.loads((EXAMPLE / "langgraph.json").read_text())
    async with AsyncExitStack() as stack:
        inner = await stack.enter_async_context(load(config["checkpointer"]["path"])())
        graph: Any = builder.compile(checkpointer=ServersAdapter(inner))
        thread: RunnableConfig = {
            "configurable": {"thread_id": "t", "graph_id": "greeter", "user_id": "u"},
            "metadata": {"assistant_id": "a", "run_id": "run-1"},
        }
        await graph.ainvoke({"messages": ["hi"], "build_status": "building"}, thread)
        assert (await graph.aget_state(thread)).next == ("ask",)

        thread["metadata"]["run_id"] = "run-2"
        state = await graph.ainvoke(Command(resume="Leo"), thread)
        assert state["messages"][-1].content == "For Leo: done."
        [row] = sql("SELECT build_status FROM sessions")
        assert row["build_status"] == "success"

        await inner.acopy_thread("t", "copy")
        copied = await graph.aget_state({"configurable": {"thread_id": "copy"}})
        assert copied.values["messages"][-1].content == "For Leo: done."

        await inner.adelete_for_runs(["run-2"])
        kept = [one.metadata async for one in graph.aget_state_history(thread)]
        assert [(one or {}).get("run_id") for one in kept] == ["run-1", "run-1"]

        await inner.aprune(["t"], strategy="keep_latest")
        assert len([one async for one in graph.aget_state_history(thread)]) == 1
        await inner.aprune(["copy"], strategy="delete_all")
        await inner.adelete_thread("t")
        assert sql("SELECT thread_id FROM session_threads") == []


@pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)
async def test_it_has_every_capability_that_the_server_checks_for(in_environment: Backend) -> None:
    async with checkpointer() as saver:
        for name in ("adelete_thread", "adelete_for_runs", "acopy_thread", "aprune"):
            assert getattr(type(saver), name) is not getattr(BaseCheckpointSaver, name)


@pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)
async def test_the_environment_configures_it(
    in_environment: Backend, monkeypatch: pytest.MonkeyPatch, sql: Sql
) -> None:
    monkeypatch.setenv(f"{PREFIX}KEEP_LAST", "2")
    monkeypatch.setenv(f"{PREFIX}TABLE_PREFIX", "lg_")
    thread: RunnableConfig = {"configurable": {"thread_id": "t"}}
    async with checkpointer() as saver:
        graph: Any = builder.compile(checkpointer=saver)
        for _ in range(2):
            await graph.ainvoke({"messages": ["hi"], "build_status": "building"}, thread)
            await graph.ainvoke(Command(resume="Leo"), thread)
        assert len([one async for one in graph.aget_state_history(thread)]) == 2
    assert sql("SELECT id FROM lg_sessions") == [{"id": "t"}]


@pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)
async def test_the_servers_key_encrypts_what_is_stored(
    in_environment: Backend, monkeypatch: pytest.MonkeyPatch, sql: Sql
) -> None:
    monkeypatch.setenv("LANGGRAPH_AES_KEY", "sixteen byte key")
    async with checkpointer() as saver:
        assert isinstance(saver.serde, EncryptedSerializer)
        graph: Any = builder.compile(checkpointer=saver)
        given = {"messages": ["hi"], "build_status": "building"}
        await graph.ainvoke(given, {"configurable": {"thread_id": "t"}})
    stored = {row["type"] for row in sql("SELECT type FROM session_blobs")}
    assert stored == {"msgpack+aes"}
    assert sql("SELECT content FROM messages") == []


@pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)
async def test_without_auto_setup_an_empty_database_is_refused_at_the_first_use(
    in_environment: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}AUTO_SETUP", "false")
    async with checkpointer() as saver:
        with pytest.raises(SchemaError):
            await saver.aget_tuple({"configurable": {"thread_id": "t"}})


@pytest.mark.parametrize(("name", "value"), [("KEEP_LAST", "many"), ("AUTO_SETUP", "perhaps")])
async def test_an_invalid_environment_variable_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(InvalidConfigError, match=f"{PREFIX}{name} is '{value}'"):
        async with checkpointer():
            pass

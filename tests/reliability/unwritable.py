"""A program whose database file, or its directory, becomes read-only while a graph runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from langgraph_session_saver import SessionSaver, StoragePermissionError
from tests.support.command_line import drop_privileges
from tests.support.rows import chain, config
from tests.support.rows import run as run_graph

MODES = {"file": (0o444, 0o644), "directory": (0o555, 0o755)}


async def run(url: str, file: str, what: str, lost_at: int, steps: int) -> None:
    """Run a graph of so many steps, and print what is stored when it was refused, and then."""
    drop_privileges()
    saver = SessionSaver.from_conn_string(url)
    engine: Any = saver._runner.engine
    forbidden, permitted = MODES[what]
    path = Path(file) if what == "file" else Path(file).parent
    losing = iter([forbidden])

    async def lose(_state: Any) -> Any:
        for mode in losing:
            disposed = engine.dispose()  # only a new connection looks at the mode
            if isinstance(engine, AsyncEngine):
                await disposed
            path.chmod(mode)
        return {"messages": [("ai", str(lost_at))]}

    updates: list[Any] = [{"messages": [("ai", str(number))]} for number in range(steps)]
    updates[lost_at] = lose
    graph = chain(saver, *updates)
    try:
        await run_graph(graph, {"messages": [("human", "hello")]})
    except StoragePermissionError as error:
        print("refused:", error)
    # The logs were made with the mode of the file.
    for each in path.parent.iterdir() if what == "file" else [path]:
        each.chmod(permitted)
    await _print_messages("stored:", graph)
    await run_graph(graph, None)
    await _print_messages("then:", graph)
    await saver.aclose()


async def _print_messages(what: str, graph: Any) -> None:
    found = await graph.aget_state(config())
    print(what, *(message.text for message in found.values["messages"]))

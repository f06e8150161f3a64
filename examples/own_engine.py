"""An application's own tables and the saver's in one database, through one engine, in FastAPI.

Install:  pip install 'langgraph-session-saver[sqlite-async]' langgraph fastapi httpx uvicorn
Run:      python -m examples.own_engine [FILE]      (FILE keeps the database)
Serve:    uvicorn --factory examples.own_engine:make_app      (uses shop.db)
Prints:

    PUT /customers/c1?name=Ada -> 201 null
    PUT /customers/c2?name=Grace -> 201 null
    POST /customers/c1/cards/leo?colour=blue -> 200 "A card in blue."
    POST /customers/c1/cards/leo?colour=green -> 200 "A card in blue, then green."
    POST /customers/c2/cards/mia?colour=red -> 200 "A card in red."
    POST /customers/c2/cards/leo?colour=black -> 409 {"detail":"leo belongs to somebody else"}
    GET /customers -> 200 [["Ada","leo","success",4],["Grace","mia","success",2]]
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import FastAPI, HTTPException
from httpx import ASGITransport, AsyncClient
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from sqlalchemy import Column, MetaData, String, Table, text
from sqlalchemy.ext.asyncio import create_async_engine

from langgraph_session_saver import SessionConflictError, SessionSaver

metadata = MetaData()
customers = Table("customers", metadata, Column("id", String(36), primary_key=True),
                  Column("name", String(80), nullable=False))  # fmt: skip
JOIN = """
SELECT c.name, s.id, s.build_status, count(m.id) FROM customers c
JOIN agent_sessions s ON s.owner_id = c.id JOIN agent_messages m ON m.session_id = s.id
GROUP BY c.name, s.id, s.build_status ORDER BY c.name, s.id
"""


class State(MessagesState):
    build_status: str


def design(state: State) -> dict[str, Any]:
    colours = ", then ".join(str(m.content) for m in state["messages"] if m.type == "human")
    return {"messages": [("ai", f"A card in {colours}.")], "build_status": "success"}


def make_app(database: str = "shop.db") -> FastAPI:
    engine = create_async_engine(f"sqlite+aiosqlite:///{database}")
    saver = SessionSaver(engine, table_prefix="agent_")  # its tables stay apart from yours
    graph = StateGraph(State).add_node(design).add_edge(START, "design").compile(saver)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        await saver.asetup()
        yield
        await engine.dispose()  # yours to dispose of: the saver never does

    app = FastAPI(lifespan=lifespan)

    @app.put("/customers/{customer_id}", status_code=201)
    async def add_customer(customer_id: str, name: str) -> None:
        async with engine.begin() as connection:
            await connection.execute(customers.insert().values(id=customer_id, name=name))

    @app.post("/customers/{customer_id}/cards/{card}")
    async def wish(customer_id: str, card: str, colour: str) -> str:
        configurable = {"thread_id": card, "owner_id": customer_id}
        given = State(messages=[HumanMessage(colour)], build_status="building")
        try:
            state = await graph.ainvoke(given, {"configurable": configurable})
        except SessionConflictError:
            raise HTTPException(409, f"{card} belongs to somebody else") from None
        return str(state["messages"][-1].content)

    @app.get("/customers")
    async def cards_of_customers() -> list[list[Any]]:
        async with engine.connect() as connection:
            return [list(row) for row in await connection.execute(text(JOIN))]

    return app


async def main(database: Path) -> None:
    app = make_app(str(database))
    client = AsyncClient(transport=ASGITransport(app), base_url="http://shop")
    async with app.router.lifespan_context(app), client:
        for call in [
            "PUT /customers/c1?name=Ada",
            "PUT /customers/c2?name=Grace",
            "POST /customers/c1/cards/leo?colour=blue",
            "POST /customers/c1/cards/leo?colour=green",
            "POST /customers/c2/cards/mia?colour=red",
            "POST /customers/c2/cards/leo?colour=black",
            "GET /customers",
        ]:
            answer = await client.request(*call.split())
            print(f"{call} -> {answer.status_code} {answer.text}")


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        asyncio.run(main(Path(*sys.argv[1:2] or [folder, "shop.db"])))

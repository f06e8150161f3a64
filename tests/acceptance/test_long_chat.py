"""A chat of 400 turns: its size on disk, its statements, and every checkpoint read back."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from sqlalchemy import Engine, create_engine, text

from langgraph_session_saver import SessionSaver
from tests.support.chat import Chat
from tests.support.compare import Tee, comparable
from tests.support.graphs import engine_of, thread
from tests.support.savers import SaverFactory
from tests.support.statements import recorded_statements

TURNS = 400
CONFIG = thread("chat")
LIMIT = 6_000_000

STORED = """
    SELECT (SELECT sum(length(data)) FROM session_blobs) AS blobs,
           (SELECT sum(length(data)) FROM session_writes) AS writes,
           (SELECT sum(length(data) + length(metadata_data)) FROM session_checkpoints) AS steps,
           (SELECT sum(length(content)) FROM messages) AS messages,
           (SELECT sum(length(graph_state)) FROM sessions) AS graph_state
"""


class CachingSerializer(JsonPlusSerializer):
    """A serialiser that caches what it reads: most of the time of a comparison is spent there."""

    def __init__(self) -> None:
        super().__init__()
        self._read: OrderedDict[tuple[str, bytes], Any] = OrderedDict()

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        if data not in self._read:
            self._read[data] = super().loads_typed(data)
            if len(self._read) > 100:  # a page of a listing has up to 86
                self._read.popitem(last=False)
        return self._read[data]


class LongChat:
    """A chat of 400 turns in a file and in memory, with the stored bytes after every ten turns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mirror = InMemorySaver()
        self.stored: list[int] = []
        self.rows: list[int] = []
        with SessionSaver.from_conn_string(str(path)) as saver:
            chat = Chat()
            graph = chat.builder.compile(checkpointer=Tee(saver, self.mirror))
            for turn in range(TURNS):
                graph.invoke(chat.question(), CONFIG, durability="sync")
                if turn % 10 == 9:
                    self._measure(saver._runner.sync_engine)

    def _measure(self, engine: Engine) -> None:
        with engine.connect() as conn:
            sizes = conn.execute(text(STORED)).one()
        self.stored.append(sum(size or 0 for size in sizes))

    @property
    def size(self) -> int:
        """Bytes of the database file and of SQLite's files beside it."""
        return sum(path.stat().st_size for path in self.path.parent.glob(f"{self.path.name}*"))


@pytest.fixture(scope="module")
def long_chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LongChat]:
    chat = LongChat(tmp_path_factory.mktemp("chat") / "chat.db")
    yield chat
    chat.mirror.storage.clear()
    chat.mirror.blobs.clear()


def test_four_hundred_turns_take_at_most_six_megabytes_with_projections_on(
    long_chat: LongChat,
) -> None:
    engine = create_engine(f"sqlite:///{long_chat.path}")
    with engine.connect() as conn:
        messages = conn.execute(text("SELECT count(*) FROM messages")).scalar_one()
    engine.dispose()

    assert messages == 2 * TURNS
    assert long_chat.size <= LIMIT


def test_each_of_its_twelve_hundred_checkpoints_reads_back_unchanged(long_chat: LongChat) -> None:
    long_chat.mirror.serde = serde = CachingSerializer()
    with SessionSaver.from_conn_string(str(long_chat.path), serde=serde) as saver:
        found = saver.list(CONFIG)
        expected = long_chat.mirror.list(CONFIG)
        compared = 0
        for ours, theirs in zip(found, expected, strict=True):
            assert comparable(ours) == comparable(theirs)
            compared += 1

    assert compared == 3 * TURNS


def test_its_checkpoints_read_the_same_by_id_in_another_process(long_chat: LongChat) -> None:
    named = sorted(long_chat.mirror.storage["chat"][""])[::40]

    for checkpoint_id in named:
        config = thread("chat", checkpoint_ns="", checkpoint_id=checkpoint_id)
        with SessionSaver.from_conn_string(str(long_chat.path)) as saver:
            assert comparable(saver.get_tuple(config)) == comparable(
                long_chat.mirror.get_tuple(config)
            )


def test_a_late_turn_stores_no_more_bytes_than_an_early_one(long_chat: LongChat) -> None:
    per_ten = [later - earlier for earlier, later in itertools.pairwise([0, *long_chat.stored])]
    early, late = sum(per_ten[3:7]), sum(per_ten[33:37])  # around turns 50 and 350

    assert len(per_ten) == TURNS // 10
    assert late <= 1.2 * early


# -- statements ---------------------------------------------------------------------------------

CHANNELS = ["UPDATE session_threads", "INSERT session_blobs"]
CHECKPOINT = ["INSERT session_checkpoints", "UPDATE sessions"]
PUT_INPUT = [*CHANNELS, *CHECKPOINT]
PUT_MESSAGE = [*CHANNELS, "INSERT messages", *CHECKPOINT]
TURN = [
    ("aput", PUT_INPUT),
    ("aput_writes", ["INSERT session_writes"]),
    ("aput", PUT_MESSAGE),
    ("aput_writes", ["INSERT session_writes"]),
    ("aput", PUT_MESSAGE),
]
AT_ONCE = {"aput": ["WITH session_checkpoints"], "aput_writes": ["INSERT session_writes"]}
"""On PostgreSQL a call is one statement, whatever it writes."""


class Calls(InMemorySaver):
    """Records each call of a graph to its checkpointer."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def put(self, *arguments: Any) -> Any:
        self.calls.append(("aput", arguments))
        return super().put(*arguments)

    def put_writes(self, *arguments: Any) -> None:
        self.calls.append(("aput_writes", arguments))
        super().put_writes(*arguments)


def calls_of(turns: int) -> list[tuple[str, tuple[Any, ...]]]:
    """The calls of the chat's graph, in order."""
    chat, calls = Chat(), Calls()
    graph = chat.builder.compile(checkpointer=calls)
    for _ in range(turns):
        graph.invoke(chat.question(), CONFIG, durability="sync")
    return calls.calls


async def calls_of_a_warm_turn(saver: Any) -> list[tuple[str, tuple[Any, ...]]]:
    """Save three turns of the chat; returns the calls of a fourth."""
    calls = calls_of(4)
    per_turn = len(calls) // 4
    for name, arguments in calls[:-per_turn]:
        await getattr(saver, name)(*arguments)
    return calls[-per_turn:]


async def test_each_call_of_a_warm_turn_sends_exactly_these_statements(
    make_saver: SaverFactory,
) -> None:
    saver = make_saver()
    sent: list[tuple[str, list[str]]] = []

    for name, arguments in await calls_of_a_warm_turn(saver):
        with recorded_statements(engine_of(saver)) as statements:
            await getattr(saver, name)(*arguments)
        sent.append((name, statements))

    at_once = [(name, AT_ONCE[name]) for name, _ in TURN]
    assert sent == (at_once if make_saver.backend.name == "postgresql" else TURN)


MADE = ["SELECT session_threads", "INSERT sessions", "INSERT session_threads"]
"""What makes a thread's row, and its session's, and holds them."""

LOOKED_AT_AGAIN = [
    *MADE[:2], "SELECT session_threads", "SELECT sessions", "SELECT session_threads", MADE[2],
    "SELECT session_threads",
]  # fmt: skip
"""The same where the database does not say whether a row was inserted."""


async def test_the_first_step_of_a_thread_sends_exactly_these_statements(
    make_saver: SaverFactory,
) -> None:
    saver = make_saver()
    await calls_of_a_warm_turn(saver)
    name, (_, *arguments) = calls_of(1)[0]

    with recorded_statements(engine_of(saver)) as statements:
        await getattr(saver, name)(thread("another", checkpoint_ns=""), *arguments)

    match make_saver.backend.name:
        case "postgresql":
            assert statements == [*MADE, "WITH session_checkpoints"]  # all that follows, as one
        case "sqlite":
            assert statements == [*MADE, *PUT_INPUT]
        case _:
            assert statements[: len(LOOKED_AT_AGAIN)] == LOOKED_AT_AGAIN


async def test_a_warm_read_is_one_statement(make_saver: SaverFactory) -> None:
    saver = make_saver()
    await calls_of_a_warm_turn(saver)

    with recorded_statements(engine_of(saver)) as statements:
        await saver.aget_tuple(CONFIG)

    assert statements == ["SELECT session_checkpoints"]


async def test_a_cold_read_is_two_statements(make_saver: SaverFactory) -> None:
    await calls_of_a_warm_turn(make_saver())
    cold = make_saver()
    await cold.asetup()

    with recorded_statements(engine_of(cold)) as statements:
        await cold.aget_tuple(CONFIG)

    assert len(statements) == 2


async def test_a_write_of_a_known_thread_is_one_statement(make_saver: SaverFactory) -> None:
    saver = make_saver()
    await calls_of_a_warm_turn(saver)
    found = await saver.aget_tuple(CONFIG)
    assert found is not None

    with recorded_statements(engine_of(saver)) as statements:
        await saver.aput_writes(found.config, [("messages", ["x"]), ("other", 1)], "task")

    assert statements == ["INSERT session_writes"]

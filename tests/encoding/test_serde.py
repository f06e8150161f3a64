"""Custom serialisers: which are supported, and how their errors are raised."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_session_saver import SessionSaver, SessionSaverError
from langgraph_session_saver.encoding.serde import dump, load
from langgraph_session_saver.errors import SerializationError, UnreadableValueError
from tests.support.graphs import ScriptRunner, thread
from tests.support.rows import put
from tests.support.savers import SaverFactory


@dataclass
class TenantSerializer(JsonPlusSerializer):
    """A dataclass that compares by value has no hash."""

    tenant: str = "a"

    def __post_init__(self) -> None:
        super().__init__()


class SlottedSerializer:
    """Has neither a hash nor weak references."""

    __hash__ = None  # type: ignore[assignment]
    __slots__ = ()

    def dumps_typed(self, value: Any) -> tuple[str, bytes]:
        return JsonPlusSerializer().dumps_typed(value)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return JsonPlusSerializer().loads_typed(data)


@pytest.mark.parametrize("make_serde", [TenantSerializer, SlottedSerializer])
async def test_a_serialiser_without_a_hash_is_used_as_any_other(
    make_saver: SaverFactory, make_serde: Callable[[], Any]
) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("say", lambda _state: {"messages": [("ai", "x")] * 6})
    builder.add_edge(START, "say")
    saver = make_saver(serde=make_serde())

    for turn in (1, 2):
        await ScriptRunner(builder, saver).invoke({"messages": [HumanMessage("hi")]}, thread("t"))
        found = await ScriptRunner(builder, saver).state(thread("t"))
        assert len(found.values["messages"]) == 7 * turn


# -- errors -------------------------------------------------------------------------------------


class KeyExpiredError(Exception):
    """Made from a message, as most are."""


class VaultError(PermissionError):
    """Made from something else."""

    def __init__(self, path: str, code: int) -> None:
        super().__init__(f"{path} answered {code}")


class Failing(JsonPlusSerializer):
    """A serialiser of which every call fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        raise self._error

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        raise self._error


def dump_note(error: Exception) -> None:
    dump(Failing(error), "x", lambda: "channel 'note'")


def load_note(error: Exception) -> None:
    load(Failing(error), ("msgpack", b"\xa1x"), "channel 'note'")


@pytest.mark.parametrize(
    ("call", "name"),
    [(dump_note, "SerializationError"), (load_note, "UnreadableValueError")],
    ids=["dump", "load"],
)
@pytest.mark.parametrize(
    ("raised", "caught"),
    [
        (TypeError("no lock"), TypeError),
        (ValueError("no lock"), ValueError),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no lock"), UnicodeError),
        (KeyError("no lock"), KeyError),
        (AttributeError("no lock"), AttributeError),
        (NotImplementedError("no lock"), NotImplementedError),
        (RecursionError("no lock"), RecursionError),
        (ImportError("no lock"), ImportError),
        (OSError(5, "no lock"), OSError),
        (ConnectionResetError("no lock"), ConnectionError),
        (KeyExpiredError("no lock"), KeyExpiredError),
        (VaultError("no lock", 403), PermissionError),
        (StopIteration("no lock"), SerializationError),
        (ExceptionGroup("no lock", [ValueError()]), SerializationError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else type(value).__name__,
)
def test_an_error_of_the_serialiser_is_caught_as_its_own_class_and_as_ours(
    call: Callable[[Exception], None], name: str, raised: Exception, caught: type[Exception]
) -> None:
    with pytest.raises(SerializationError) as found:
        call(raised)

    error = found.value
    assert isinstance(error, caught)
    assert isinstance(error, SessionSaverError)
    assert error.__cause__ is raised
    assert str(error).startswith("channel 'note' ")
    assert "no lock" in str(error)
    assert type(error).__name__ == name


@pytest.mark.parametrize(
    ("call", "error_class"), [(dump_note, SerializationError), (load_note, UnreadableValueError)]
)
def test_an_error_of_the_serialiser_can_be_pickled(
    call: Callable[[Exception], None], error_class: type[Exception]
) -> None:
    with pytest.raises(KeyError) as found:
        call(KeyError("no lock"))

    copied = pickle.loads(pickle.dumps(found.value))

    assert type(copied) is error_class
    assert str(copied) == str(found.value)


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("no"), StopIteration("no")])
async def test_put_raises_an_error_of_the_serialiser_as_what_it_was(
    make_saver: SaverFactory, error: Exception
) -> None:
    saver: SessionSaver = make_saver(serde=Failing(error))
    expected = SerializationError if isinstance(error, StopIteration) else type(error)

    with pytest.raises(expected) as found:
        await put(saver, 1, {"note": "x" * 100})

    assert isinstance(found.value, SerializationError)

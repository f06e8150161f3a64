"""Lists of messages are written and read exactly as LangGraph's serialiser does it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import ormsgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_PYDANTIC_V2,
    JsonPlusSerializer,
)
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_session_saver.encoding.keys import Typed
from langgraph_session_saver.encoding.messages import FEW, MessageListDecoder, MessageListEncoder
from tests.support.chat import Chat
from tests.support.graphs import ScriptRunner, thread
from tests.support.savers import SaverFactory

quick = settings(max_examples=150, derandomize=True, deadline=None, database=None)

SERDE = JsonPlusSerializer()


class Note(HumanMessage):
    """A message of an application's own class."""


class Artifact:
    """An object that no serialiser knows."""


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
objects = st.dictionaries(st.text(max_size=3), plain, max_size=2)
texts = st.text(max_size=20) | st.text(max_size=3).map(lambda text: text * 200)
ids = st.none() | st.uuids().map(str)
contents = texts | st.lists(texts | objects, max_size=2)
tool_calls = st.fixed_dictionaries({"name": texts, "args": objects, "id": ids})
usages = st.tuples(st.integers(0, 99), st.integers(0, 99)).map(
    lambda counts: {
        "input_tokens": counts[0],
        "output_tokens": counts[1],
        "total_tokens": sum(counts),
    }
)
answers = st.builds(
    AIMessage,
    contents,
    id=ids,
    additional_kwargs=objects,
    response_metadata=objects,
    tool_calls=st.lists(tool_calls, max_size=2),
    usage_metadata=st.none() | usages,
)
messages: st.SearchStrategy[Any] = st.one_of(
    answers,
    st.builds(HumanMessage, contents, id=ids, additional_kwargs=objects),
    st.builds(SystemMessage, texts),
    st.builds(ToolMessage, texts, tool_call_id=texts, artifact=plain | st.binary(max_size=5)),
    st.builds(Note, texts),
    st.builds(lambda text, more: HumanMessage(text, more=more), texts, plain),
)
anything = messages | plain


CHANNEL = (b"thread", b"", "messages")
MANY = [HumanMessage(str(number)) for number in range(FEW)]


class Written:
    """A list that was written once and may be changed before it is written again."""

    def __init__(self, value: list[Any]) -> None:
        self.value = value
        self._writer = MessageListEncoder()
        self._first = self._writer.dumps(SERDE, value, CHANNEL, b"first", None)

    def again(self) -> Typed:
        """The bytes of the second writing."""
        return self._writer.dumps(SERDE, self.value, CHANNEL, b"second", (b"first", self._first))


@st.composite
def changed(draw: st.DrawFn, strategy: st.SearchStrategy[Any]) -> Written:
    """A written list after changes in place and appends."""
    written = Written(draw(st.lists(strategy, max_size=9)))
    for change in draw(st.lists(st.sampled_from(CHANGES), max_size=2)):
        change(draw, written.value)
    written.value = written.value + draw(st.lists(strategy, max_size=2))
    return written


def replace_one(draw: st.DrawFn, value: list[Any]) -> None:
    if value:
        value[draw(st.integers(0, len(value) - 1))] = draw(anything)


def drop_some(draw: st.DrawFn, value: list[Any]) -> None:
    del value[: draw(st.integers(0, len(value)))]


def change_in_place(draw: st.DrawFn, value: list[Any]) -> None:
    for message in value:
        if isinstance(message, BaseMessage) and draw(st.booleans()):
            message.additional_kwargs.update(draw(objects))
            if isinstance(message, AIMessage) and message.usage_metadata:
                message.usage_metadata["total_tokens"] = draw(st.integers(0, 99))


CHANGES = (replace_one, drop_some, change_in_place)


def differing(before: Any, after: Any) -> Written:
    """A list with a message changed in place, from one value to another that compares equal."""
    message = HumanMessage("x", additional_kwargs={"value": before})
    written = Written([message, *MANY])
    message.additional_kwargs["value"] = after
    return written


@quick
@example(differing(1, True))
@example(differing(1, 1.0))
@example(differing(0.0, -0.0))
@example(differing("a", "\ud800"))
@given(changed(messages) | changed(anything))
def test_a_list_is_written_like_the_serialiser_writes_it_whatever_was_written_before(
    written: Written,
) -> None:
    assert written.again() == SERDE.dumps_typed(written.value)


@quick
@given(st.lists(st.lists(anything, max_size=6) | st.lists(messages, max_size=20), max_size=3))
def test_a_list_is_read_like_the_serialiser_reads_it_whatever_was_read_before(
    values: list[list[Any]],
) -> None:
    reader = MessageListDecoder()

    for value in values * 2:
        typed = SERDE.dumps_typed(value)
        found = reader.loads(SERDE, typed)
        assert described(found) == described(SERDE.loads_typed(typed))
        for message in found:
            if isinstance(message, BaseMessage):
                message.additional_kwargs["changed"] = True
                message.content = "changed"


def packed(fields: Any, cls: str = "HumanMessage", module: str = "langchain_core.messages.human",
           code: int = EXT_PYDANTIC_V2) -> Typed:  # fmt: skip
    """The bytes of a list of one message, crafted."""
    message = ormsgpack.packb((module, cls, fields, "model_validate_json"), option=KEYS)
    return "msgpack", ormsgpack.packb([ormsgpack.Ext(code, message)])


KEYS = ormsgpack.OPT_NON_STR_KEYS
PLAIN_FIELDS = HumanMessage("x", id="1").model_dump()
CRAFTED = {
    "content of another type": packed({**PLAIN_FIELDS, "content": 5}),
    "a number for an id": packed({**PLAIN_FIELDS, "id": 7}),
    "a number for a flag": packed({**PLAIN_FIELDS, "example": 1}),
    "no content": packed({k: v for k, v in PLAIN_FIELDS.items() if k != "content"}),
    "fewer fields": packed({"content": "x"}),
    "another type": packed({**PLAIN_FIELDS, "type": "ai"}),
    "an additional field": packed({**PLAIN_FIELDS, "more": "x"}),
    "a private field": packed({**PLAIN_FIELDS, "__pydantic_private__": {"a": 1}}),
    "keys that are no texts": packed({**PLAIN_FIELDS, 1: "x"}),
    "no fields": packed(None),
    "a list of fields": packed(["content", "x"]),
    "an extension among the fields": packed({**PLAIN_FIELDS, "name": ormsgpack.Ext(5, b"x")}),
    "another constructor": packed(PLAIN_FIELDS, code=EXT_CONSTRUCTOR_KW_ARGS),
    "another message class": packed({**PLAIN_FIELDS, "tool_call_id": 5}, "ToolMessage",
                                    "langchain_core.messages.tool"),
    "no message class": packed({"text": "x"}, "Serializable", "langchain_core.load.serializable"),
    "an unknown class": packed(PLAIN_FIELDS, "Missing"),
    "cut off": ("msgpack", packed(PLAIN_FIELDS)[1][:-4]),
}  # fmt: skip


@pytest.mark.parametrize("crafted", CRAFTED.values(), ids=CRAFTED.keys())
@pytest.mark.filterwarnings("ignore")
def test_crafted_bytes_are_read_like_the_serialiser_reads_them(crafted: Typed) -> None:
    reader, plain = MessageListDecoder(), packed(PLAIN_FIELDS)

    for typed in (plain, crafted, plain, crafted, crafted):
        assert outcome(lambda typed=typed: reader.loads(SERDE, typed)) == outcome(  # type: ignore[misc]
            lambda typed=typed: SERDE.loads_typed(typed)  # type: ignore[misc]
        )


def outcome(read: Callable[[], Any]) -> Any:
    """The value that is read, with Pydantic's state of it, or the error."""
    try:
        found = read()
    except Exception as exc:  # noqa: BLE001
        return type(exc), str(exc)
    return [
        (type(item), item.__dict__, {k: type(v) for k, v in item.__dict__.items()},
         item.model_fields_set, item.__pydantic_extra__, item.__pydantic_private__)
        if isinstance(item, BaseMessage)
        else (type(item), repr(item))
        for item in found
    ]  # fmt: skip


@quick
@example(0xC7FF)  # whose bytes are those of an extension, behind that of a number
@given(plain | messages)
def test_values_that_are_no_message_list_are_read_by_the_serialiser(value: Any) -> None:
    typed, reader = SERDE.dumps_typed(value), MessageListDecoder()

    assert repr(reader.loads(SERDE, typed)) == repr(SERDE.loads_typed(typed))


def described(value: Sequence[Any]) -> list[Any]:
    """A list with everything in which two equal messages may differ; NaN equals NaN."""
    return [
        (type(item), repr(item), item.model_fields_set, SERDE.dumps_typed(item))
        if isinstance(item, BaseMessage)
        else repr(item)
        for item in value
    ]


def test_a_message_read_again_shares_nothing_with_the_first() -> None:
    calls = [{"name": "search", "args": {"words": ["bread"]}, "id": "1"}]
    typed = SERDE.dumps_typed([AIMessage([{"text": "x"}], tool_calls=calls)])
    reader = MessageListDecoder()
    found = [reader.loads(SERDE, typed)[0] for _ in range(4)]

    for message in found:
        message.tool_calls[0]["args"]["words"].append("changed")
        message.content[0]["text"] += "changed"

    assert [message.tool_calls[0]["args"]["words"] for message in found] == [
        ["bread", "changed"]
    ] * 4
    assert [message.content[0]["text"] for message in found] == ["xchanged"] * 4


def test_a_list_that_falls_back_to_pickle_is_written_whole() -> None:
    serde, writer = JsonPlusSerializer(pickle_fallback=True), MessageListEncoder()
    value: list[Any] = [*MANY, HumanMessage("x")]
    earlier = writer.dumps(serde, value, CHANNEL, b"first", None)
    value.append(Artifact)

    typ, data = writer.dumps(serde, value, CHANNEL, b"second", (b"first", earlier))

    assert typ == "pickle"
    assert serde.loads_typed((typ, data)) == value


def test_a_message_changed_while_it_is_written_is_written_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = HumanMessage("before")
    dump = BaseMessage.model_dump

    def change_and_dump(self: BaseMessage, **options: Any) -> Any:
        message.content = "meanwhile"
        return dump(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(BaseMessage, "model_dump", change_and_dump)
        written = Written([*MANY, message])
    message.content = "before"

    assert written.again() == SERDE.dumps_typed(written.value)


def test_a_list_is_written_whole_after_another_process_wrote_its_channel() -> None:
    writer, others = MessageListEncoder(), SERDE.dumps_typed([HumanMessage("theirs")])
    writer.dumps(SERDE, [HumanMessage("ours"), *MANY], CHANNEL, b"first", None)
    value = [HumanMessage("ours"), *MANY, HumanMessage("more")]

    typed = writer.dumps(SERDE, value, CHANNEL, b"second", (b"others", others))

    assert typed == SERDE.dumps_typed(value)


def test_a_type_allowed_to_one_serialiser_is_not_built_for_another() -> None:
    typed = SERDE.dumps_typed([HumanMessage("x")])
    strict = JsonPlusSerializer(__unpack_ext_hook__=lambda _code, _data: "blocked")
    reader = MessageListDecoder()

    found = [reader.loads(serde, typed) for _ in range(3) for serde in (SERDE, strict)]

    assert found == [[HumanMessage("x")], ["blocked"]] * 3


def test_evicted_messages_are_read_by_the_serialiser() -> None:
    typed = SERDE.dumps_typed([HumanMessage("x", name=str(n)) for n in range(9)])
    reader = MessageListDecoder(limit=3)

    for _ in range(4):
        assert reader.loads(SERDE, typed) == SERDE.loads_typed(typed)


# -- in a thread --------------------------------------------------------------------------------

TURNS = 12


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the messages that are written and read."""
    made: Counter[str] = Counter()

    def counting(method: str) -> Callable[..., Any]:
        original = getattr(BaseMessage, method)

        def count(*arguments: Any, **named: Any) -> Any:
            made[method] += 1
            return original(*arguments, **named)

        return count

    for method in ("model_dump", "__init__"):
        monkeypatch.setattr(BaseMessage, method, counting(method))
    return made


def test_a_message_read_again_is_not_validated_again(calls: Counter[str]) -> None:
    value: list[Any] = []
    for number in map(str, range(9)):
        value += [HumanMessage(number, id=f"h{number}"), ToolMessage(number, tool_call_id=number)]
    typed, reader = SERDE.dumps_typed(value), MessageListDecoder()
    reader.loads(SERDE, typed)
    calls.clear()

    found = reader.loads(SERDE, typed)

    assert not calls["__init__"]
    assert found == value


async def test_a_turn_serialises_only_its_own_messages_however_long_the_chat(
    make_saver: SaverFactory, calls: Counter[str]
) -> None:
    chat = Chat()
    driver = ScriptRunner(chat.builder, make_saver())
    per_turn = []
    for _ in range(TURNS):
        calls.clear()
        await driver.invoke(chat.question(), thread("t"))
        per_turn.append(dict(calls))

    found = (await driver.state(thread("t"))).values["messages"]

    assert len(found) == 2 * TURNS
    assert per_turn[3:] == [per_turn[3]] * (TURNS - 3)


async def test_a_message_changed_in_place_is_stored_with_its_change(
    make_saver: SaverFactory,
) -> None:
    def answer(state: MessagesState) -> dict[str, Any]:
        first = state["messages"][0]
        first.additional_kwargs["seen"] = seen = len(state["messages"])
        return {"messages": [AIMessage(f"seen {seen}", id=str(seen))]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    driver, reader = ScriptRunner(builder, make_saver()), ScriptRunner(builder, make_saver())

    for turn in range(1, 4):
        await driver.invoke({"messages": [HumanMessage("x", id=f"q{turn}")]}, thread("t"))
        found = (await reader.state(thread("t"))).values["messages"]
        assert found[0].additional_kwargs == {"seen": 2 * turn - 1}

"""Serialising and deserialising with the saver's serde, with errors that name the value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener

from langgraph_session_saver.encoding import nesting
from langgraph_session_saver.encoding.keys import Typed
from langgraph_session_saver.encoding.messages import MessageListDecoder
from langgraph_session_saver.errors import (
    InvalidConfigError,
    PlaintextError,
    SerializationError,
    UnreadableValueError,
)
from langgraph_session_saver.redaction import without_credentials


class EncryptedOnly(EncryptedSerializer):
    """An encrypting serialiser that does not read plaintext."""

    def __init__(self, serde: SerializerProtocol) -> None:
        if not isinstance(serde, EncryptedSerializer):
            raise InvalidConfigError(
                f"require_encryption needs a serde that encrypts, and {type(serde).__name__} does "
                "not: pass serde=EncryptedSerializer.from_pycryptodome_aes(key=…)"
            )
        super().__init__(serde.cipher, serde.serde)
        self.dumps_typed = serde.dumps_typed  # type: ignore[method-assign]
        self._loads = serde.loads_typed

    def loads_typed(self, data: Typed) -> Any:
        """Decrypt and deserialise a value."""
        if "+" not in data[0]:
            raise PlaintextError(PLAINTEXT)
        return self._loads(data)


PLAINTEXT = (
    "is stored in clear, which require_encryption=True refuses: somebody else wrote it, or a saver "
    "without encryption did. To read it, make a saver without require_encryption"
)

INLINE_TEXT = 24
"""Characters of a text that is stored in its checkpoint's row, and not in a row of its own."""

_SMALL = frozenset((type(None), bool, int, float))


def is_small(value: Any) -> bool:
    """Whether a value is stored in its checkpoint's row, and not in a row of its own."""
    kind = type(value)
    return kind in _SMALL or (kind is str and len(value) <= INLINE_TEXT)


def dump(
    serde: SerializerProtocol,
    value: Any,
    what: Callable[[], str],
    dumps: Callable[[SerializerProtocol, Any], Typed] | None = None,
) -> Typed:
    """Serialise a value.

    Args:
        serde: The saver's current serialiser.
        value: The value.
        what: Names the value for the error: a channel, a write, a checkpoint.
        dumps: Serialises it in place of `serde.dumps_typed`.

    Raises:
        SerializationError: The serialiser refuses the value.
    """
    try:
        typ, data = serde.dumps_typed(value) if dumps is None else dumps(serde, value)
    except Exception as exc:
        raise _error(
            SerializationError,
            f"{what()} holds a {type(value).__qualname__} that {type(serde).__name__} cannot "
            f"serialise ({exc}). Nothing was written: keep such objects out of the state, or pass "
            "a serde= that supports them",
            exc,
        ) from exc
    return typ, data if type(data) is bytes else bytes(data)


def load(
    serde: SerializerProtocol,
    typed: Typed,
    what: str | Callable[[], str],
    messages: MessageListDecoder | None = None,
) -> Any:
    """Deserialise a value.

    Args:
        serde: The saver's current serialiser.
        typed: The serialised value.
        what: Names the value for the error.
        messages: Deserialises the values of channels, which may be lists of messages.

    Raises:
        UnreadableValueError: The serialiser cannot read the bytes.
        SerializationError: It is not allowed to build a type that they name.
    """
    blocked: list[tuple[str, str]] = []
    outer = _blocked.set(blocked)
    try:
        value = nesting.loads(serde, typed) if messages is None else messages.loads(serde, typed)
    except PlaintextError as exc:
        raise PlaintextError(f"{_text(what)} {exc}") from None
    except Exception as exc:
        raise _error(
            UnreadableValueError,
            f"{_text(what)} cannot be read back with {type(serde).__name__}: {exc}. Use the serde "
            "(and the key) that it was written with; if it is that one, the bytes are damaged",
            exc,
        ) from exc
    finally:
        _blocked.reset(outer)
    if blocked:
        raise SerializationError(
            f"{_text(what)} holds a type that may not be rebuilt. To allow it, pass "
            f"serde={_allowing(blocked)}"
        )
    return value


@contextmanager
def refusing_blocked(what: Callable[[], str]) -> Iterator[None]:
    """Raise if another saver's serialiser was not allowed to build a type.

    Raises:
        SerializationError: It has returned plain data in its place.
    """
    blocked: list[tuple[str, str]] = []
    outer = _blocked.set(blocked)
    try:
        yield
    finally:
        _blocked.reset(outer)
    if blocked:
        options = " ".join(f"--allow {module}:{name}" for module, name in dict.fromkeys(blocked))
        raise SerializationError(
            f"{what()} holds a type that may not be rebuilt. To allow it, give that saver "
            f"serde={_allowing(blocked)}, or the command import {options}"
        )


def _allowing(blocked: list[tuple[str, str]]) -> str:
    names = ", ".join(f"({module!r}, {name!r})" for module, name in dict.fromkeys(blocked))
    return f"JsonPlusSerializer(allowed_msgpack_modules=[{names}])"


def _text(what: str | Callable[[], str]) -> str:
    return what if isinstance(what, str) else what()


_NOT_RAISED = (StopIteration, StopAsyncIteration)
"""Exceptions that a generator or a coroutine does not pass on."""


def _error(error_class: Any, message: str, cause: Exception) -> SerializationError:
    """An error that is caught as the serialiser's own exception, too."""
    message = without_credentials(message)
    kind: Any
    for kind in type(cause).__mro__:
        if issubclass(error_class, kind) or issubclass(kind, _NOT_RAISED):
            break
        try:
            error: SerializationError = _class_of(error_class, kind)(message)
        except Exception:  # noqa: BLE001, S112 - a class that takes other arguments, or is final
            continue
        error.args = (message,)
        return error
    return error_class(message)  # type: ignore[no-any-return]


class _TwoClassError(SerializationError):
    """Base of the errors that also inherit a class of the serialiser's exceptions."""

    error_class: type[SerializationError]
    """The one of ours: pickle could not find the subclass by its name."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would quote it

    def __reduce__(self) -> tuple[Any, ...]:
        return self.error_class, self.args


@lru_cache(maxsize=64)
def _class_of(error_class: Any, kind: Any) -> type[SerializationError]:
    """A subclass of one of our errors and another exception, with the name of the first."""
    name, module = error_class.__qualname__, error_class.__module__
    members = {"__module__": module, "error_class": error_class}
    return type(name, (_TwoClassError, error_class, kind), members)


_blocked: ContextVar[list[tuple[str, str]] | None] = ContextVar("blocked", default=None)
"""The types that the serialiser refused to build while the current value is deserialised.

LangGraph's serialiser returns plain data in their place and logs a warning, so that a dataclass
silently comes back as a dict. It tells its event listeners.
"""


def _note_blocked(event: SerdeEvent) -> None:
    blocked = _blocked.get()
    if blocked is not None and event["kind"].endswith("_blocked"):
        blocked.append((event["module"], event["name"]))


register_serde_event_listener(_note_blocked)

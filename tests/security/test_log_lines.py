"""No id, name, text or address reaches a log line with characters that change what is shown."""

from __future__ import annotations

import ast
import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from sqlalchemy import URL, create_engine

import langgraph_session_saver
from langgraph_session_saver import CorruptBlobError, SessionSaver
from langgraph_session_saver.errors import DatabaseUnavailableError
from langgraph_session_saver.log import logger
from langgraph_session_saver.sql.cancellation import finish
from tests.conftest import MakeBackend
from tests.support.backends import Backend, run_sql
from tests.support.rows import checkpoint, config

HOSTILE = {
    "a line of its own": "x\nERROR root: all is lost",
    "a line over the line": "x\rERROR root: all is lost",
    "the end of a line, in Unicode": "x\u2028ERROR\u0085all is lost",
    "a colour": "\x1b[31mred",
    "a terminal's title": "\x1b]0;owned\x07",
    "a control of 8 bits": "\x9b2J",
    "right to left": "\u202egpj.exe\u2066",
    "nothing to see": "a\u200bb\ufeff",
}


@pytest.fixture
def there(make_backend: MakeBackend) -> Backend:
    return make_backend("sqlite")


def put(saver: BaseCheckpointSaver[Any], number: int, thread: str, **values: Any) -> None:
    made = checkpoint(number, values)
    about: Any = {"source": "loop", "step": number}
    saver.put(config(thread, checkpoint_ns=""), made, about, made["channel_versions"])


def say_that_a_value_does_not_validate(there: Backend, text: str, _: Path) -> None:
    with SessionSaver(there.engine()) as saver:
        put(saver, 1, text, build_status={"status": text})


def say_that_a_model_has_no_price(there: Backend, text: str, _: Path) -> None:
    usage: Any = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    message = AIMessage("hi", usage_metadata=usage, response_metadata={"model_name": text})
    with SessionSaver(there.engine(), pricing={}) as saver:
        put(saver, 1, "t", messages=[message])


def say_that_a_checkpoint_is_not_listed(there: Backend, text: str, _: Path) -> None:
    with SessionSaver(there.engine()) as saver:
        put(saver, 1, text, **{text: "value " * 100})
    run_sql(there, "UPDATE session_blobs SET data = :data", data=b"\x07")
    with SessionSaver(there.engine()) as saver, suppress(CorruptBlobError):
        list(saver.list(None))


def say_that_a_row_cannot_be_restored(there: Backend, text: str, directory: Path) -> None:
    with SessionSaver(there.engine()) as saver:
        put(saver, 1, text, note="value " * 100)
        run_sql(there, "PRAGMA foreign_keys = OFF")
        run_sql(there, "UPDATE session_blobs SET base_key = blob_key, channel = :text", text=text)
        saver.backup(directory / text)


def say_that_a_thread_is_not_imported(there: Backend, text: str, _: Path) -> None:
    other = InMemorySaver()
    put(other, 1, text, note="theirs")
    with SessionSaver(there.engine()) as saver:
        put(saver, 2, text, note="ours")
        saver.import_from(other)


def say_that_a_call_is_retried(_there: Backend, text: str, directory: Path) -> None:
    file = directory / text
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        engine = create_engine(
            URL.create("sqlite", database=str(file)), connect_args={"timeout": 0}
        )
        with SessionSaver(engine, retry_for=0.01) as saver, suppress(DatabaseUnavailableError):
            saver.setup()
        engine.dispose()


def say_that_a_cancelled_operation_failed(_there: Backend, text: str, _: Path) -> None:
    async def fail(may_end: asyncio.Event) -> None:
        await may_end.wait()
        raise ValueError(text)

    async def cancel() -> None:
        may_end = asyncio.Event()
        task = asyncio.create_task(finish(fail(may_end)))
        await asyncio.sleep(0)
        task.cancel()
        asyncio.get_running_loop().call_soon(may_end.set)
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(cancel())


LINES: dict[str, Callable[[Backend, str, Path], None]] = {
    "%s: %s": say_that_a_value_does_not_validate,
    "model %r has no price: its calls cost 0. Add it to pricing": say_that_a_model_has_no_price,
    "not listed: %s. get_tuple raises this; `doctor` looks for more": (
        say_that_a_checkpoint_is_not_listed
    ),
    "%s cannot be restored: %s. Delete that thread, and make another backup": (
        say_that_a_row_cannot_be_restored
    ),
    "thread %r was not imported: %s": say_that_a_thread_is_not_imported,
    "the %s database at %s failed (%s): retrying for up to %g seconds": say_that_a_call_is_retried,
    "a cancelled operation failed: %s": say_that_a_cancelled_operation_failed,
}
"""What the package logs with text from outside, and a way to make it say so."""


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("line", LINES)
def test_no_log_line_has_a_character_that_is_not_printable(
    line: str, text: str, there: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger.name)

    LINES[line](there, text, tmp_path)

    said = [record for record in caplog.records if record.name == logger.name]
    assert line in [record.msg for record in said]
    assert [one for record in said if not (one := record.getMessage()).isprintable()] == []


@given(st.text(), st.text())
def test_any_text_in_a_log_line_is_printable(text: str, other: str) -> None:
    record = logger.makeRecord(logger.name, 10, "", 0, "%s %r %d %g", (text, other, 7, 0.5), None)

    assert logger.filter(record)

    said = record.getMessage()
    assert said.isprintable()
    assert said.endswith(" 7 0.5")
    assert text in said or not text.isprintable()


def test_every_line_with_text_is_tested_and_written_by_the_one_logger() -> None:
    modules = sorted(Path(langgraph_session_saver.__file__).parent.rglob("*.py"))
    calls = [
        node
        for file in modules
        if file.name != "log.py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    lines = {
        argument.value
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "logger"
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }
    made = [call for call in calls if ast.unparse(call) == "logging.getLogger(__name__)"]

    assert {line for line in lines if "%s" in line or "%r" in line} == LINES.keys()
    assert made == []

"""Credentials of a config reach neither the database nor logs; other metadata stays as it is."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from sqlalchemy import inspect
from sqlalchemy import text as sql_text

from langgraph_session_saver import SECRET_KEYS, InvalidConfigError, SessionSaver
from langgraph_session_saver.redaction import SecretKeys, without_credentials
from tests.support.backends import EACH_ONCE, Backend, Sql
from tests.support.rows import State, chain, config, fails, one, put, run
from tests.support.savers import SaverFactory

BACKENDS_AND_FACES = EACH_ONCE

SECRET = "swordfish4711"

CREDENTIALS = {
    "api_key": SECRET,
    "openaiApiKey": SECRET,
    "X-Auth-Token": SECRET,
    "AUTHORIZATION": f"Bearer {SECRET}",
    "db_password": SECRET,
    "client_secret": SECRET,
}

KEPT: dict[str, Any] = {
    "max_tokens": 3,
    "token_usage": "4",
    "tokens": 5,
    "secretary": "Ann",
    "langgraph_token": "x",
}


def holds(backend: Backend, secret: str) -> list[str]:
    """The columns that contain a secret; the serialiser leaves text in metadata readable."""
    engine, found = backend.engine(), []
    with engine.connect() as conn:
        for table in inspect(engine).get_table_names():
            for row in conn.execute(sql_text(f"SELECT * FROM {table}")).mappings():
                for column, value in row.items():
                    data = bytes(value) if isinstance(value, bytes | memoryview) else repr(value)
                    needle = secret.encode() if isinstance(data, bytes) else secret
                    if needle in data:  # type: ignore[operator]
                        found.append(f"{table}.{column}")
    return found


async def metadata_of(saver: SessionSaver, thread: str = "t") -> Any:
    found = await saver.aget_tuple(config(thread))
    assert found is not None
    return found.metadata


async def test_credentials_of_a_config_are_not_stored(
    saver: SessionSaver, backend: Backend
) -> None:
    graph = chain(saver, {"note": 1})

    await run(graph, {}, {**config(**CREDENTIALS, **KEPT), "metadata": dict(CREDENTIALS)})

    assert holds(backend, SECRET) == []
    metadata = await metadata_of(saver)
    assert metadata.keys() & CREDENTIALS.keys() == set()
    assert {name: metadata[name] for name in KEPT} == KEPT


async def test_credentials_of_a_config_are_not_logged(
    saver: SessionSaver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    graph = chain(saver, {"build_status": 7})  # which is logged: it is no status
    await run(graph, {}, config(**CREDENTIALS))
    error = await fails(saver.aget_tuple(config("", **CREDENTIALS)), InvalidConfigError)

    assert "build_status" in caplog.text
    assert SECRET not in caplog.text + str(error)


async def test_credentials_in_nested_metadata_are_not_stored(
    saver: SessionSaver, backend: Backend
) -> None:
    headers = {"Authorization": SECRET, "Accept": "text/html"}

    await put(saver, 1, {}, call={"headers": headers}, calls=[{"cookie": SECRET}, 7])

    assert holds(backend, SECRET) == []
    metadata = await metadata_of(saver)
    assert metadata["call"] == {"headers": {"Accept": "text/html"}}
    assert metadata["calls"] == [{}, 7]


async def test_a_filter_finds_no_checkpoint_by_a_credential(saver: SessionSaver) -> None:
    await put(saver, 1, {}, config(api_key=SECRET))

    by_secret = [found async for found in saver.alist(config(), filter={"api_key": SECRET})]
    by_absence = [found async for found in saver.alist(config(), filter={"api_key": None})]

    assert (len(by_secret), len(by_absence)) == (0, 1)


async def test_credentials_are_not_imported(saver: SessionSaver, backend: Backend) -> None:
    other = InMemorySaver()
    await run(chain(other, {"note": 1}), {}, config(**CREDENTIALS))

    await saver.aimport_from(other)

    assert holds(backend, SECRET) == []
    assert (await metadata_of(saver))["source"] == "loop"


async def test_names_of_langgraph_are_kept_whatever_they_contain(saver: SessionSaver) -> None:
    await put(saver, 1, {}, parents={"token": "x"}, counters_since_delta_snapshot={"token": (1, 1)})

    metadata = await metadata_of(saver)
    assert metadata["parents"] == {"token": "x"}
    assert list(metadata["counters_since_delta_snapshot"]) == ["token"]


async def test_an_application_adds_keys(make_saver: SaverFactory, backend: Backend) -> None:
    saver = make_saver(redact=[*SECRET_KEYS, "account number"])

    await put(saver, 1, {}, config(accountNumber=SECRET, api_key=SECRET))

    assert holds(backend, SECRET) == []


async def test_the_texts_of_errors_show_no_values_of_an_applications_keys(
    make_saver: SaverFactory, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    def call(_state: State) -> State:
        number = "".join(reversed(SECRET))  # the traceback shows the source
        raise ValueError(f"no such account: account_number={number[::-1]}")

    saver = make_saver(redact=[*SECRET_KEYS, "account number"])
    bad: State = {"build_status": [f"account_number={SECRET}"]}

    await run(chain(saver, bad), {}, config("bad value"))
    await fails(run(chain(saver, call), {}, config("error")), ValueError)

    assert "account_number" in caplog.text
    assert SECRET not in caplog.text
    shown = sql("SELECT message, stack FROM session_errors")
    assert len(shown) == 2
    assert SECRET not in str(shown)
    found = await saver.aget_tuple(config("error"))
    assert found is not None
    [error] = [write[2] for write in found.pending_writes or () if write[1] == "__error__"]
    assert str(error).startswith("ValueError('no such account: account_number=[redacted]")


async def test_an_application_may_store_them(make_saver: SaverFactory) -> None:
    saver = make_saver(redact=())

    await put(saver, 1, {}, config(api_key=SECRET))

    assert (await metadata_of(saver))["api_key"] == SECRET


@pytest.mark.parametrize("redact", ["api_key", [7]])
def test_what_is_no_list_of_names_is_refused(make_saver: SaverFactory, redact: Any) -> None:
    with pytest.raises(InvalidConfigError, match="pass the names of keys"):
        make_saver(redact=redact)


async def test_credentials_in_the_text_of_an_error_are_not_stored(
    saver: SessionSaver, backend: Backend, sql: Sql
) -> None:
    def call(_state: State) -> State:
        key = "".join(reversed(SECRET))  # the traceback shows the source
        raise ValueError(f"401 for Authorization: Bearer {key[::-1]} at db://ada:{key[::-1]}@host")

    await fails(run(chain(saver, call), {}), ValueError)

    assert holds(backend, SECRET) == []
    shown = "401 for Authorization: [redacted] at db://ada:***@host"
    assert one(sql, "session_errors")["message"] == shown
    found = await saver.aget_tuple(config())
    assert found is not None
    [(_, _, error)] = [write for write in found.pending_writes or () if write[1] == "__error__"]
    assert error == f"ValueError('{shown}')"


async def test_an_error_without_credentials_is_stored_as_langgraph_writes_it(
    saver: SessionSaver,
) -> None:
    other = InMemorySaver()
    for graph in (chain(saver, {}, fail), chain(other, {}, fail)):
        await fails(run(graph, {}), ValueError)

    ours, theirs = await saver.aget_tuple(config()), await other.aget_tuple(config())

    assert ours is not None
    assert theirs is not None
    assert [w[1:] for w in ours.pending_writes or ()] == [
        w[1:] for w in theirs.pending_writes or ()
    ]


def fail(_state: State) -> State:
    raise ValueError("the token limit is 3: max_tokens=3")


async def test_credentials_in_a_value_that_does_not_validate_are_neither_stored_nor_logged(
    saver: SessionSaver, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "langgraph_session_saver"):
        await put(saver, 1, {"build_status": {"api_key": SECRET}})

    assert "{'api_key': '[redacted]'}" in one(sql, "session_errors")["message"]
    assert SECRET not in caplog.text


def test_a_saver_shows_no_password(make_saver: SaverFactory) -> None:
    assert "://" not in repr(make_saver())


@pytest.mark.parametrize(
    ("key", "is_secret"),
    [
        ("token", True), ("Token", True), ("accessToken", True), ("GITHUB_TOKEN", True),
        ("x-api-key", True), ("apikey", True), ("APIKey", True), ("api.key", True),
        ("password2", True), ("cookies", True), ("aws credentials", True),
        ("tokens", False), ("max_tokens", False), ("token_usage", False), ("tokenizer", False),
        ("secretary", False), ("author", False), ("key", False), ("", False),
    ],
)  # fmt: skip
def test_a_key_is_secret_if_its_last_words_are(key: str, is_secret: bool) -> None:
    assert SecretKeys().match(key) is is_secret


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Bearer abc.def-1", "Bearer [redacted]"),
        ("authorization: Basic YTpi, next", "authorization: [redacted] next"),
        ("{'api_key': 'a b', 'n': 1}", "{'api_key': '[redacted]', 'n': 1}"),
        ('{"api_key": "a\\" b", "n": 1}', '{"api_key": "[redacted]", "n": 1}'),
        (r"'{\"token\": \"ab\", \"n\": 1}'", r"'{\"token\": \"[redacted]\", \"n\": 1}'"),
        ("GET http://h/?n=1&token=abc 401", "GET http://h/?n=1&token=[redacted] 401"),
        ("host=h password=a,b&c user=x", "host=h password=[redacted] user=x"),
        ("password='cut of", "password='[redacted]'"),
        ("db://ada:a@b/c:d@host/db", "db://ada:***@host/db"),
        ("Cookie: a=b; c=d\nnext", "Cookie: [redacted]\nnext"),
        ("Incorrect API key provided: sk-abcdefghijklmnop1234.",
         "Incorrect API key provided: [redacted]."),
        ("Access denied (using password: YES)", "Access denied (using password: YES)"),
        ("max_tokens=10: 12 tokens", "max_tokens=10: 12 tokens"),
        ("http://host:80/path, ada@example.com", "http://host:80/path, ada@example.com"),
    ],
)  # fmt: skip
def test_credentials_in_a_text_are_replaced(said: str, shown: str) -> None:
    assert without_credentials(said) == shown


@pytest.mark.parametrize(
    "repeated",
    ["://", "://:", "a", "a-", "a=", "token=", "token='", 'pwd=\\"', "bearer ", "eyJa.", "cookie:"],
)
def test_a_text_that_repeats_the_start_of_a_credential_is_searched_once(repeated: str) -> None:
    text = repeated * (300_000 // len(repeated))  # a pattern that backtracks takes hours

    assert without_credentials(text)

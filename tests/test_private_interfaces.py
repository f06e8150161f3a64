"""Private names of other libraries: all that the package uses, and whether each is still there.

A name is private if it begins with an underscore and its library does not document it. An upgrade
may take one away without notice. The test of that name then fails and says where it is used and
why. Another test compares the list with the package's source, so that the list stays complete.
"""

from __future__ import annotations

import ast
import inspect
import json
import operator
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.mysql.pymysql import PyMySQLSaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import Send
from sqlalchemy import QueuePool, column, create_engine, event, select

import langgraph_session_saver
from langgraph_session_saver.migrate import _scripts
from tests.support.graphs import Log, ask, line_of, says, thread

PACKAGE = langgraph_session_saver.__name__
ROOT = Path(langgraph_session_saver.__file__).parent


class Use(NamedTuple):
    """A private name, and what of it the package relies on."""

    library: str
    """The distribution, as pip names it."""
    owner: str
    name: str
    parts: tuple[str, ...]
    """The packages and modules that use it, of those right below ours."""
    why: str
    check: Callable[[], None]
    """Raises an exception where the installed version has it no longer, or otherwise."""


# -- SQLAlchemy ---------------------------------------------------------------------------------


def has_events() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as conn:
        for target, name in (
            (conn, "before_cursor_execute"),
            (engine, "before_cursor_execute"),
            (engine.dialect, "do_execute"),
        ):
            assert not target._has_events, target
            event.listen(target, name, lambda *_rest: None)
            assert target._has_events, target


def result_columns() -> None:
    compiled: Any = select(column("x")).compile()
    (found,) = compiled._result_columns
    assert found.keyname == "x"
    assert found.type is not None


def json_functions() -> None:
    dialect: Any = create_engine(
        "sqlite://", json_serializer=json.dumps, json_deserializer=json.loads
    ).dialect
    assert dialect._json_serializer is json.dumps
    assert dialect._json_deserializer is json.loads


def max_overflow() -> None:
    assert QueuePool(lambda: None, max_overflow=7)._max_overflow == 7  # type: ignore[arg-type]


def invalidate_pool() -> None:
    engine = create_engine("sqlite://", poolclass=QueuePool)
    with engine.connect() as lost, engine.connect() as resting:
        was = resting.connection.dbapi_connection
        resting.close()
        engine.pool._invalidate(lost.connection)
    with engine.connect() as conn:
        assert conn.connection.dbapi_connection is not was


# -- Alembic ------------------------------------------------------------------------------------


def revisions_between() -> None:
    scripts = _scripts()
    up = scripts._upgrade_revs("head", None)  # type: ignore[arg-type]
    down = scripts._downgrade_revs("base", scripts.get_current_head())
    assert len(up) == len(down) > 1


# -- Pydantic -----------------------------------------------------------------------------------


def state_of_models() -> None:
    message = AIMessage("hi", id="m")
    state = message.__getstate__()
    assert state == {
        "__dict__": message.__dict__,
        "__pydantic_fields_set__": {"content", "id"},
        "__pydantic_extra__": {},
        "__pydantic_private__": None,
    }
    made = AIMessage.__new__(AIMessage)
    made.__setstate__(state)
    assert made == message
    assert made.__pydantic_fields_set__ == message.__pydantic_fields_set__
    assert made.__pydantic_extra__ == {}
    assert made.__pydantic_private__ is None


# -- the official savers ------------------------------------------------------------------------


def cursors_of_savers() -> None:
    for saver in (PostgresSaver, AsyncPostgresSaver, PyMySQLSaver):
        given = list(inspect.signature(saver._cursor).parameters.values())[1:]
        assert all(one.default is not one.empty for one in given), saver


def column_of_task_paths() -> None:
    assert SqliteSaver._has_task_path is True


# -- LangGraph ----------------------------------------------------------------------------------


class Stored(NamedTuple):
    """Names in what LangGraph gave a saver to store."""

    channels: set[str]
    seen: set[str]
    """The keys of `versions_seen`."""
    written: set[str]
    """The channels of writes."""
    paths: set[str]
    """The task paths of writes."""


@cache
def stored() -> Stored:
    """Names from a run with parallel nodes that join, two `Send`s, an interrupt and an error."""

    def say(_state: Log) -> Log:
        return {"log": ["said"]}

    def explode(_state: Any) -> Any:
        raise ValueError("out of flour")

    builder: Any = StateGraph(Log)
    for name in ("a", "b", "both"):
        builder.add_node(name, say)
    builder.add_node("ask", ask("who?"))
    builder.add_node("explode", explode)
    builder.add_edge(START, "a")
    builder.add_edge(START, "b")
    builder.add_edge(["a", "b"], "both")
    sends = [Send("ask", {}), Send("explode", {})]
    builder.add_conditional_edges("both", lambda _state: sends, ["ask", "explode"])
    return names_of(builder, {"log": []})


def names_of(builder: StateGraph[Any], *inputs: Any, **options: Any) -> Stored:
    saver = InMemorySaver()
    graph = builder.compile(checkpointer=saver)
    for given in inputs:
        with suppress(ValueError):
            graph.invoke(given, thread("t"), durability="sync", **options)
    found = [one.checkpoint for one in saver.list(thread("t"))]
    writes = [write for of_one in saver.writes.values() for write in of_one.values()]
    return Stored(
        {name for one in found for name in one["channel_versions"]},
        {name for one in found for name in one["versions_seen"]},
        {write[1] for write in writes},
        {write[3] for write in writes},
    )


def input_channel() -> None:
    assert "__start__" in stored().channels


def keys_of_versions_seen() -> None:
    builder = line_of(("a", says("a")), ("b", says("b")))
    seen = names_of(builder, {"log": []}, None, interrupt_before=["b"]).seen
    assert seen == {"__input__", "__interrupt__", "__start__", "a", "b"}


def error_channel() -> None:
    assert "__error__" in stored().written


def root_channel() -> None:
    state: Any = Annotated[list[str], operator.add]
    builder: StateGraph[Any] = StateGraph(state)
    builder.add_node("a", lambda _state: ["a"])
    builder.add_edge(START, "a")
    assert "__root__" in names_of(builder, ["in"]).channels


def remove_all() -> None:
    assert REMOVE_ALL_MESSAGES == "__remove_all__"


def task_paths() -> None:
    assert any(re.match(r"~__pregel_pull, a\b", path) for path in stored().paths)
    assert any(re.match(r"~__pregel_push, \d+, ", path) for path in stored().paths)


def channels_of_edges() -> None:
    assert {"branch:to:a", "join:a+b:both"} <= stored().channels


# -- the list -----------------------------------------------------------------------------------

USES = (
    Use(
        "sqlalchemy", "Engine, Connection, Dialect", "_has_events", ("sql",),
        "to run a statement past `Connection` only where nobody listens", has_events,
    ),
    Use(
        "sqlalchemy", "SQLCompiler", "_result_columns", ("sql",),
        "to name and convert the columns of a compiled statement's rows", result_columns,
    ),
    Use(
        "sqlalchemy", "Dialect", "_json_serializer", ("sql",),
        "to share compiled statements between engines that convert JSON alike", json_functions,
    ),
    Use(
        "sqlalchemy", "Dialect", "_json_deserializer", ("sql",),
        "to share compiled statements between engines that convert JSON alike", json_functions,
    ),
    Use(
        "sqlalchemy", "QueuePool", "_max_overflow", ("sql",),
        "to tell whether a pool holds more than one connection", max_overflow,
    ),
    Use(
        "sqlalchemy", "Pool", "_invalidate", ("sql",),
        "to give up all resting connections when one is lost, as `Connection` does",
        invalidate_pool,
    ),
    Use(
        "alembic", "ScriptDirectory", "_upgrade_revs", ("migrate",),
        "to list the revisions to run, as Alembic's own commands do", revisions_between,
    ),
    Use(
        "alembic", "ScriptDirectory", "_downgrade_revs", ("migrate",),
        "to list the revisions to run, as Alembic's own commands do", revisions_between,
    ),
    *[
        Use(
            "pydantic", "BaseModel", name, ("encoding",),
            "to build messages without validating them", state_of_models,
        )
        for name in ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
    ],
    Use(
        "langgraph-checkpoint-postgres", "PostgresSaver", "_cursor", ("transfer",),
        "to read the thread ids and task paths, which its methods do not tell", cursors_of_savers,
    ),
    Use(
        "langgraph-checkpoint-sqlite", "SqliteSaver", "_has_task_path",
        ("transfer",),
        "to read files from before there were task paths", column_of_task_paths,
    ),
    Use(
        "langgraph", "checkpoints", "__start__", ("projection", "retention"),
        "to tell which nodes run next", input_channel,
    ),
    Use(
        "langgraph", "checkpoints", "__input__", ("inspection",),
        "to tell nodes from other keys of `versions_seen`", keys_of_versions_seen,
    ),
    Use(
        "langgraph", "checkpoints", "__interrupt__", ("inspection",),
        "to tell nodes from other keys of `versions_seen`", keys_of_versions_seen,
    ),
    Use(
        "langgraph", "writes", "__error__", ("projection",),
        "to name the channel that becomes rows of `session_errors`", error_channel,
    ),
    Use(
        "langgraph", "checkpoints", "__root__", ("inspection",),
        "to show the channel of a state that is one value", root_channel,
    ),
    Use(
        "langgraph", "RemoveMessage", "__remove_all__", ("inspection", "projection"),
        "to replay writes of messages", remove_all,
    ),
    Use(
        "langgraph", "task paths", "__pregel_pull", ("projection",),
        "to name the node of a task", task_paths,
    ),
    Use(
        "langgraph", "task paths", "__pregel_push", ("projection",),
        "to name the node of a `Send` task", task_paths,
    ),
    Use(
        "langgraph", "checkpoints", "branch:to:",
        ("inspection", "projection", "retention"),
        "to tell which nodes run next", channels_of_edges,
    ),
    Use(
        "langgraph", "checkpoints", "join:",
        ("inspection", "projection", "retention"),
        "to tell which nodes run next", channels_of_edges,
    ),
)  # fmt: skip

OWN = {("saver", "_runner"), ("saver", "_work_in")}
"""Private attributes of the package's own objects, used from outside of these objects."""


@pytest.mark.parametrize("use", USES, ids=lambda use: f"{use.library}-{use.owner}.{use.name}")
def test_an_installed_library_still_has_a_private_name_that_the_package_uses(use: Use) -> None:
    try:
        use.check()
    except Exception as exc:  # noqa: BLE001 - whatever an upgrade brings about
        problem = f"{type(exc).__name__}: {exc}"
    else:
        return
    pytest.fail(
        f"`{use.name}` of {use.owner} is missing or different in {use.library} "
        f"{version(use.library)}. It is used in {' and '.join(use.parts)} {use.why}. {problem}",
        pytrace=False,
    )


def test_the_list_names_every_private_name_that_the_package_uses() -> None:
    listed = {(part, use.name) for use in USES for part in use.parts}
    used = {
        (file.relative_to(ROOT).with_suffix("").parts[0], name)
        for file in ROOT.rglob("*.py")
        for name in private_names(file)
    }

    missing, stale = used - listed - OWN, (listed | OWN) - used
    assert not missing, f"use a public name, or add to USES: {sorted(missing)}"
    assert not stale, f"no longer used, remove from USES or OWN: {sorted(stale)}"


def test_private_names_are_found_as_attributes_imports_and_strings(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        '"""A docstring may name __this__."""\n'
        "from library._internal import one\n"
        "from library import _two, three as _four\n"
        "import library._five\n"
        "class Ours(library.Base):\n"
        "    __slots__ = ('_own',)\n"
        "    def set(self):\n"
        "        self._inherited_from_library(_sys.path, super()._six)\n"
        "        return row._replace(other.__doc__, other._seven)\n"
        "getattr(engine, '_eight', f'{engine}_no'.removesuffix('_no'))\n"
        "channel = 'is __nine__ here'\n"
    )

    assert set(private_names(file)) == {
        *("_internal", "_two", "_five", "_inherited_from_library", "_six", "_seven", "_eight"),
        "__nine__",
    }


# -- how they are found -------------------------------------------------------------------------

DOCUMENTED = {
    *("_asdict", "_fields", "_make", "_replace"),  # typing.NamedTuple
    "_mapping",  # sqlalchemy.Row
}

OF_PYTHON = {
    *("__annotations__", "__cause__", "__class__", "__context__", "__dict__", "__doc__"),
    *("__enter__", "__exit__", "__aenter__", "__aexit__", "__file__", "__future__", "__init__"),
    *("__getitem__", "__main__", "__module__", "__mro__", "__name__", "__new__", "__path__"),
    *("__qualname__", "__setstate__", "__getstate__", "__signature__", "__traceback__"),
    *("__version__", "__wrapped__", "__notes__", "__slots__", "__all__", "__self__", "__func__"),
}

IN_TEXT = re.compile(r"__[a-z]\w*|^_[a-z]\w*$|branch:to:|join:")
"""Names in a string; those with one underscore only where they are the whole string."""

AFFIX_METHODS = {"endswith", "removeprefix", "removesuffix", "replace", "startswith", "strip"}


def private_names(file: Path) -> Iterator[str]:
    """The private names of other libraries that a module uses, as attributes or in strings."""
    tree = ast.parse(file.read_text())
    own = names_defined()
    own_alone = own - {use.name for use in USES}
    skipped, parts_of_texts = set(docstrings_and_slots(tree)), set(affixes(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if is_private(node.attr) and not (is_self(node.value) and node.attr in own):
                yield node.attr
        elif isinstance(node, ast.Import):
            yield from filter(is_private, (part for a in node.names for part in a.name.split(".")))
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".")
            if parts[0] != PACKAGE and not node.level:
                yield from filter(is_private, [*parts, *(alias.name for alias in node.names)])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_skipped = node in skipped or node.value in own_alone
            found = [] if is_skipped else filter(is_private, IN_TEXT.findall(node.value))
            is_part = node in parts_of_texts
            yield from (name for name in found if not (is_part and re.match("_[a-z]", name)))


def is_private(name: str) -> bool:
    return name not in DOCUMENTED | OF_PYTHON and bool(IN_TEXT.fullmatch(name))


def is_self(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


@cache
def names_defined() -> frozenset[str]:
    """All names that the package gives to functions, classes, variables and attributes."""
    found: set[str] = set()
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    return frozenset(found)


def docstrings_and_slots(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__":
            yield from ast.walk(node.value)


def affixes(tree: ast.Module) -> Iterator[ast.AST]:
    """Parts of f-strings, and what a text is said to begin or to end with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield from node.values
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            for argument in node.args if node.func.attr in AFFIX_METHODS else ():
                yield from ast.walk(argument)

"""The command line, run as a process: output and exit code of each command."""

from __future__ import annotations

import os
import pty
import re
import secrets
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer
from langchain_core.messages import AIMessage
from sqlalchemy import make_url

from langgraph_session_saver import SessionSaver
from langgraph_session_saver.cli import demo_graph
from langgraph_session_saver.cli.app import app
from langgraph_session_saver.schema.tables import SCHEMA_VERSION
from langgraph_session_saver.sql.dialects.sqlite import LOG_LIMIT
from tests.support.backends import Backend, Sql
from tests.support.command_line import PRELOADED_TOO, CommandLine
from tests.support.rows import chain
from tests.support.servers import PASSWORD, free_port
from tests.support.workloads import on
from tests.support.zygote import Zygote

SQLITE = pytest.mark.parametrize("backend_name", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def program() -> Iterator[Zygote]:
    """Forks processes in which the command line is imported."""
    with Zygote(PRELOADED_TOO) as zygote:
        yield zygote


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, program: Zygote) -> Path:
    """A file with the demo's three threads; no test changes it."""
    folder = tmp_path_factory.mktemp("demo")
    done = CommandLine(program, folder)("demo", "--url", str(folder / "demo.db"))
    assert (done.code, done.err) == (0, "")
    return folder / "demo.db"


@pytest.fixture
def cli(program: Zygote, tmp_path: Path, demo: Path) -> CommandLine:
    """The command line on the demo's database."""
    return CommandLine(program, tmp_path, LANGGRAPH_SESSION_SAVER_URL=str(demo))


@pytest.fixture
def own(cli: CommandLine, demo: Path, tmp_path: Path, program: Zygote) -> CommandLine:
    """The command line on a copy of the demo's database, `own.db`, which tests may change."""
    shutil.copy(demo, tmp_path / "own.db")
    keys = {"LANGGRAPH_AES_KEY": "new key, 16bytes", "LANGGRAPH_AES_KEY_OLD": "old key, 16bytes"}
    url = str(tmp_path / "own.db")
    return CommandLine(program, tmp_path, LANGGRAPH_SESSION_SAVER_URL=url, **keys)


def checkpoints(cli: CommandLine, thread: str = "demo-bakery") -> list[str]:
    """A thread's checkpoint ids, newest first."""
    return [one["checkpoint_id"] for one in cli("history", thread, "--json").json["entries"]]


# -- every command ---

LOOKING = {
    "sessions list": ("demo-garage", "Bakery", "building", "interrupted"),
    "sessions show demo-bakery": ("Here it is, in tomato.", "515 in 2 calls"),
    "threads list": ("interrupted: ask", "error: build", "done"),
    "history demo-bakery": ("5 checkpoints", "→ build", "colour"),
    "show demo-bakery": ("'tomato'", "next nodes  none"),
    "diff demo-bakery FIRST LAST": ("+ colour  added", "tomato"),
    "errors": ("a name with < in it",),
    "usage": ("builder", "large", "0.002200"),
    "stats": ("session_blobs", "messages", "demo-bakery"),
    "db current": (f"{SCHEMA_VERSION} (head)",),
    "db history": ("0001", "0002", "0003", "0004", "0005", "0006"),
    "db check": ("no differences",),
    "db sql --dialect postgresql": ("CREATE TABLE sessions", "COMMIT"),
    "doctor": ("no damage found",),
}
CHANGING = {
    "demo --url more.db": ("created 3 threads in more.db", "history demo-bakery"),
    "sessions delete demo-bakery --yes": ("deleted: session 'demo-bakery' with 1 thread",),
    "prune demo-bakery --keep-last 2 --yes": ("deleted 3 checkpoints",),
    "sweep --idle-for 1w --yes": ("deleted 0 checkpoints",),
    "db upgrade": (f"at revision {SCHEMA_VERSION} (unchanged)",),
    "db downgrade 0003 --yes": (f"at revision 0003 (was {SCHEMA_VERSION})",),
    "db vacuum": ("size", "before", "after", "given back"),
    "backup monday.backup": (" rows in monday.backup",),
    "restore demo.backup": ("0 rows written, ",),
    "copy own.db other.db": (" rows written, 0 existed already",),
    "rotate-key": ("0 values re-encrypted, 71 in clear encrypted, 0 had the key already",),
    "import old.db": ("imported 1 thread, 3 checkpoints",),
}


@pytest.mark.parametrize("line", LOOKING)
def test_every_reading_command_prints_its_result(cli: CommandLine, line: str) -> None:
    ids = checkpoints(cli) if "FIRST" in line else ["", ""]
    words = line.replace("FIRST", ids[-1]).replace("LAST", ids[0]).split()

    done = cli.as_installed(*words)

    assert (done.code, done.err) == (0, "")
    for fragment in LOOKING[line]:
        assert fragment in done.out
    assert all(len(row) <= 100 for row in done.out.splitlines()) or line.startswith("db sql")


@pytest.mark.parametrize("line", CHANGING)
def test_every_writing_command_says_what_it_did(
    own: CommandLine, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if line.startswith("restore"):
        assert own("backup", str(tmp_path / "demo.backup")).code == 0
    if line.startswith("import"):
        make_official(tmp_path / "old.db")

    done = own.as_installed(*line.split())

    assert done.code == 0, done.err
    assert "Error" not in done.err
    for fragment in CHANGING[line]:
        assert fragment in done.out


def make_official(path: Path) -> None:
    """Create a file of the official saver with an interrupted thread."""
    from langgraph.checkpoint.sqlite import SqliteSaver  # noqa: PLC0415

    with SqliteSaver.from_conn_string(str(path)) as saver:
        demo_graph.run_all(saver, ["demo-garage"])
        saver.conn.execute("UPDATE checkpoints SET thread_id = 'official'")
        saver.conn.execute("UPDATE writes SET thread_id = 'official'")
        saver.conn.commit()


def command_names(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from command_names(one, (*path, name))
        else:
            yield (*path, name)


def test_every_command_is_tested_above() -> None:
    tried = [tuple(line.split()) for line in (*LOOKING, *CHANGING)]
    for name in command_names(typer.main.get_command(app)):
        assert any(line[: len(name)] == name for line in tried), name


def test_the_help_of_every_command_shows_an_example(cli: CommandLine) -> None:
    for name in command_names(typer.main.get_command(app)):
        done = cli(*name, "--help")
        assert done.code == 0
        assert f"$ langgraph-session-saver {' '.join(name)}" in done.out, name


def test_without_a_command_the_help_is_shown(cli: CommandLine) -> None:
    for words in ([], ["db"]):
        done = cli(*words)
        assert (done.code, done.err) == (2, "")
        assert "Usage:" in done.out


def test_the_help_of_the_program_explains_its_exit_codes(cli: CommandLine) -> None:
    done = cli("--help")
    assert re.search(r"Exit codes: 0 .*1 .*2 .*3 .*4 .*5 ", " ".join(done.out.split()))


def test_show_of_a_session_says_which_tools_are_called(own: CommandLine, tmp_path: Path) -> None:
    call = {"name": "look_up", "args": {"q": "tea"}, "id": "c"}
    with SessionSaver.from_conn_string(str(tmp_path / "own.db")) as saver:
        chain(saver, {"messages": [AIMessage("", tool_calls=[call], id="a")]}).invoke(
            {}, on("shop")
        )

    assert '→ look_up({"q":"tea"})' in own("sessions", "show", "shop").out


# -- JSON ---

KEYS = {
    "sessions list": {"sessions", "next"},
    "sessions show demo-bakery": {
        "session", "threads", "messages", "versions", "open_errors", "usage"
    },
    "threads list": {"total", "threads", "next"},
    "history demo-bakery": {"thread_id", "checkpoint_ns", "entries", "older"},
    "show demo-bakery": {
        "thread_id", "checkpoint_ns", "checkpoint_id", "parent_id", "run_id", "step", "source",
        "time", "due", "metadata", "values", "writes",
    },
    "diff demo-bakery FIRST": {"thread_id", "checkpoint_ns", "a", "b", "channels", "same"},
    "errors": {"errors", "next"},
    "usage": {"by", "usage", "sum"},
    "stats": {"measured", "bytes", "tables", "channels", "threads"},
    "prune demo-bakery --keep-last 1 --dry-run": {
        "threads", "checkpoints", "blobs", "deleted_threads", "done"
    },
    "sweep --older-than 90d --dry-run": {
        "threads", "checkpoints", "blobs", "deleted_threads", "done"
    },
    "db current": {"current", "head", "is_head"},
    "db history": {"revisions"},
    "db check": {"equal", "differences"},
    "db sql": {"from", "to", "sql"},
    "doctor": {"ok", "findings"},
}  # fmt: skip
KEYS_OF_CHANGES = {
    "demo --url more.db": {"url", "made", "next"},
    "sessions delete demo-bakery --yes": {"session_id", "threads", "deleted", "soft"},
    "db upgrade": {"before", "after", "head"},
    "db downgrade base --yes": {"before", "after", "head"},
    "backup monday.backup": {"file", "bytes", "rows"},
    "copy own.db other.db": {"written", "kept"},
    "db vacuum": {"before", "after", "note"},
    "db vacuum --dry-run": {"before", "after", "note"},
}


@pytest.mark.parametrize("line", KEYS)
def test_json_output_is_alone_on_stdout_with_its_keys(cli: CommandLine, line: str) -> None:
    first = checkpoints(cli)[-1] if "FIRST" in line else ""
    done = cli(*line.replace("FIRST", first).split(), "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json.keys() == KEYS[line]


@pytest.mark.parametrize("line", KEYS_OF_CHANGES)
def test_json_output_of_writing_commands_has_its_keys(
    own: CommandLine, line: str, tmp_path: Path
) -> None:
    words = [str(tmp_path / word) if "." in word else word for word in line.split()]
    done = own(*words, "--json")
    assert done.code == 0, done.err
    assert done.json.keys() == KEYS_OF_CHANGES[line]


def test_json_output_agrees_with_the_table(cli: CommandLine) -> None:
    [error] = cli("errors", "--json").json["errors"]
    assert error["thread_id"] == "demo-florist"
    assert error["stack"].startswith("Traceback")
    usage = cli("usage", "--by", "agent", "--json").json
    assert [row["agent_type"] for row in usage["usage"]] == ["builder", "planner"]
    assert usage["sum"]["total_tokens"] == 625


def test_columns_that_no_session_uses_are_left_out(own: CommandLine, tmp_path: Path) -> None:
    unused = ("owner", "build", "type", "page", "title", "model", "round")
    with SessionSaver.from_conn_string(tmp_path / "own.db") as saver:
        for session in saver.sessions.list():
            saver.sessions.delete(session.id)
        saver.sessions.create("plain")
        plain = own("sessions", "list").out + own("sessions", "show", "plain").out
        assert [word for word in unused if word in plain] == []

        saver.sessions.create("rich", title="Rich", owner_id="ada", build_status="success")
        saver.sessions.add_version("rich", "<p>")
        saver.sessions.add_version("rich", "<p>2")
    heads, *rows = own("sessions", "list").out.splitlines()

    assert heads.split()[:5] == ["session", "title", "owner", "build", "page"]
    assert ["pending" in row for row in rows] == [False, True]
    assert own("sessions", "list", "--json").json["sessions"][1]["product_type"] is None


def test_usage_shows_details_where_a_call_has_some(own: CommandLine, tmp_path: Path) -> None:
    assert "cache" not in own("usage").out
    with SessionSaver.from_conn_string(tmp_path / "own.db") as saver:
        saver.sessions.add_token_usage(
            "demo-bakery",
            agent_type="critic",
            model="large",
            input_tokens=9,
            output_tokens=1,
            cache_read_tokens=5,
        )
    heads, *rows = own("usage", "--by", "agent").out.splitlines()

    assert re.split("  +", heads) == [
        "agent", "calls", "input", "cache read", "output", "total", "cost (USD)"
    ]  # fmt: skip
    assert [row.split()[3] for row in rows] == ["0", "0", "5", "5"]
    assert own("usage", "--json").json["sum"]["reasoning_tokens"] == 0


# -- which thread ---


def test_a_thread_is_found_by_a_prefix_of_its_id(cli: CommandLine) -> None:
    for start in ("demo-b", "demo-bakery"):
        assert cli("history", start, "--json").json["thread_id"] == "demo-bakery"
    assert cli("sessions", "show", "demo-g", "--json").json["session"]["id"] == "demo-garage"


def test_an_ambiguous_prefix_names_the_threads_that_match(cli: CommandLine) -> None:
    for words in (["history"], ["show"], ["sessions", "show"], ["prune", "--delete", "--yes"]):
        done = cli(*words, "demo-")
        assert (done.code, done.out) == (3, "")
        assert "(demo-bakery, demo-florist, demo-garage)" in done.err


def test_a_whole_id_is_found_although_others_start_with_it(
    own: CommandLine, tmp_path: Path
) -> None:
    with SessionSaver.from_conn_string(tmp_path / "own.db") as saver:
        saver.copy_thread("demo-bakery", "demo-bakery-2")
    assert own("history", "demo-bakery", "--json").json["thread_id"] == "demo-bakery"
    assert own("history", "demo-bak").code == 3


@pytest.mark.parametrize(
    "words",
    [["history", "nobody"], ["show", "demo-b", "ffff"], ["diff", "demo-b", "1", "2"],
     ["sessions", "show", "nobody"], ["sessions", "delete", "nobody", "--yes"]],
)  # fmt: skip
def test_a_missing_object_exits_with_3(own: CommandLine, words: list[str]) -> None:
    done = own(*words)
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("Error: ")


def test_a_checkpoint_is_found_by_a_prefix_of_its_id(cli: CommandLine) -> None:
    ids = checkpoints(cli)
    shortest = next(n for n in range(1, 36) if sum(i.startswith(ids[-1][:n]) for i in ids) == 1)
    assert cli("show", "demo-b", ids[-1][:shortest], "--json").json["checkpoint_id"] == ids[-1]
    assert cli("show", "demo-b", ids[-1][: shortest - 1]).code == 3


def test_threads_are_listed_a_page_at_a_time(cli: CommandLine) -> None:
    shown = cli("threads", "list", "--limit", "2", COLUMNS="300").out.splitlines()[-1]
    cursor = re.fullmatch(r"2 of 3 threads, more: --after (\S+)", shown)
    assert cursor is not None

    last = cli("threads", "list", "--after", cursor[1], "--json").json

    assert ([one["status"] for one in last["threads"]], last["next"]) == (["done"], None)


def test_sessions_are_listed_by_the_status_of_their_threads(cli: CommandLine) -> None:
    found = cli("sessions", "list", "--status", "error", "--json").json["sessions"]
    assert [one["id"] for one in found] == ["demo-florist"]


# -- how it ends ---


@pytest.mark.parametrize(
    "words",
    [["wat"], ["history"], ["threads", "list", "--wat"], ["threads", "list", "--limit", "0"],
     ["threads", "list", "--status", "wat"], ["sessions", "list", "--status", "wat"],
     ["prune", "demo-b"], ["prune", "--keep-latest"], ["prune", "demo-b", "--all", "--delete"],
     ["sweep"], ["sweep", "--older-than", "soon"], ["usage", "--by", "colour"],
     ["history", "demo-b", "--before", ""], ["threads", "list", "--url", "oracle://x"]],
)  # fmt: skip
def test_an_invalid_argument_exits_with_2(own: CommandLine, words: list[str]) -> None:
    done = own(*words)
    assert (done.code, done.out) == (2, "")
    assert "Error: " in done.err


def test_a_missing_database_exits_with_4_and_is_not_created(
    cli: CommandLine, tmp_path: Path
) -> None:
    for words in (["threads", "list"], ["doctor"], ["prune", "--all", "--delete", "--yes"]):
        done = cli(*words, "--url", str(tmp_path / "typo.db"))
        assert done.code == 4
        assert "typo.db" in "".join((done.err + done.out).split())
    assert not (tmp_path / "typo.db").exists()


def test_without_a_url_nothing_is_created_in_the_home_directory(
    cli: CommandLine, tmp_path: Path
) -> None:
    done = cli("threads", "list", LANGGRAPH_SESSION_SAVER_URL="", HOME=str(tmp_path / "home"))
    assert done.code == 4
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "postgresql+asyncpg"])
def test_a_server_that_is_down_exits_with_4_without_showing_the_password(
    cli: CommandLine, scheme: str
) -> None:
    url = f"{scheme}://ada:secret@127.0.0.1:{free_port()}/app"
    for words in (["threads", "list"], ["doctor"], ["doctor", "--json"], ["db", "upgrade"]):
        done = cli(*words, "--url", url)
        assert done.code == 4
        assert "cannot be reached" in done.out + done.err
        assert "secret" not in done.out + done.err


def test_a_misplaced_url_shows_no_password(cli: CommandLine) -> None:
    url = "postgresql://ada:secret@127.0.0.1/app"
    for words in (["threads", "list", url], ["history", url], [url], ["threads", url, "list"]):
        done = cli(*words)
        assert done.code in {2, 3}
        assert "secret" not in done.out + done.err


def test_a_database_without_our_tables_exits_with_5_and_names_the_command(
    cli: CommandLine, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "bare.db")) as connection:
        connection.execute("CREATE TABLE theirs (id)")
    done = cli("threads", "list", "--url", str(tmp_path / "bare.db"))
    assert done.code == 5
    assert "db upgrade" in done.err
    assert cli("db", "current", "--url", str(tmp_path / "bare.db")).code == 1
    assert cli("doctor", "--url", str(tmp_path / "bare.db")).code == 1


def test_a_check_that_finds_differences_exits_with_1(own: CommandLine, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
        connection.execute("DROP INDEX idx_sessions_owner")
    done = own("db", "check", "--json")
    assert done.code == 1
    assert not done.json["equal"]
    assert "idx_sessions_owner" in str(done.json["differences"])


def test_doctor_names_the_models_without_a_price(own: CommandLine, tmp_path: Path) -> None:
    def prices() -> list[tuple[str, str]]:
        found = own("doctor", "--json").json["findings"]
        return [(one["verdict"], one["said"]) for one in found if one["what"] == "prices"]

    assert prices() == [("ok", "every model that used tokens has a cost")]
    with SessionSaver.from_conn_string(tmp_path / "own.db") as saver:
        for model, tokens in (("new", 5), ("newer", 5), ("idle", 0), ("large", 5)):
            saver.sessions.add_token_usage(
                "demo-bakery", agent_type="a", model=model, input_tokens=tokens, output_tokens=0
            )
    said = "no call has a cost of: new, newer. Add them to pricing, unless they are free"
    assert prices() == [("warning", said)]
    with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
        connection.execute("UPDATE token_usage SET cost_usd = 0")
        connection.commit()
    assert prices() == []


def test_doctor_warns_of_a_log_that_has_grown(own: CommandLine, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        log = tmp_path / "own.db-wal"
        found = own("doctor", "--json").json["findings"]
        assert ["write-ahead log", "ok", "0 B"] in [list(one.values()) for one in found]
        os.truncate(log, LOG_LIMIT + 1)
        found = own("doctor", "--json").json["findings"]
    (said,) = (one["said"] for one in found if one["what"] == "write-ahead log")
    assert said.startswith("67.1 MB: a connection that reads for long keeps it from starting anew")


def test_doctor_finds_a_damaged_row(own: CommandLine, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
        connection.execute("DELETE FROM session_threads WHERE thread_id = 'demo-bakery'")
        connection.commit()
    done = own("doctor", "--json")
    assert done.code == 1
    found = {one["what"]: one for one in done.json["findings"]}
    assert found["checkpoints"]["verdict"] == "failed"
    assert found["checkpoints"]["said"] == "5 checkpoints without a thread"


def test_doctor_finds_a_delta_without_its_base(own: CommandLine, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
        connection.execute("DELETE FROM session_blobs WHERE base_key IS NULL")
        connection.commit()
        left = connection.execute("SELECT count(*) FROM session_blobs").fetchone()[0]
    done = own("doctor", "--json")
    assert done.code == 1
    found = {one["what"]: one for one in done.json["findings"]}
    assert left
    assert found["stored values"]["verdict"] == "failed"
    assert "changes whose base value is missing" in found["stored values"]["said"]


def test_doctor_finds_changes_that_lead_to_no_whole_value(own: CommandLine, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
        connection.execute(
            "UPDATE session_blobs SET base_key = blob_key WHERE base_key IS NOT NULL"
        )
        connection.commit()
    done = own("doctor", "--json")
    assert done.code == 1
    found = {one["what"]: one for one in done.json["findings"]}
    assert found["chains"]["verdict"] == "failed"
    assert "changes that lead to no whole value" in found["chains"]["said"]


@pytest.mark.parametrize("table", ["session_checkpoints", "session_blobs", "session_writes"])
def test_doctor_names_rows_that_do_not_decode(own: CommandLine, tmp_path: Path, table: str) -> None:
    with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
        connection.execute(
            f"UPDATE {table} SET data = x'00c1' WHERE rowid = (SELECT min(rowid) FROM {table})"
        )
        connection.commit()
    for deep in ((), ("--deep",)):
        done = own("doctor", "--json", *deep)
        assert done.code == 1
        found = {one["what"]: one for one in done.json["findings"]}
        assert found[table]["verdict"] == "failed"
        assert "1 of all rows do not decode: thread 'demo-" in found[table]["said"]


def test_a_file_that_is_no_backup_exits_with_5_and_creates_nothing(
    cli: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("not a backup")
    done = cli("restore", str(tmp_path / "notes.txt"), "--url", str(tmp_path / "new.db"))
    assert done.code == 5
    assert not (tmp_path / "new.db").exists()


# -- what deletes asks first ---

DESTRUCTIVE = [
    ["sessions", "delete", "demo-bakery"],
    ["prune", "demo-bakery", "--delete"],
    ["sweep", "--idle-for", "1m"],
    ["db", "downgrade", "base"],
]


@pytest.mark.parametrize("words", DESTRUCTIVE)
def test_deleting_commands_refuse_to_run_without_a_terminal_or_yes(
    own: CommandLine, words: list[str], tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
        connection.execute("UPDATE session_threads SET updated_at = '2020-01-01 00:00:00.000000'")
        connection.commit()
    done = own(*words)
    assert done.code == 2
    assert "--yes" in done.err
    assert own("threads", "list", "--json").json["total"] == 3


def test_deleting_commands_ask_on_a_terminal(own: CommandLine) -> None:
    for answer, code, left in ((b"n\n", 1, 3), (b"y\n", 0, 2)):
        done, shown = on_terminal(own, "sessions", "delete", "demo-bakery", typed=answer)
        assert done == code
        assert "Delete session 'demo-bakery' with 1 thread?" in shown
        assert own("sessions", "list", "--json").json["sessions"].__len__() == left


def test_a_dry_run_counts_and_deletes_nothing(own: CommandLine) -> None:
    for words in (["prune", "--all", "--keep-latest"], ["sweep", "--older-than", "1m"]):
        done = own(*words, "--dry-run", "--json")
        assert (done.code, done.json["done"]) == (0, False)
    whole = own("prune", "--all", "--delete", "--dry-run", "--json").json
    assert (whole["threads"], whole["checkpoints"], whole["deleted_threads"]) == (3, 12, 3)
    assert own("prune", "--all", "--delete", "--yes", "--json").json == whole | {"done": True}
    assert own("threads", "list", "--json").json["total"] == 0


# -- how it looks ---


def on_terminal(cli: CommandLine, *words: str, typed: bytes = b"", **env: str) -> tuple[int, str]:
    """Run the command line on a terminal and return what the terminal shows."""
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    done = cli(*words, terminal=os.ttyname(theirs), **{"TERM": "xterm", **env})
    os.set_blocking(ours, False)
    shown = b""
    try:
        while got := os.read(ours, 1 << 16):
            shown += got
    except OSError:
        pass
    os.close(theirs)
    os.close(ours)
    return done.code, shown.decode()


def test_colour_is_used_on_terminals_unless_no_color_is_set(cli: CommandLine) -> None:
    colour = re.compile(r"\x1b\[[0-9;]*3[1-6]m")
    assert colour.search(on_terminal(cli, "threads", "list", NO_COLOR="")[1])
    assert not colour.search(on_terminal(cli, "threads", "list", NO_COLOR="1")[1])
    assert "\x1b" not in cli("threads", "list", NO_COLOR="").out


@pytest.mark.parametrize("width", ["60", "80", "120"])
def test_lines_fit_the_terminal_and_ids_are_not_cut(cli: CommandLine, width: str) -> None:
    for words in (["threads", "list"], ["sessions", "list"], ["history", "demo-b"], ["stats"],
                  ["errors"], ["show", "demo-b"], ["doctor"]):  # fmt: skip
        done = cli(*words, COLUMNS=width)
        assert max(map(len, done.out.splitlines())) <= int(width), words
    shown = re.findall(r"[0-9a-f]{8}-[0-9a-f]+", cli("history", "demo-b", COLUMNS=width).out)
    ids = checkpoints(cli)
    assert [[one for one in ids if one.startswith(start)] for start in shown] == [[i] for i in ids]


def test_a_progress_bar_is_shown_only_on_a_terminal(own: CommandLine, tmp_path: Path) -> None:
    words = ["backup", str(tmp_path / "a.backup"), "--yes"]
    assert "backing up" in on_terminal(own, *words)[1]
    assert own(*words).err == ""


def test_stored_text_cannot_control_the_terminal(own: CommandLine, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
        connection.execute("UPDATE sessions SET title = '\x1b]0;owned\x07 [red]x[/red]'")
        connection.execute("UPDATE session_errors SET message = '\x1b[2Jgone \u202egpj.exe\rdone'")
        connection.commit()
    assert "[red]x[/red]" in own("sessions", "list", COLUMNS="160").out
    for words in (["sessions", "list"], ["errors"], ["sessions", "show", "demo-b"]):
        assert not set("\x1b\x07\u202e\r") & set(own(*words).out)


# -- reading alone ---


READING = [
    ["threads", "list"], ["sessions", "list"], ["history", "demo-b"], ["show", "demo-b"],
    ["errors"], ["usage"], ["stats"], ["doctor"], ["db", "current"], ["db", "check"],
    ["prune", "--all", "--keep-latest", "--dry-run"], ["sweep", "--older-than", "1d", "--dry-run"],
    ["db", "vacuum", "--dry-run"],
]  # fmt: skip


def test_a_read_only_file_in_a_read_only_directory_can_be_read(
    own: CommandLine, tmp_path: Path
) -> None:
    folder = tmp_path / "shelf"
    folder.mkdir()
    shutil.copy(tmp_path / "own.db", folder / "kept.db")
    (folder / "kept.db").chmod(0o444)
    folder.chmod(0o555)
    before = (folder / "kept.db").read_bytes()
    script = tmp_path / "backup"
    try:
        for words in [*READING, ["backup", str(script)]]:
            done = own(*words, "--url", str(folder / "kept.db"), UNPRIVILEGED="1")
            assert done.code == 0, (words, done.err, done.out)
        refused = own("prune", "--all", "--delete", "--yes", "--url", str(folder / "kept.db"),
                      UNPRIVILEGED="1")  # fmt: skip
        assert refused.code == 4, refused.err
        assert [path.name for path in folder.iterdir()] == ["kept.db"]
        assert (folder / "kept.db").read_bytes() == before
    finally:
        folder.chmod(0o755)


def test_an_unreadable_write_ahead_log_is_an_error(own: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "shelf"
    folder.mkdir()
    with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("UPDATE sessions SET title = 'the newest'")
        connection.commit()
        for name in ("own.db", "own.db-wal"):
            shutil.copy(tmp_path / name, folder / name)
    folder.chmod(0o555)
    try:
        done = own("sessions", "list", "--url", str(folder / "own.db"), UNPRIVILEGED="1")
    finally:
        folder.chmod(0o755)
    assert done.code == 4
    assert "own.db-wal" in done.err


def test_a_read_only_url_is_read_and_not_written(own: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    for url in (f"file:{path}?mode=ro", f"sqlite:///file:{path}?mode=ro&uri=true"):
        assert own("threads", "list", "--url", url, "--json").json["total"] == 3
        done = own("prune", "--all", "--delete", "--yes", "--url", url)
        assert done.code == 4
        assert "read only" in done.err


def test_reading_leaves_no_file_beside_the_database(own: CommandLine, tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("own"))
    for words in READING:
        assert own(*words).code == 0
    after = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("own"))
    assert before == after == ["own.db"]


@pytest.mark.parametrize("backend_name", ["postgresql", "mariadb"], indirect=True)
def test_the_commands_work_on_servers(backend: Backend, program: Zygote, tmp_path: Path) -> None:
    cli = CommandLine(program, tmp_path, LANGGRAPH_SESSION_SAVER_URL=backend.url)
    assert cli("demo", "--url", backend.url).code == 0
    for words in READING:
        done = cli(*words)
        assert (done.code, done.err) == (0, ""), (words, done.out)
    assert cli("threads", "list", "--url", backend.async_url, "--json").json["total"] == 3
    assert cli("prune", "--all", "--delete", "--yes").code == 0
    assert cli("db", "downgrade", "base", "--yes").code == 0
    assert cli("db", "current").code == 1


@pytest.mark.parametrize("backend_name", ["postgresql"], indirect=True)
def test_a_user_with_select_only_can_read(
    backend: Backend, program: Zygote, tmp_path: Path, sql: Sql
) -> None:
    cli = CommandLine(program, tmp_path, LANGGRAPH_SESSION_SAVER_URL=backend.url)
    assert cli("demo", "--url", backend.url).code == 0
    name = f"reader_{secrets.token_hex(4)}"
    sql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    try:
        sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
        url = make_url(backend.url).set(username=name, password=PASSWORD)
        reader = url.render_as_string(hide_password=False)
        for words in READING:
            done = cli(*words, "--url", reader)
            assert (done.code, done.err) == (0, ""), (words, done.out)
        refused = cli("prune", "--all", "--delete", "--yes", "--url", reader)
        assert refused.code == 4
        assert "permission denied" in refused.err
    finally:
        sql(f"DROP OWNED BY {name}")
        sql(f"DROP ROLE {name}")


# -- what is not installed ---


def test_without_its_libraries_the_command_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['typer'] = None\nimport langgraph_session_saver.cli as c\nc.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'langgraph-session-saver[cli]'" in done.stderr
    assert "Traceback" not in done.stderr

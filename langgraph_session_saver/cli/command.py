"""What every command has: the options that name the database, JSON, errors as exit codes."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from langgraph_session_saver.cli.exit_codes import Exit, code_of, without_passwords
from langgraph_session_saver.cli.output import console, print_json
from langgraph_session_saver.cli.target import Database, Place
from langgraph_session_saver.errors import (
    AmbiguousIdError,
    InvalidConfigError,
    SessionNotFoundError,
    SessionSaverError,
    ThreadNotFoundError,
)
from langgraph_session_saver.inspection.text import printable
from langgraph_session_saver.transfer.progress import Progress as Transfer

Json = Annotated[bool, typer.Option("--json", help="Print JSON alone, with the same keys always.")]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Count what would go, and stop.")]

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="List at most so many.")]

Thread = Annotated[str, typer.Argument(help="A thread's id, or the start of it.")]

Namespace = Annotated[
    str, typer.Option("--namespace", help="A subgraph's checkpoint namespace; default the root's.")
]

_PANEL = "Database"

_SHARED: dict[str, tuple[Any, Any]] = {
    "url": (
        Annotated[
            str | None,
            typer.Option(
                "--url",
                help="Database URL or file; default $LANGGRAPH_SESSION_SAVER_URL, else a file in "
                "your data directory.",
                rich_help_panel=_PANEL,
                show_default=False,
            ),
        ],
        None,
    ),
    "schema": (
        Annotated[
            str | None,
            typer.Option(
                help="Schema (MySQL: database) of the tables.",
                rich_help_panel=_PANEL,
                show_default=False,
            ),
        ],
        None,
    ),
    "table_prefix": (
        Annotated[
            str,
            typer.Option(
                help="What the tables' names start with.",
                rich_help_panel=_PANEL,
                show_default=False,
            ),
        ],
        "",
    ),
    "as_json": (Json, False),
}


@dataclass
class Call:
    """One run of a command."""

    place: Place
    as_json: bool
    out: Console = field(default_factory=lambda: console(sys.stdout))
    err: Console = field(default_factory=lambda: console(sys.stderr))

    def answer(self, data: Any, *shown: RenderableType) -> None:
        """Print the answer: as data for programs, or as what is shown to people."""
        if self.as_json:
            print_json(data)
            return
        with self.out.capture() as printed:
            for one in shown:
                self.out.print(one, soft_wrap=isinstance(one, str))
        # Tables fill their last column with spaces.
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()))

    def note(self, text: str) -> None:
        """Say something to a person that is not part of the answer."""
        self.err.print(text, style="dim", soft_wrap=True)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Say on a terminal that something takes its time."""
        with self.err.status(f"{what} …") if self.err.is_terminal else nullcontext():
            yield

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[Transfer], object] | None]:
        """A bar on a terminal, for what reports how far it is; None elsewhere."""
        if not self.err.is_terminal:
            yield None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                   TimeRemainingColumn())  # fmt: skip
        with Progress(*columns, console=self.err, transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda at: bar.update(
                task, description=f"{what}: {at.what}", completed=at.done, total=at.total
            )

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on only if somebody agrees.

        Raises:
            Exit: Nobody is there to be asked, or somebody declined.
        """
        if yes:
            return
        if not sys.stdin.isatty():
            self.fail(f"{question} Nobody is here to be asked: pass --yes", Exit.USAGE)
        if not typer.confirm(question, err=True):
            self.note("Nothing was changed.")
            raise typer.Exit(Exit.NO)

    def fail(self, message: str, code: Exit) -> None:
        """Say what is wrong and end.

        Raises:
            Exit: Always.
        """
        say_error(self.err, message)
        raise typer.Exit(code)

    def thread(self, database: Database, start: str) -> str:
        """The id of the one thread whose id starts so."""
        return self._only(database, "thread", start, database.overview.threads_starting_with)

    def session(self, database: Database, start: str) -> str:
        """The id of the one session whose id starts so."""
        return self._only(database, "session", start, database.overview.sessions_starting_with)

    def _only(self, database: Database, what: str, start: str, find: Any) -> str:
        if not start:
            raise InvalidConfigError(f"the {what}'s id is empty: pass its start at least")
        found = database.read(lambda conn: find(conn, start, 6))
        if found and (found[0] == start or len(found) == 1):
            return str(found[0])
        if not found:
            error = ThreadNotFoundError if what == "thread" else SessionNotFoundError
            raise error(
                f"there is no {what} whose id starts with {start!r}: `{what}s list` names them"
            )
        ids = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        raise AmbiguousIdError(
            f"several {what}s have ids that start with {start!r} ({ids}): pass more of the id"
        )


def say_error(err: Console, message: str) -> None:
    """Print what is wrong, without passwords and without what a terminal would obey."""
    err.print("Error: ", style="bold red", end="")
    err.print(printable(without_passwords(message), keep="\n"), soft_wrap=True)


def command(
    app: typer.Typer, name: str, *, example: str | Sequence[str], of_database: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function of a `Call` and options as a command.

    Args:
        app: The group that it belongs to.
        name: Its name there.
        example: What to type after `langgraph-session-saver`; `--help` shows it.
        of_database: Whether it is about the one database that `--url` names.
    """
    options = _SHARED if of_database else {"as_json": _SHARED["as_json"]}

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            shared = {key: given.pop(key, default) for key, (_, default) in _SHARED.items()}
            place = Place(shared["url"], shared["schema"], shared["table_prefix"])
            call = Call(place, as_json=shared["as_json"])
            try:
                function(call, **given)
            except SessionSaverError as exc:
                call.fail(str(exc), code_of(exc))

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        ours = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for key, (kind, default) in options.items()
        ]
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own] + ours
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        run.__doc__ = inspect.cleandoc(function.__doc__ or "")
        run.__name__ = function.__name__
        examples = [example] if isinstance(example, str) else example
        lines = "\n\n".join(f"$ langgraph-session-saver {one}" for one in examples)
        app.command(name, epilog=f"Example:\n\n{lines}")(run)
        return function

    return register

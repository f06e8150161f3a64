"""What all commands share: options, JSON, confirmation, progress, errors and exit codes."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status
from typer import Option

from langgraph_session_saver import errors
from langgraph_session_saver.cli.output import console, to_json
from langgraph_session_saver.cli.target import Target
from langgraph_session_saver.log import printable
from langgraph_session_saver.redaction import without_credentials
from langgraph_session_saver.transfer.progress import Progress as TransferProgress

Yes = Annotated[bool, Option("--yes", "-y", help="Do not ask for confirmation.")]

Limit = Annotated[int, Option("--limit", "-n", min=1, help="Maximum number of rows.")]

InSession = Annotated[
    str | None, Option("--session", help="Only this session (its id, or a unique start).")
]

After = Annotated[str | None, Option(help="The `next` of the previous page.")]

_TARGET = list(inspect.signature(Target, eval_str=True).parameters.values())

_AS_JSON = inspect.Parameter(
    "as_json",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, Option("--json", help="Print JSON only.")],
)


class Exit(IntEnum):
    """Exit codes of commands; `EXPLAINED` describes them."""

    OK = 0
    NO = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    FAILED = 5


EXPLAINED = (
    "Exit codes: 0 success; 1 a check failed, or a confirmation was declined; 2 usage error; "
    "3 no thread, session or checkpoint matches, or more than one; 4 the database cannot be "
    "reached, opened or written; 5 any other error."
)

_CODES: tuple[tuple[tuple[type[Exception], ...], Exit], ...] = (
    # These may be LookupErrors, but not about an id that was typed.
    ((errors.HistoryLostError, errors.SerializationError), Exit.FAILED),
    ((errors.AmbiguousIdError, LookupError), Exit.NOT_FOUND),
    ((errors.DatabaseUnavailableError, errors.DriverNotInstalledError), Exit.UNREACHABLE),
    ((errors.StoragePermissionError,), Exit.UNREACHABLE),
    ((errors.InvalidConfigError, errors.NotConfirmedError), Exit.USAGE),
)
"""The first line that matches an error decides."""


@dataclass
class Call:
    """One run of a command."""

    target: Target
    as_json: bool
    out: Console = field(default_factory=lambda: console(sys.stdout))
    err: Console = field(default_factory=lambda: console(sys.stderr))

    def answer(self, data: Any, *shown: RenderableType) -> None:
        """Print the result: `data` as JSON with `--json`, else what is for people."""
        if self.as_json:
            sys.stdout.write(json.dumps(data, indent=2, default=to_json) + "\n")
            return
        with self.out.capture() as printed:
            for one in shown:
                self.out.print(one, soft_wrap=isinstance(one, str))
        # Rich fills the last column of a table with spaces.
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()))

    def note(self, text: str) -> None:
        """Print a remark on standard error."""
        self.err.print(text, style="dim", soft_wrap=True)

    def busy(self, what: str) -> Status:
        """Show a spinner on a terminal, as a context manager."""
        return self.err.status(f"{what} …")

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[TransferProgress], object] | None]:
        """Show a progress bar on a terminal; elsewhere yield None."""
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
        """Ask for confirmation, and exit if it is not given, or if there is no terminal."""
        if yes:
            return
        if not sys.stdin.isatty():
            self.fail(f"{question} There is no terminal to confirm on: pass --yes", Exit.USAGE)
        if not typer.confirm(question, err=True):
            self.note("Nothing was changed.")
            raise typer.Exit(Exit.NO)

    def fail(self, message: str, code: Exit) -> NoReturn:
        """Print an error and exit."""
        print_error(self.err, message)
        raise typer.Exit(code)


def print_error(err: Console, message: str) -> None:
    """Print an error without credentials and control characters."""
    err.print("Error: ", style="bold red", end="")
    err.print(printable(without_credentials(message), keep="\n"), soft_wrap=True)


def command(
    app: typer.Typer, name: str, *examples: str, uses_target: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function of a `Call` and its own options as a command.

    Examples are lines for `--help`, without the program's name. `uses_target` says whether it has
    the options that name the database.
    """
    target_options = _TARGET if uses_target else []

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def run(*, as_json: bool, **given: Any) -> None:
            target = Target(**{one.name: given.pop(one.name) for one in target_options})
            call = Call(target, as_json)
            try:
                function(call, **given)
            except errors.SessionSaverError as exc:
                codes = (code for kinds, code in _CODES if isinstance(exc, kinds))
                call.fail(str(exc), next(codes, Exit.FAILED))

        # Typer reads the options of a command from its signature.
        _, *own = inspect.signature(function, eval_str=True).parameters.values()
        own = [one.replace(kind=one.KEYWORD_ONLY) for one in own]
        parameters = [*own, *target_options, _AS_JSON]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        run.__doc__ = function.__doc__
        lines = "\n\n".join(f"$ langgraph-session-saver {example}" for example in examples)
        app.command(name, epilog=f"Example:\n\n{lines}")(run)
        return function

    return register

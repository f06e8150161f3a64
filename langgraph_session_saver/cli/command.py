"""What all commands share: database options, JSON, confirmation, progress, errors."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from langgraph_session_saver.cli.exit_codes import Exit, code_of, without_passwords
from langgraph_session_saver.cli.output import console, print_json
from langgraph_session_saver.cli.target import Target
from langgraph_session_saver.errors import SessionSaverError
from langgraph_session_saver.inspection.text import printable
from langgraph_session_saver.transfer.progress import Progress as TransferProgress

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Count what would be deleted, and delete nothing.")
]

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number of rows.")]

Thread = Annotated[str, typer.Argument(help="Thread id, or a unique start of it.")]

InSession = Annotated[
    str | None, typer.Option("--session", help="Only this session (its id, or a unique start).")
]

After = Annotated[str | None, typer.Option(help="The `next` of the previous page.")]

Namespace = Annotated[
    str, typer.Option("--namespace", help="Checkpoint namespace of a subgraph; default the root.")
]


def _option(help_text: str) -> Any:
    return typer.Option(help=help_text, rich_help_panel="Database", show_default=False)


def _target(
    *,
    url: Annotated[
        str | None,
        _option(
            "Database URL or SQLite file; default $LANGGRAPH_SESSION_SAVER_URL, else a file in "
            "your data directory."
        ),
    ] = None,
    schema: Annotated[str | None, _option("Schema of the tables (MySQL: database).")] = None,
    table_prefix: Annotated[str, _option("Prefix of the table names.")] = "",
) -> Target:
    """Its parameters are the options of every command that uses one database."""
    return Target(url, schema, table_prefix)


_AS_JSON = inspect.Parameter(
    "as_json",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--json", help="Print JSON only.")],
)


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
            print_json(data)
            return
        with self.out.capture() as printed:
            for one in shown:
                self.out.print(one, soft_wrap=isinstance(one, str))
        # Rich fills the last column of a table with spaces.
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()))

    def note(self, text: str) -> None:
        """Print a remark on standard error."""
        self.err.print(text, style="dim", soft_wrap=True)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show a spinner on a terminal."""
        with self.err.status(f"{what} …") if self.err.is_terminal else nullcontext():
            yield

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
        """Ask for confirmation, and exit if it is not given.

        Raises:
            Exit: The answer is no, or there is no terminal.
        """
        if yes:
            return
        if not sys.stdin.isatty():
            self.fail(f"{question} There is no terminal to confirm on: pass --yes", Exit.USAGE)
        if not typer.confirm(question, err=True):
            self.note("Nothing was changed.")
            raise typer.Exit(Exit.NO)

    def fail(self, message: str, code: Exit) -> NoReturn:
        """Print an error and exit.

        Raises:
            Exit: Always.
        """
        print_error(self.err, message)
        raise typer.Exit(code)


def print_error(err: Console, message: str) -> None:
    """Print an error without passwords and control characters."""
    err.print("Error: ", style="bold red", end="")
    err.print(printable(without_passwords(message), keep="\n"), soft_wrap=True)


def command(
    app: typer.Typer, name: str, *examples: str, uses_target: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function of a `Call` and its own options as a command.

    Args:
        app: The group of the command.
        name: Its name in the group.
        *examples: Lines for `--help`, without the program's name.
        uses_target: Whether it has the options that name the database.
    """
    target_options = list(inspect.signature(_target, eval_str=True).parameters.values())
    shared = [*target_options, _AS_JSON] if uses_target else [_AS_JSON]

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            as_json = given.pop("as_json")
            names = [one.name for one in target_options if one.name in given]
            call = Call(_target(**{one: given.pop(one) for one in names}), as_json)
            try:
                function(call, **given)
            except SessionSaverError as exc:
                call.fail(str(exc), code_of(exc))

        # Typer reads the options of a command from its signature.
        _, *own = inspect.signature(function, eval_str=True).parameters.values()
        parameters = [*(one.replace(kind=one.KEYWORD_ONLY) for one in own), *shared]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        lines = "\n\n".join(f"$ langgraph-session-saver {example}" for example in examples)
        app.command(
            name, help=inspect.cleandoc(function.__doc__ or ""), epilog=f"Example:\n\n{lines}"
        )(run)
        return function

    return register

"""The command line: `python -m examples.instant_coffee`."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.prompt import Prompt

from examples.instant_coffee import offline
from examples.instant_coffee.briefs import BriefError, default_paths, load_briefs
from examples.instant_coffee.graph import Options, build_graph
from examples.instant_coffee.interview import Question
from examples.instant_coffee.progress import Settings, run_all
from examples.instant_coffee.report import read_sessions, sessions_table
from examples.instant_coffee.runner import answer_from_defaults
from langgraph_session_saver import SessionSaver
from langgraph_session_saver.errors import SessionSaverError

HOME = Path("~/.instant-coffee")
_IN_MEMORY = (":memory:", "sqlite://", "sqlite:///:memory:")
_EPILOG = (
    "Example: python -m examples.instant_coffee examples/instant_coffee/briefs/patchbox.yaml "
    "--interactive --database sqlite:///coffee.db --dist pages"
)

app = typer.Typer(add_completion=False)


@app.command(epilog=_EPILOG)
def main(
    briefs: Annotated[
        list[Path] | None, typer.Argument(help="Brief files; all twelve examples by default.")
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            envvar="INSTANT_COFFEE_DATABASE",
            help="Database URL; ~/.instant-coffee/instant-coffee.db by default.",
            show_envvar=True,
        ),
    ] = None,
    dist: Annotated[
        Path, typer.Option(envvar="INSTANT_COFFEE_DIST", help="Where pages are published.")
    ] = HOME / "dist",
    interactive: Annotated[
        bool | None,
        typer.Option(
            "--interactive/--defaults",
            help="Ask in the terminal what a brief leaves open, or take its own defaults.",
        ),
    ] = None,
    pass_mark: Annotated[
        float, typer.Option(min=0, max=100, help="Refine pages that score less.")
    ] = 90,
    rounds: Annotated[int, typer.Option(min=0, max=20, help="Refine at most so often.")] = 4,
    fresh: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--fresh", help="Begin new sessions though there are finished ones.")
    ] = False,
    delay: Annotated[float, typer.Option(min=0, max=60, help="Seconds to wait in each step.")] = 0,
) -> None:
    """Build a page from each product brief, and read back with SQL what came of it.

    A session that was stopped midway is resumed from its last step by running it again.
    """
    errors = Console(stderr=True)
    # A run of all the examples needs nobody; a brief of one's own may as well be asked about.
    asks = (bool(briefs) and sys.stdin.isatty()) if interactive is None else interactive
    settings = Settings(
        answer=_ask if asks else answer_from_defaults,
        pass_mark=pass_mark,
        rounds=rounds,
        fresh=fresh,
    )
    try:
        options = Options(dist=dist.expanduser().absolute(), delay=delay)
        failed = _build(briefs or default_paths(), database, options, settings)
    except (BriefError, SessionSaverError, OSError) as error:
        errors.print(f"[red]Error:[/red] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(2) from error
    except (KeyboardInterrupt, EOFError) as error:
        errors.print("Stopped. Run the same command again to resume.")
        raise typer.Exit(130) from error
    for stem, reason in failed.items():
        errors.print(f"[red]{escape(stem)}:[/red] {escape(reason)}", soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def _build(
    paths: list[Path], database: str | None, options: Options, settings: Settings
) -> dict[str, str]:
    console = Console()
    briefs = load_briefs(paths)
    if database in _IN_MEMORY:
        raise typer.BadParameter("the report reads the database back: name a file or a server")
    url = database or _default_database()
    with SessionSaver.from_conn_string(url, pricing=offline.PRICES) as saver:
        failed, threads = run_all(build_graph(saver, options), briefs, settings, console)
    console.print(sessions_table(read_sessions(url, threads)))
    console.print(f"Pages are in {options.dist}", soft_wrap=True)
    return failed


def _default_database() -> str:
    home = HOME.expanduser()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return f"sqlite:///{home / 'instant-coffee.db'}"


def _ask(questions: list[Question]) -> dict[str, str]:
    return {
        question["field"]: Prompt.ask(question["question"], default=question["default"] or "")
        for question in questions
    }


if __name__ == "__main__":
    app(prog_name="python -m examples.instant_coffee")

"""The command line: `python -m examples.tech_spec`."""

import asyncio
import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import structlog
import typer
from rich.markup import escape
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from examples.tech_spec.api.callers import EDITOR, VIEWER
from examples.tech_spec.app import create_app
from examples.tech_spec.database import DATABASE_OPTION, HOME
from examples.tech_spec.fixtures import JOBS, ensure, read_job
from examples.tech_spec.migrations import migrated
from examples.tech_spec.models import JobStatus
from examples.tech_spec.terminal import ask, notes, take_first, write
from examples.web.homes import home, kept_secret
from examples.web.problems import ApplicationError
from examples.web.serving import serve as serve_until_a_signal
from examples.web.tokens import Tokens
from langgraph_session_saver import SessionSaverError

EPILOG = (
    "Example: python -m examples.tech_spec --job auction --yes "
    "--database-url postgresql://localhost/specs"
)

app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True, epilog=EPILOG)
def main(
    context: typer.Context,
    job: Annotated[str, typer.Option(help=f"The design: {', '.join(JOBS)}.")] = JOBS[0],
    *,
    database_url: Annotated[str, DATABASE_OPTION],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take what is ranked first.")] = False,
) -> None:
    """Write the technical requirements of a design: research, decisions, document.

    Asks for decisions in a terminal. A job that was stopped midway goes on when it is run again.
    """
    context.obj = database_url
    if context.invoked_subcommand:
        return
    if job not in JOBS:
        raise typer.BadParameter(f"there is no design {job!r}: choose one of {', '.join(JOBS)}")
    _log_from(logging.ERROR)
    decide = ask if sys.stdin.isatty() and not yes else take_first
    try:
        with _told_in_a_line():
            status = write(database_url, job, decide)
    except (KeyboardInterrupt, EOFError) as exc:
        notes.print("Stopped. Run the same command again to go on.")
        raise typer.Exit(130) from exc
    if status is not JobStatus.COMPLETED:
        raise typer.Exit(1)


@app.command(epilog="Example: python -m examples.tech_spec serve --redis-url redis://localhost")
def serve(
    context: typer.Context,
    database_url: Annotated[
        str | None, typer.Option(help="The database, if it is not named before `serve`.")
    ] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(envvar="REDIS_URL", help="Counts the calls of all servers; else memory does."),
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    user: Annotated[str, typer.Option(help="Whose token is printed.")] = "editor",
    secret: Annotated[
        str | None,
        typer.Option(envvar="TECH_SPEC_SECRET", help="The key of tokens; kept in ~/.tech-spec."),
    ] = None,
) -> None:
    """Serve the API, with the designs in its database, and print a token for it."""
    _log_from(logging.INFO)
    url = database_url or context.obj
    with _told_in_a_line():
        tokens = Tokens(secret or kept_secret(home(HOME)))
        application = create_app(url, tokens, redis_url=redis_url)
        asyncio.run(_prepare(url))
        listening = socket.create_server((host, port))
    typer.echo(f"http://{host}:{listening.getsockname()[1]}/docs describes the API.")
    typer.echo(f"Authorization: Bearer {tokens.issue(user, [EDITOR, VIEWER])}")
    for name in JOBS:
        job = read_job(name)
        typer.echo(f"{name}: project {job.project_id}, design job {job.id}")
    serve_until_a_signal(application, listening)


async def _prepare(url: str) -> None:
    """Migrate the database, and put in the designs."""
    async with migrated(url) as engine:
        await ensure(engine)


@contextmanager
def _told_in_a_line() -> Iterator[None]:
    """End with a line that says what cannot be used, and not with a traceback."""
    try:
        yield
    except (ApplicationError, ArgumentError, OSError, SessionSaverError, ValueError) as exc:
        text = str(exc)
    except SQLAlchemyError as exc:  # its text has the statement
        text = f"the database cannot be used: {getattr(exc, 'orig', exc)}"
    else:
        return
    notes.print(f"[red]Error:[/] {escape(text)}", soft_wrap=True)
    raise typer.Exit(2)


def _log_from(level: int) -> None:
    """Write the structured log to the standard error output, from a level on."""
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )


if __name__ == "__main__":
    app(prog_name="python -m examples.tech_spec")

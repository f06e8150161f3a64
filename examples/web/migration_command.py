"""The migration command of an application: it upgrades, downgrades and shows the tables.

Exit codes: 0 success; 1 the database is not at the newest revision, or a confirmation was declined;
2 usage error; 4 the database cannot be reached; 5 the migration failed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from examples.web.migrations import config_of
from langgraph_session_saver import InvalidConfigError, SessionSaverError
from langgraph_session_saver.database import check_connection, get_db

NOT_HEAD, USAGE, UNREACHABLE, FAILED = 1, 2, 4, 5

out, err = Console(highlight=False), Console(stderr=True, highlight=False)


def command_of(folder: Path, database_option: Any) -> typer.Typer:
    """Make the command.

    Args:
        folder: The application's Alembic scripts.
        database_option: The option that names the database.
    """
    app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
    scripts = ScriptDirectory(str(folder))
    Url = Annotated[str, database_option]  # noqa: N806 - a type

    @app.command()
    def upgrade(
        revision: Annotated[str, typer.Argument(help="The revision to upgrade to.")] = "head",
        *,
        url: Url,
    ) -> None:
        """Upgrade the tables; whoever else migrates them waits."""
        _move(command.upgrade, folder, url, revision)

    @app.command()
    def downgrade(
        revision: Annotated[str, typer.Argument(help="`-1` is one back, `base` all.")] = "-1",
        *,
        url: Url,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    ) -> None:
        """Downgrade the tables: the rows of those that are dropped are lost."""
        at = _revision_of(url)
        if not yes and not typer.confirm(
            f"Downgrade from {at or 'base'}, and lose rows?", err=True
        ):
            raise typer.Exit(NOT_HEAD)
        _move(command.downgrade, folder, url, revision)

    @app.command()
    def current(url: Url) -> None:
        """Show the database's revision; exits with 1 unless it is the newest."""
        at, head = _revision_of(url), scripts.get_current_head()
        if at == head:
            out.print(f"[green]✓[/] {at} (head)")
            return
        out.print(f"[yellow]![/] {at or 'base'} (head is {head}: run upgrade)")
        raise typer.Exit(NOT_HEAD)

    @app.command()
    def history(url: Url) -> None:
        """List the revisions, oldest first, and mark the database's."""
        at, shown = _revision_of(url), Table("", "revision", "follows", "adds", box=None)
        for script in reversed([*scripts.walk_revisions()]):
            mark = "[green]→[/]" if script.revision == at else ""
            follows = str(script.down_revision or "base")
            shown.add_row(mark, f"[cyan]{script.revision}[/]", follows, script.doc)
        out.print(shown)

    return app


def _move(migrate: Callable[[Config, str], None], folder: Path, url: str, revision: str) -> None:
    before = _revision_of(url)
    try:
        migrate(config_of(folder, url), revision)
    except CommandError as exc:
        _fail(str(exc), USAGE)
    except (SQLAlchemyError, SessionSaverError, TimeoutError) as exc:
        _fail(f"the migration failed: {exc}", FAILED)
    after = _revision_of(url)
    note = "unchanged" if before == after else f"was {before or 'base'}"
    out.print(f"[green]✓[/] at revision [cyan]{after or 'base'}[/] ({note})")


def _revision_of(url: str) -> str | None:
    """The database's revision; exits if it cannot be reached."""
    try:
        parsed = make_url(url)
        if parsed.get_dialect().is_async:
            parsed = parsed.set(drivername=parsed.get_backend_name())
        check_connection(parsed)
        with get_db(parsed) as orm:
            return MigrationContext.configure(orm.connection()).get_current_revision()
    except (ArgumentError, InvalidConfigError):  # whose texts may have a password
        _fail("the database URL cannot be read: write sqlite:///… or postgresql://…", USAGE)
    except SessionSaverError as exc:
        _fail(str(exc), UNREACHABLE)


def _fail(text: str, code: int) -> NoReturn:
    err.print("[red]✗[/]", escape(text), soft_wrap=True)
    raise typer.Exit(code)

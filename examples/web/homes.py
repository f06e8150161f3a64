"""The folder of a program in the user's home directory: its database, and its secret."""

import secrets
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import typer


def home(name: str) -> Path:
    """The folder, which only this user may read."""
    folder = Path.home() / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def database_option(name: str, file: str) -> Any:
    """Declare the option of a command that names the database, else a file in the folder."""
    return typer.Option(
        "--database-url",
        "--url",
        envvar="DATABASE_URL",
        default_factory=lambda: f"sqlite:///{home(name) / file}",
        show_default=f"sqlite:///~/{name}/{file}",
        help="The database.",
    )


def kept_secret(folder: Path) -> str:
    """The secret of this machine's user: tokens stay valid when the server starts again.

    It is in place as a whole or not at all, also if several processes start at once.
    """
    path = folder / "secret"
    if not path.exists():
        with NamedTemporaryFile("w", dir=folder) as file:  # which only this user may read
            file.write(secrets.token_urlsafe(32))
            file.flush()
            with suppress(FileExistsError):
                path.hardlink_to(file.name)
    return path.read_text()

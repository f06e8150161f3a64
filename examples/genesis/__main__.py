"""The command line: `python -m examples.genesis`."""

import socket
from typing import Annotated

import typer

from examples.genesis.app import create_app
from examples.web.homes import database_option, home, kept_secret
from examples.web.serving import serve
from examples.web.tokens import Tokens

HOME = ".genesis"

DATABASE_OPTION = database_option(HOME, "genesis.db")

app = typer.Typer(add_completion=False)


@app.command()
def main(
    url: Annotated[str, DATABASE_OPTION],
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    owner: Annotated[str, typer.Option(help="Whose novels the printed token opens.")] = "writer",
    model: Annotated[
        str | None, typer.Option(help="A chat model for the prose, as openai:gpt-5-mini.")
    ] = None,
    pause: Annotated[float, typer.Option(min=0, help="Seconds to wait in each step.")] = 0.3,
    secret: Annotated[
        str | None,
        typer.Option(envvar="GENESIS_SECRET", help="The key of tokens; kept in ~/.genesis."),
    ] = None,
) -> None:
    """Write novels in stages, in a browser or through an API."""
    try:
        tokens = Tokens(secret or kept_secret(home(HOME)))
        application = create_app(url, tokens, model=model, pause=pause)
        listening = socket.create_server((host, port))
    except (ImportError, OSError, ValueError) as exc:
        raise typer.BadParameter(str(exc)) from exc
    address = f"http://{host}:{listening.getsockname()[1]}"
    typer.echo(f"{address}/?token={tokens.issue(owner)}")
    typer.echo(f"The API is described at {address}/docs. Ctrl+C stops the server.")
    serve(application, listening)


if __name__ == "__main__":
    app(prog_name="python -m examples.genesis")

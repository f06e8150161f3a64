"""The groups of commands, and how a run of the program ends."""

from __future__ import annotations

import logging
import sys
from typing import Any

import typer

from langgraph_session_saver.cli import (
    db_commands as schemas,
)
from langgraph_session_saver.cli import (
    demo,
    doctor,
    sessions,
)
from langgraph_session_saver.cli import (
    inspect_commands as looking,
)
from langgraph_session_saver.cli import (
    prune_commands as retaining,
)
from langgraph_session_saver.cli import (
    transfer_commands as moving,
)
from langgraph_session_saver.cli.command import say_error
from langgraph_session_saver.cli.exit_codes import EXPLAINED, Exit
from langgraph_session_saver.cli.output import console

app = typer.Typer(
    name="langgraph-session-saver",
    help="Look into, keep small and move a database of LangGraph checkpoints.",
    epilog=EXPLAINED,
    no_args_is_help=True,
    add_completion=False,
    # A traceback with the values of variables would show a URL's password.
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)
for module in (demo, sessions, looking, retaining, schemas, moving, doctor):
    module.add_to(app)


@app.callback()
def _program() -> None:
    """Look into, keep small and move a database of LangGraph checkpoints."""


def run() -> None:
    """Run the program and exit."""
    # What libraries remark on is no answer; what goes wrong surfaces as an error.
    logging.getLogger().addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a terminal that knows ASCII only still gets the rest
    try:
        code = app(standalone_mode=False)
    except typer.Abort as exc:
        is_interrupt = isinstance(exc.__cause__ or exc.__context__, KeyboardInterrupt)
        code = 130 if is_interrupt else Exit.NO
    except Exception as exc:
        if not hasattr(exc, "format_message"):
            raise
        code = _say_usage(exc)
    sys.exit(int(code or 0))


def _say_usage(error: Any) -> Exit:
    """Say what Typer refuses; it may repeat what was typed, perhaps a URL with a password."""
    if said := error.format_message():  # else it has shown the help already
        err = console(sys.stderr)
        if error.ctx is not None:
            err.print(error.ctx.get_usage(), soft_wrap=True)
        say_error(err, said)
    return Exit.USAGE

"""The Typer application, and the exit code of a run."""

from __future__ import annotations

import logging
import sys
from typing import Any, cast

import typer

from langgraph_session_saver.cli import (
    db_commands,
    demo,
    key_commands,
    prune_commands,
    report_commands,
    session_commands,
    transfer_commands,
)
from langgraph_session_saver.cli.command import EXPLAINED, Exit, print_error
from langgraph_session_saver.cli.output import console

app = typer.Typer(
    name="langgraph-session-saver",
    help="Inspect, prune, migrate and move a database of LangGraph checkpoints.",
    epilog=EXPLAINED,
    no_args_is_help=True,
    add_completion=False,
    # A traceback with the values of variables would show a URL's password.
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)
modules = (
    demo, session_commands, report_commands, prune_commands, db_commands, transfer_commands,
    key_commands,
)  # fmt: skip
for module in modules:
    app.add_typer(module.app)


def run() -> None:
    """Run the program and exit."""
    # Keep library warnings off standard error, where `logging` would print them by default.
    logging.getLogger().addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # for terminals that cannot show every character
    try:
        code = app(standalone_mode=False)
    except typer.Abort as exc:
        is_interrupt = isinstance(exc.__cause__ or exc.__context__, KeyboardInterrupt)
        code = 130 if is_interrupt else Exit.NO
    except Exception as exc:
        if not hasattr(exc, "format_message"):
            raise
        usage_error, code = cast("Any", exc), Exit.USAGE
        if message := usage_error.format_message():  # empty if Typer has printed the help instead
            err = console(sys.stderr)
            if usage_error.ctx is not None:
                err.print(usage_error.ctx.get_usage(), soft_wrap=True)
            print_error(err, message)  # without passwords: it may repeat a URL that was typed
    sys.exit(int(code or 0))

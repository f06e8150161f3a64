"""The groups of commands, and how a run of the program ends."""

from __future__ import annotations

import sys
from typing import Any

import typer

from langgraph_session_saver.cli import demo, doctor, looking, moving, retaining, schemas, sessions
from langgraph_session_saver.cli.calls import say_error
from langgraph_session_saver.cli.exits import EXPLAINED, Exit
from langgraph_session_saver.cli.printing import console

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
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a terminal that knows ASCII only still gets the rest
    try:
        code = app(standalone_mode=False)
    except KeyboardInterrupt:
        code = 130
    except Exception as exc:
        # Typer's own errors, of which some repeat what was typed: perhaps a URL.
        say = getattr(exc, "format_message", None)
        if say is None:
            if type(exc).__name__ != "Abort":
                raise
            code = Exit.NO
        else:
            context = getattr(exc, "ctx", None)
            err = console(sys.stderr)
            if context is not None:
                err.print(context.get_usage(), soft_wrap=True)
            say_error(err, say() or str(exc))
            code = Exit.USAGE
    sys.exit(int(code or 0))

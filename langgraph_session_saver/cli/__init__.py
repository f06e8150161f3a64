"""The command line, `langgraph-session-saver`: the extra `[cli]`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; if its libraries are missing, name the extra that installs them."""
    try:
        from langgraph_session_saver.cli.app import run  # noqa: PLC0415 - needs Typer and Rich
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in {"typer", "rich", "click"}:
            raise
        sys.exit(
            f"the command line needs {exc.name!r}, which is not installed: "
            "pip install 'langgraph-session-saver[cli]'"
        )
    run()

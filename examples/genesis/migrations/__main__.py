"""The migration command: `python -m examples.genesis.migrations upgrade`."""

from pathlib import Path

from examples.genesis.__main__ import DATABASE_OPTION
from examples.web.migration_command import command_of

app = command_of(Path(__file__).parent, DATABASE_OPTION)

if __name__ == "__main__":
    app(prog_name="python -m examples.genesis.migrations")

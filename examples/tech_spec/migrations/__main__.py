"""The migration command: `python -m examples.tech_spec.migrations upgrade`."""

from pathlib import Path

from examples.tech_spec.database import DATABASE_OPTION
from examples.web.migration_command import command_of

app = command_of(Path(__file__).parent, DATABASE_OPTION)

if __name__ == "__main__":
    app(prog_name="python -m examples.tech_spec.migrations")

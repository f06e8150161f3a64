"""Measure the saver beside its peers; keep the table as JSON, as a chart and in the documents."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from tests.benchmarks.bench import Bench
from tests.benchmarks.chart import draw
from tests.benchmarks.databases import (
    KINDS,
    Kind,
    MariaSite,
    PostgresSite,
    Site,
    SiteMissingError,
    SqliteSite,
)
from tests.benchmarks.machine import about
from tests.benchmarks.report import documented_tables, table, with_table
from tests.benchmarks.results import RESULTS, Results
from tests.benchmarks.workloads import WORKLOADS

POSTGRES_URL = "postgresql://postgres@127.0.0.1:5432/postgres"
MYSQL_URL = "mysql://root@127.0.0.1:3306/mysql"

EXAMPLE = """\
example:
  python -m tests.benchmarks --only saving reading --databases SQLite PostgreSQL --repeat 9
"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        epilog=EXAMPLE + "\nworkloads:\n" + _described(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--only",
        nargs="+",
        choices=list(WORKLOADS),
        metavar="WORKLOAD",
        help="measure these workloads; the other rows stay as they are",
    )
    made.add_argument(
        "--databases", nargs="+", choices=KINDS, default=KINDS, help="measure on these only"
    )
    made.add_argument(
        "--repeat",
        type=int,
        default=5,
        metavar="N",
        help="rounds that count (default 5; some long workloads say that they take fewer)",
    )
    made.add_argument(
        "--short",
        action="store_true",
        help="small sizes, to see that everything runs; writes nothing unless --output is given",
    )
    made.add_argument(
        "--postgres-url",
        metavar="URL",
        default=POSTGRES_URL,
        help="a server on which databases are made and dropped (default %(default)s)",
    )
    made.add_argument(
        "--mysql-url", metavar="URL", default=MYSQL_URL, help="the same (default %(default)s)"
    )
    made.add_argument(
        "--directory",
        type=Path,
        help="where SQLite's files are put: a real disk (default: where temporary files go)",
    )
    made.add_argument(
        "--output",
        type=Path,
        help=f"the JSON; the chart goes beside it (default {RESULTS.name} beside this program)",
    )
    return made


def _described() -> str:
    width = max(map(len, WORKLOADS))
    return "\n".join(f"  {name:{width}}  {w.title}" for name, w in WORKLOADS.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    log = Console(stderr=True, highlight=False)
    output = options.output or (None if options.short else RESULTS)
    names = options.only or list(WORKLOADS)
    results = Results.read(output) if output else Results()
    with _directory(options.directory) as directory, log.status("starting") as status:
        sites = _sites(options, directory, log.print)
        bench = Bench(sites, options.repeat, short=options.short, say=_teller(log, status.update))
        known = results.about.get("databases", {})
        results.about = about(sites.values(), directory)
        results.about["databases"] = known | results.about["databases"]
        for doubt in results.about["doubts"]:
            log.print(f"[yellow]not a fair measurement: {doubt}")
        for name in names:
            results.merge(list(WORKLOADS[name].run(bench)), list(WORKLOADS))
            log.print(f"measured {name}")
            if output:
                results.write(output)
                # From what can be read again, so that anybody can draw the same.
                output.with_suffix(".svg").write_text(draw(Results.read(output)))
    if output == RESULTS:
        for document, measured in documented_tables(Results.read(output).rows).items():
            document.write_text(with_table(document.read_text(), measured))
    shown = [row for row in results.rows if row.workload in names]
    Console(width=None if sys.stdout.isatty() else 150).print(table(shown))
    return 0


@contextmanager
def _directory(asked: Path | None) -> Iterator[Path]:
    if asked:
        asked.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=asked) as made:
        yield Path(made)


def _sites(
    options: argparse.Namespace, directory: Path, say: Callable[[str], None]
) -> dict[Kind, Site]:
    makers: dict[Kind, Callable[[], Site]] = {
        "SQLite": lambda: SqliteSite(directory),
        "PostgreSQL": lambda: PostgresSite(options.postgres_url),
        "MariaDB": lambda: MariaSite(options.mysql_url),
    }
    sites: dict[Kind, Site] = {}
    for kind in options.databases:
        try:
            sites[kind] = makers[kind]()
        except SiteMissingError as error:
            say(f"[yellow]skipping {kind}: {error}")
    return sites


def _teller(log: Console, update: Callable[[str], None]) -> Callable[[str], None]:
    """Show what is being measured: in place on a terminal, else a line each."""
    return update if log.is_terminal else log.print


if __name__ == "__main__":
    sys.exit(main())

"""Round trips to a server, counted by a proxy between a saver and it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

from tests.benchmarks.bench import Bench, Workload
from tests.benchmarks.calls import Call, of_thread, play, recorded
from tests.benchmarks.contenders import OURS, PEERS, Contender
from tests.benchmarks.databases import Database, Kind
from tests.benchmarks.graphs import chat, loop
from tests.benchmarks.measuring import Bar, Row
from tests.benchmarks.subjects import named
from tests.support.proxy import Proxy

WARM_STEPS = 12
"""Steps until statements are prepared, by drivers that prepare what they saw five times."""

PORTS: dict[Kind, int] = {"PostgreSQL": 5432, "MariaDB": 3306}

BARS = {
    "put_writes": Bar(1, of="value"),
    "get_tuple, warm": Bar(1, of="value"),
    "put without child rows": Bar(1, of="value"),
    "put with child rows": Bar(4, of="value"),
}


def round_trips(bench: Bench) -> Iterator[Row]:
    """Count round trips, in the steady state."""
    for site in bench.on(["PostgreSQL", "MariaDB"]):
        peer = PEERS[site.kind]
        with ExitStack() as stack:
            samples = {}
            for contender in (OURS, peer):
                database = stack.enter_context(site.fresh())
                samples[contender.name] = _sample(contender, database)
            # A count is a count: repeats would only repeat it.
            found = bench.measure(ROUND_TRIPS.name, site.kind, samples, repeats=1, warm_up=False)
        for quantity, bar in BARS.items():
            its_bar = bar if site.kind == "PostgreSQL" else None
            yield found.row(quantity, "round trips", OURS.name, peer.name, its_bar)


def _sample(contender: Contender, database: Database) -> Callable[[], dict[str, float]]:
    return lambda: counted(contender, database)


def counted(contender: Contender, database: Database) -> dict[str, float]:
    """The most round trips that any warm call of each sort takes."""
    host, port = str(database.url.host), database.url.port or PORTS[database.kind]
    found: dict[str, list[int]] = {name: [] for name in BARS}
    with Proxy(host, port) as proxy, contender.open(database.through(proxy.port)) as saver:
        for name, program in (("loop", loop(2 * WARM_STEPS)), ("chat", chat(2 * WARM_STEPS))):
            recording = recorded(program, saver)
            play(of_thread(recording, f"{name} before"), saver)  # each statement was used once
            calls = of_thread(recording, name)
            warm = len(calls) // 2
            play(calls[:warm], saver)
            for call in calls[warm:]:
                before = proxy.round_trips
                call.make(saver)
                found[_sort(call)].append(proxy.round_trips - before)
        for number in range(2 * WARM_STEPS):
            before = proxy.round_trips
            saver.get_tuple(named("loop"))
            if number >= WARM_STEPS:
                found["get_tuple, warm"].append(proxy.round_trips - before)
    return {name: float(max(counts)) for name, counts in found.items()}


def _sort(call: Call) -> str:
    if call.method == "put_writes":
        return "put_writes"
    _, _, new_versions = call.arguments
    return "put with child rows" if "messages" in new_versions else "put without child rows"


ROUND_TRIPS = Workload("round-trips", "round trips to a server of single calls", round_trips)

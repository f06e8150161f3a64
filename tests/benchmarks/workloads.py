"""All workloads, in the order of the table."""

from __future__ import annotations

from tests.benchmarks import (
    deleting,
    long_history,
    many_threads,
    million,
    own_time,
    reading,
    retention,
    round_trips,
    saving,
    whole_graphs,
)
from tests.benchmarks.bench import Workload

ALL = (
    whole_graphs.SIZE,
    *whole_graphs.CHATS,
    saving.SAVING,
    reading.READING,
    reading.LISTING,
    round_trips.ROUND_TRIPS,
    many_threads.THREADS_AT_ONCE,
    retention.KEEPING_LAST,
    deleting.DELETING,
    *whole_graphs.OTHERS,
    own_time.OWN_TIME,
    long_history.HISTORY,
    million.MILLION,
)
WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in ALL}

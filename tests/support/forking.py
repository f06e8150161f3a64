"""Programs for a zygote's children: forks while other threads use what the child will use."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable

from langgraph_session_saver.encoding.caches import LRUCache

SLOW_SECONDS = 20


def fork_while_a_thread_holds_a_cache() -> None:
    """Fork while another thread is inside a method of a cache; the child uses the cache."""
    cache = LRUCache[str, int](8)
    cache.put("before", 1)
    entered, go_on = threading.Event(), threading.Event()

    def hold(_key: str) -> bool:
        entered.set()
        return not go_on.wait(SLOW_SECONDS)

    thread = threading.Thread(target=cache.forget_where, args=(hold,))
    thread.start()
    entered.wait(SLOW_SECONDS)

    def use() -> None:
        cache.put("after", 2)
        assert (cache.get("before"), cache.get("after")) == (None, 2)

    status = _in_fork(use)
    go_on.set()
    thread.join()
    assert (status, cache.get("before")) == (0, 1)


def fork_while_threads_fill_a_cache(forks: int) -> None:
    """Fork again and again while threads use a cache; each child fills the cache to its limit."""
    limit = 50
    cache = LRUCache[int, int](limit)
    is_over = threading.Event()

    def fill() -> None:
        while not is_over.is_set():
            for number in range(2 * limit):
                cache.put(number, number)
            time.sleep(0)  # let the thread that forks have its turn

    def use() -> None:
        for number in range(2 * limit):
            cache.put(number, number)
        kept = [number for number in range(2 * limit) if cache.get(number) is not None]
        assert kept == list(range(limit, 2 * limit))

    threads = [threading.Thread(target=fill) for _ in range(2)]
    for thread in threads:
        thread.start()
    statuses = [_in_fork(use) for _ in range(forks)]
    is_over.set()
    for thread in threads:
        thread.join()
    assert statuses == [0] * forks


def _in_fork(use: Callable[[], None]) -> int:
    """Call a function in a forked process; the status of that, which a deadlock ends too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest-timeout's handler would go on
        signal.alarm(SLOW_SECONDS)
        status = 1
        try:
            use()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

"""Small programs for a zygote's children, to test the zygote itself."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
from typing import NoReturn


def count_for_ever(start: int = 0) -> NoReturn:
    """Prints ``step 0``, ``step 1``, … as fast as it is read."""
    step = start
    while True:
        sys.stdout.write(f"step {step}\n")
        step += 1


def sleep_for_ever() -> None:
    print(f"asleep {os.getpid()}")
    signal.pause()


def say(what: str) -> None:
    print(what)


async def say_in_a_loop(what: str) -> None:
    await asyncio.sleep(0)
    print(what)


def fail(message: str) -> NoReturn:
    raise RuntimeError(message)


def leave(code: int) -> NoReturn:
    sys.exit(code)


def say_a_random_number() -> None:
    print(random.random())


def count_threads() -> None:
    print(f"threads {threading.active_count()}")


def say_what_is_missing(modules: list[str]) -> None:
    print(f"missing: {[name for name in modules if name not in sys.modules]}")

"""Values of up to 1 GB: each database takes them, and they are not copied many times on the way."""

from __future__ import annotations

import json

import pytest

from tests.support.backends import Backend
from tests.support.zygote import Zygote

SECONDS = 1_800

COPIES = {"put": 1, "put_writes": 2, "get": 3, "get_writes": 3}
"""How many times a call may have the value in memory: beside the caller's, or of a read with it."""

IN_FLIGHT = 96
"""Megabytes that rows may take on their way, whatever the value: four pieces of 4 MB are sent at
a time, which some drivers copy as text."""


def call(zygote: Zygote, backend: Backend, name: str, megabytes: int) -> str:
    """Make a call in a process of its own, check its memory, and return a digest of the value."""
    arguments = {"url": backend.url, "name": name, "megabytes": megabytes}
    child = zygote.spawn("tests.reliability.large_values:run", arguments)
    assert child.wait(SECONDS) == 0, child.text
    took = json.loads(child.lines[-1])
    print(
        f"{backend.name}, {name}: {megabytes:,} MB in {took['seconds']:.1f} s, "
        f"with {took['peak']:.2f} times as much memory"
    )
    assert took["peak"] < COPIES[name] + IN_FLIGHT / megabytes
    return str(took["digest"])


def check(zygote: Zygote, backend: Backend, megabytes: int) -> None:
    for stores, reads in (("put", "get"), ("put_writes", "get_writes")):
        stored = call(zygote, backend, stores, megabytes)
        assert call(zygote, backend, reads, megabytes) == stored


def test_a_large_value_is_not_copied_many_times(zygote: Zygote, backend: Backend) -> None:
    check(zygote, backend, 48)


@pytest.mark.heavy
def test_a_value_of_a_gigabyte_is_stored_and_read(zygote: Zygote, backend: Backend) -> None:
    check(zygote, backend, 1_024)

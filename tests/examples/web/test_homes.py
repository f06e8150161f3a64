"""What a program keeps for its user."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from examples.web.homes import kept_secret


def test_a_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    assert kept_secret(tmp_path) == kept_secret(tmp_path)
    assert len(kept_secret(tmp_path)) >= 32
    assert [(each.name, each.stat().st_mode & 0o777) for each in tmp_path.iterdir()] == [
        ("secret", 0o600)
    ]


def test_of_those_who_make_a_secret_at_once_all_get_the_same(tmp_path: Path) -> None:
    barrier = Barrier(8)

    def make(folder: Path) -> str:
        barrier.wait()
        return kept_secret(folder)

    with ThreadPoolExecutor(8) as threads:
        for number in range(20):
            folder = tmp_path / f"{number}"
            folder.mkdir()
            made = {*threads.map(make, [folder] * 8)}
            assert len(made) == 1
            assert made.pop()

"""A Redis of the tests' own, started from an installed binary."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from tests.support.servers import free_port

BINARY = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(BINARY is None, reason="redis-server is not installed")


class RedisServer:
    """A server with its log in a folder; it stores nothing."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "dir": folder}
        given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._command = [str(BINARY), *given]
        self.start()

    def start(self) -> None:
        """Start the server, also after it was killed."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._wait_until_it_listens()

    def kill(self) -> None:
        """Kill the server; does nothing where it has ended."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def empty(self) -> None:
        """Delete all keys."""
        with Redis.from_url(self.url) as client:
            client.flushall()

    def _wait_until_it_listens(self) -> None:
        assert self._process.stdout is not None
        log = b""
        for line in self._process.stdout:
            log += line
            if b"Ready to accept connections" in line:
                return
        raise RuntimeError(f"redis-server did not start: {log.decode()}")


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """Run a server, for as long as the block does."""
    server = RedisServer(folder)
    try:
        yield server
    finally:
        server.kill()

"""The proxy that counts round trips and delays them, in front of a line server."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from queue import SimpleQueue

import pytest

from tests.support.proxy import Moment, Proxy, distant
from tests.support.servers import free_port


class Answering(socketserver.StreamRequestHandler):
    """Answers each line with itself; `quiet` is not answered."""

    server: Server

    def handle(self) -> None:
        with suppress(ConnectionError):
            for line in self.rfile:
                self.server.received.put(line)
                if line != b"quiet\n":
                    self.wfile.write(line)
        self.server.received.put(b"")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.received = SimpleQueue[bytes]()
        """Each line that came, and an empty one at the end of each connection."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server_port(server: Server) -> int:
    port: int = server.server_address[1]
    return port


@pytest.fixture
def proxy(server_port: int) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", server_port) as proxy:
        yield proxy


class Client:
    """A connection through a proxy, line by line."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._lines = self._socket.makefile("rb")

    def send(self, *lines: bytes) -> None:
        self._socket.sendall(b"".join(lines))

    def read(self) -> bytes:
        return self._lines.readline()

    def ask(self, line: bytes) -> bytes:
        self.send(line)
        return self.read()

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def test_bytes_arrive_unchanged_in_both_directions(proxy: Proxy) -> None:
    with closing(Client(proxy.port)) as client:
        long = bytes(range(11, 256)) * 4_000 + b"\n"

        assert client.ask(b"hello\n") == b"hello\n"
        assert client.ask(long) == long


def test_each_answered_question_is_a_round_trip(proxy: Proxy) -> None:
    with closing(Client(proxy.port)) as client:
        for number in range(3):
            client.ask(b"%d\n" % number)

        assert proxy.round_trips == 3


def test_a_pipeline_is_one_round_trip_and_a_question_without_answer_is_none(proxy: Proxy) -> None:
    with closing(Client(proxy.port)) as client:
        client.send(b"quiet\n")
        client.send(b"one\n", b"two\n", b"three\n")
        assert [client.read() for _ in range(3)] == [b"one\n", b"two\n", b"three\n"]

        assert proxy.round_trips == 1


def test_closed_connections_stay_counted(proxy: Proxy) -> None:
    for _ in range(2):
        with closing(Client(proxy.port)) as client:
            client.ask(b"hello\n")

    assert proxy.round_trips == 2


def test_a_delay_is_taken_in_each_direction(server_port: int) -> None:
    with (
        Proxy("127.0.0.1", server_port, delay=0.02) as proxy,
        closing(Client(proxy.port)) as client,
    ):
        started = time.perf_counter()
        client.ask(b"hello\n")
        taken = time.perf_counter() - started

    assert taken >= 0.04


def test_a_cut_ends_connections_and_new_ones_are_served(proxy: Proxy) -> None:
    with closing(Client(proxy.port)) as client:
        client.ask(b"hello\n")
        assert proxy.connections == 1

        proxy.cut()

        assert proxy.connections == 0
        with pytest.raises(ConnectionError):
            client.ask(b"hello\n")
    with closing(Client(proxy.port)) as client:
        assert client.ask(b"again\n") == b"again\n"


@pytest.mark.parametrize(
    ("moment", "received"), [("before", b""), ("within", b"sec"), ("after", b"second\n")]
)
def test_a_cut_at_a_request_lets_the_server_have_none_half_or_all_of_it(
    server: Server, proxy: Proxy, moment: Moment, received: bytes
) -> None:
    with closing(Client(proxy.port)) as client:
        proxy.cut_at(2, moment)
        assert client.ask(b"first\n") == b"first\n"
        with pytest.raises(ConnectionError):
            client.ask(b"second\n")
        assert not proxy.cancel_cut()
    assert b"".join(iter(server.received.get, b"")) == b"first\n" + received
    with closing(Client(proxy.port)) as client:
        assert client.ask(b"third\n") == b"third\n"


def test_a_stopped_server_resets_the_clients_connection() -> None:
    with (
        Proxy("127.0.0.1", free_port()) as proxy,
        pytest.raises(ConnectionError),  # the reset may come before the client has connected
        closing(Client(proxy.port)) as client,
    ):
        client.ask(b"hello\n")


def test_a_proxy_in_another_process_delays_too(server_port: int) -> None:
    with (
        distant("127.0.0.1", server_port, delay=0.01) as port,
        closing(Client(port)) as client,
    ):
        started = time.perf_counter()
        assert client.ask(b"hello\n") == b"hello\n"

        assert time.perf_counter() - started >= 0.02

"""A TCP proxy that delays what passes, counts round trips, and can cut connections."""

from __future__ import annotations

import asyncio
import multiprocessing
import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Literal, Self, TypeAlias

Moment: TypeAlias = Literal["before", "within", "after"]
"""When a connection is cut: before a request reaches the server, when half of it has, or after
the server has carried it out, when its answer arrives."""


class Proxy:
    """Passes TCP connections on to a server, from an event loop in a thread of its own.

    A request is a client's burst of bytes that the server answers: a pipeline is one. With its
    answer it is a round trip.

    Args:
        host: The server's host.
        port: The server's port.
        delay: Seconds that bytes take in each direction.
    """

    def __init__(self, host: str, port: int, *, delay: float = 0.0) -> None:
        self.port = 0
        self.delay = delay
        self._server_address = (host, port)
        self._links: set[_Link] = set()
        self._past_round_trips = 0
        self._planned: tuple[int, Moment] | None = None
        # `select` keeps to microseconds, `epoll` rounds up to milliseconds.
        self._loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def round_trips(self) -> int:
        """How many bursts of the clients were answered so far, over all connections."""
        return self._past_round_trips + sum(link.round_trips for link in set(self._links))

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    def cut(self) -> None:
        """Cut every connection, in the middle of whatever it carries; new ones are welcome."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    def close_for_good(self) -> None:
        """Cut every connection, and refuse new ones."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()

    def cut_at(self, request: int, moment: Moment) -> None:
        """Cut the connection that carries a request, counted from 1 and from now on."""
        self._planned = request, moment

    def cancel_cut(self) -> bool:
        """Take back what `cut_at` planned; False if the connection was cut."""
        was_planned, self._planned = self._planned is not None, None
        return was_planned

    def moment_of_request(self) -> Moment | None:
        """Count a request, and say when to cut its connection, if at all."""
        if self._planned is None:
            return None
        left, moment = self._planned
        self._planned = None if left == 1 else (left - 1, moment)
        return moment if left == 1 else None

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_connection(*self._server_address)
        except OSError:
            _reset(writer)
            await _close(writer)
            return
        link = _Link(self, (reader, writer), upstream)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
            self._past_round_trips += link.round_trips

    async def _cut(self) -> None:
        links = list(self._links)
        for link in links:
            link.reset()
        await asyncio.gather(*(link.ended.wait() for link in links))

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One client's connection and the one to the server behind it."""

    def __init__(self, proxy: Proxy, client: _Streams, server: _Streams) -> None:
        self.round_trips = 0
        self.ended = asyncio.Event()
        self._proxy = proxy
        self._client = client
        self._server = server
        self._delay = proxy.delay
        self._awaits_answer = False
        self._loses_answer = False

    async def run(self) -> None:
        """Pass bytes on in both directions until one side closes."""
        (client_reads, client_writes), (server_reads, server_writes) = self._client, self._server
        pumps = [
            asyncio.ensure_future(self._pump(client_reads, server_writes, is_question=True)),
            asyncio.ensure_future(self._pump(server_reads, client_writes, is_question=False)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for _, writer in (self._client, self._server):
                await _close(writer)
            self.ended.set()

    def reset(self) -> None:
        """Reset both connections: what is under way is lost."""
        for _, writer in (self._client, self._server):
            _reset(writer)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_question: bool
    ) -> None:
        """Read at once and write later, so that a delay does not become a limit of the rate."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await waiting.get()
                if (pause := due - loop.time()) > 0:
                    await asyncio.sleep(pause)
                writer.write(data)
                await writer.drain()
                if not data:
                    return

        delivery = asyncio.ensure_future(deliver())
        try:
            while data := await reader.read(1 << 16):
                moment = self._count(is_question=is_question)
                if moment == "within":
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                if moment is not None:
                    _reset(self._client[1])
                    return
                waiting.put_nowait((loop.time() + self._delay, data))
            waiting.put_nowait((loop.time() + self._delay, b""))
            await delivery
        except ConnectionError:
            pass
        finally:
            delivery.cancel()

    def _count(self, *, is_question: bool) -> Moment | None:
        """Count requests and round trips; the moment if the connection is to be cut now."""
        if not is_question:
            if self._awaits_answer:
                self._awaits_answer = False
                self.round_trips += 1
            return "after" if self._loses_answer else None
        if self._awaits_answer:
            return None
        self._awaits_answer = True
        moment = self._proxy.moment_of_request()
        self._loses_answer = moment == "after"
        return None if self._loses_answer else moment


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close a connection after what is still to be written."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection such that the other side sees an error, not an end."""
    connection: socket.socket = writer.get_extra_info("socket")
    if connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def distant(host: str, port: int, *, delay: float) -> Iterator[int]:
    """The port of a proxy in another process, which takes no time from this one.

    Args:
        host: The server's host.
        port: The server's port.
        delay: Seconds that bytes take in each direction.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, host, port, delay), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join()


def _serve(parent: Connection, host: str, port: int, delay: float) -> None:
    with Proxy(host, port, delay=delay) as proxy, parent:
        parent.send(proxy.port)
        try:
            parent.recv()
        except EOFError:  # nobody needs it any more
            return

"""Connections for asyncio that can always be closed, and start no tasks of their own.

The asyncio backend of httpcore connects in a task group of anyio, which fails where an event loop starts
tasks eagerly, as with `asyncio.eager_task_factory`. It would leave a connection open whose handshake was
cancelled, for as long as the peer likes, and also the connections of an event loop that has ended.

Operations here have no time limits: `AsyncHttpBus` limits a whole request.
"""

import asyncio
import select
import ssl
from collections.abc import Iterable
from typing import Any, Self, cast
from weakref import WeakSet

import httpcore

from ...concurrency.event_loops import abandon_transport
from ...concurrency.happy_eyeballs import connect_socket

MOST_UNREAD = 256 * 1024
"""Unread bytes after which reading from the peer is paused."""


class AsyncioBackend(httpcore.AsyncNetworkBackend):
    """Opens connections of the running event loop, and closes those of an event loop that has ended."""

    def __init__(self) -> None:
        self._streams: WeakSet[_AsyncioStream] = WeakSet()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of `host` that answers. Cancelling closes a connection in progress."""
        try:
            sock = await connect_socket(host, port)
            _, stream = await asyncio.get_running_loop().create_connection(_AsyncioStream, sock=sock)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        self._streams.add(stream)
        return stream

    def abandon(self) -> None:
        """Close all connections after the event loop was closed. Never waits."""
        for stream in list(self._streams):
            abandon_transport(stream.transport)


class _AsyncioStream(httpcore.AsyncNetworkStream, asyncio.Protocol):
    """One connection, read and written by one task at a time."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._unread = bytearray()
        self._is_paused = False
        self._is_full = False
        self._is_over = False
        self._error: Exception | None = None
        self._change = asyncio.Event()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while not self._unread and not self._is_over:
            await self._until_changed()
        if not self._unread and self._error is not None:
            raise httpcore.ReadError(_text(self._error)) from self._error
        part = bytes(self._unread[:max_bytes])
        del self._unread[:max_bytes]
        if self._is_paused and len(self._unread) < MOST_UNREAD:
            self._is_paused = False
            self.transport.resume_reading()
        return part

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.transport.write(buffer)
        while self._is_full and not self._is_over:
            await self._until_changed()
        if self._is_over:
            raise httpcore.WriteError("the peer closed the connection") from self._error

    async def aclose(self) -> None:
        self.transport.close()
        try:
            await asyncio.sleep(0)
        finally:
            self.transport.abort()  # otherwise TLS would wait for the peer to close, too

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> Self:
        loop, plain = asyncio.get_running_loop(), self.transport
        try:
            transport = await loop.start_tls(plain, self, ssl_context, server_hostname=server_hostname)
        except BaseException as error:
            plain.abort()  # a handshake that is cancelled as it ends would wait for the peer to close, too
            if isinstance(error, OSError):
                raise httpcore.ConnectError(_text(error)) from error
            raise
        assert transport is not None  # noqa: S101 - only where the transport was closed before
        self.transport = transport
        return self

    def get_extra_info(self, info: str) -> Any:
        if (
            info == "is_readable"
        ):  # between requests: the peer closed the connection, or sent bytes that are no answer
            return bool(self._unread) or self._is_over or _is_readable(self.transport)
        return self.transport.get_extra_info(info)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if len(self._unread) >= MOST_UNREAD and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()
        self._change.set()

    def eof_received(self) -> None:
        self._is_over = True
        self._change.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        self._error = exc
        self._change.set()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._change.set()

    async def _until_changed(self) -> None:
        self._change.clear()
        await self._change.wait()


def _is_readable(transport: asyncio.Transport) -> bool:
    """Return whether bytes have arrived that the event loop has not read yet."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket"), select.POLLIN)
    return bool(poll.poll(0))


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__

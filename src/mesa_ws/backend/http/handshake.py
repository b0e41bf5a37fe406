"""Connections for asyncio that leave nothing behind.

httpcore closes a connection whose handshake failed, but not one whose handshake was cancelled, by
the caller or by a time limit; its socket would stay open for as long as the peer likes. Nor does it
close what belongs to an event loop that has ended.
"""

import ssl
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

import httpcore

from ..event_loops import abandon_transport


class HandshakeBackend(httpcore.AnyIOBackend):
    """Connects as httpcore does, and closes what a cancelled handshake or an ended loop leaves."""

    def __init__(self) -> None:
        self._sockets: WeakSet[Any] = WeakSet()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of `host` that answers."""
        stream = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        self._sockets.add(getattr(stream, "_stream", stream))  # what remains beneath TLS
        return _Stream(stream)

    def abandon(self) -> None:
        """Close all connections after the event loop was closed. Never waits."""
        for sock in list(self._sockets):
            abandon_transport(getattr(sock, "_transport", None))


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, plain: httpcore.AsyncNetworkStream) -> None:
        self._plain = plain

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._plain.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._plain.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._plain.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await self._plain.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            await self.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._plain.get_extra_info(info)

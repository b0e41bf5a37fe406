"""Centrifugo's HTTP API from asyncio, one request for each message, as many connections as go at once.

Arguments: the URL of the API; the recipient. The order `batches` sends one request for many messages,
whose commands run in parallel: faster than one after another, and without order among them.
"""

import asyncio
import sys
from typing import Any
from urllib.parse import urlsplit

from .. import wire
from ..centrifugo_api import channel_of, first_response, publication, request
from ..servers.orders import obey_orders, run
from . import AT_ONCE, BATCH
from .ticks import listen_for_ticks

url, target = sys.argv[1:3]
channel = channel_of(target)


class Connection(asyncio.Protocol):
    """Sends a request at a time."""

    def __init__(self) -> None:
        self._unread = b""
        self._transport: asyncio.Transport
        self._answered: asyncio.Future[None] | None = None

    @property
    def is_idle(self) -> bool:
        return self._answered is None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        response = first_response(self._unread)
        if response and self._answered:
            self._unread = response[1]
            self._answered.set_result(None)
            self._answered = None

    def call(self, method: str, content: Any) -> asyncio.Future[None]:
        """Send a request; the future ends with the answer."""
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request(method, content))
        return self._answered


async def main() -> None:
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    made = [await loop.create_connection(Connection, parts.hostname, parts.port) for _ in range(AT_ONCE)]
    connections = [connection for _, connection in made]
    # A connection that has never been used is closed after ten seconds.
    await asyncio.gather(*(connection.call("info", {}) for connection in connections))

    def send(at: str) -> None:
        idle = next(connection for connection in connections if connection.is_idle)
        idle.call("publish", publication(channel, wire.data(at)))

    async def dispatch(messages: int, data: Any, type: str, ids: int = 0) -> None:
        for start in range(0, messages, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, messages))
            await asyncio.gather(
                *(
                    connection.call(
                        "publish", publication(channel_of(str(n % ids)) if ids else channel, data)
                    )
                    for connection, n in zip(connections, numbers, strict=False)
                )
            )

    async def batches(messages: int, data: Any, type: str) -> None:
        for start in range(0, messages, BATCH):
            count = min(BATCH, messages - start)
            commands = [{"publish": publication(channel, data)} for _ in range(count)]
            await connections[0].call("batch", {"commands": commands, "parallel": True})

    await obey_orders(await listen_for_ticks(send), {"dispatch": dispatch, "batches": batches})


run(main)

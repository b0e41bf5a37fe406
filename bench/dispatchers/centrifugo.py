"""Centrifugo's HTTP API from asyncio, one request for each message, as many connections as go at once.

Arguments: the URL of the API; the recipient. The order `batches` sends one request for many messages,
whose commands run in parallel: faster than one after another, and without order among them.
"""

import asyncio
import sys
import time
from collections import deque
from typing import Any
from urllib.parse import urlsplit

from .. import wire
from ..centrifugo_api import FRESH, channel_of, first_response, publication, request
from ..servers.orders import obey_orders, run
from . import AT_ONCE, BATCH
from .ticks import listen_for_ticks

url, target = sys.argv[1:3]
channel = channel_of(target)

PAUSE = 0.2
"""Seconds between two looks at the age of connections."""


class Connection(asyncio.Protocol):
    """Sends requests, and reads their answers in the same order."""

    def __init__(self) -> None:
        self._unread = b""
        self.unanswered: deque[asyncio.Future[None]] = deque()
        self.transport: asyncio.Transport
        self.used_at = time.monotonic()

    @property
    def is_old(self) -> bool:
        return not self.unanswered and time.monotonic() - self.used_at > FRESH

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while response := first_response(self._unread):
            self._unread = response[1]
            self.unanswered.popleft().set_result(None)
            self.used_at = time.monotonic()

    def call(self, method: str, content: Any) -> asyncio.Future[None]:
        """Send a request; the future ends with the answer."""
        answered = asyncio.get_running_loop().create_future()
        self.unanswered.append(answered)
        self.transport.write(request(method, content))
        return answered


class Pool:
    """As many connections as messages go at once. Old ones are replaced before Centrifugo closes them."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []

    async def fill(self) -> None:
        """Open connections that are missing, and in place of old ones."""
        old = [connection for connection in self.connections if connection.is_old]
        parts = urlsplit(url)
        while len(self.connections) < AT_ONCE + len(old):
            connect = asyncio.get_running_loop().create_connection
            _, connection = await connect(Connection, parts.hostname, parts.port)
            self.connections.append(connection)
        for connection in [each for each in old if each.is_old]:  # some were used again
            self.connections.remove(connection)
            connection.transport.close()

    async def keep_full(self) -> None:
        """Look at the age of all connections every now and then."""
        while True:
            await self.fill()
            await asyncio.sleep(PAUSE)

    def send(self, at: str) -> None:
        """Publish one message."""
        least = min(self.connections, key=lambda connection: len(connection.unanswered))
        least.call("publish", publication(channel, wire.data(at)))

    async def dispatch(self, messages: int, data: Any, type: str, ids: int = 0) -> None:
        """Publish messages to the recipient, or to `ids` ids in turn."""
        await self.fill()
        for start in range(0, messages, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, messages))
            commands = (publication(channel_of(str(n % ids)) if ids else channel, data) for n in numbers)
            pairs = zip(self.connections, commands, strict=False)
            await asyncio.gather(*[connection.call("publish", command) for connection, command in pairs])

    async def batches(self, messages: int, data: Any, type: str) -> None:
        """Publish messages, many in one request."""
        await self.fill()
        for start in range(0, messages, BATCH):
            count = min(BATCH, messages - start)
            commands = [{"publish": publication(channel, data)} for _ in range(count)]
            await self.connections[0].call("batch", {"commands": commands, "parallel": True})


async def main() -> None:
    pool = Pool()
    await pool.fill()
    keeping = asyncio.ensure_future(pool.keep_full())
    port = await listen_for_ticks(pool.send)
    await obey_orders(port, {"dispatch": pool.dispatch, "batches": pool.batches})
    keeping.cancel()


run(main)

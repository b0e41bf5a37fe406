"""Lower bound of a dispatcher over Redis: PUBLISH, without a look at its recipients."""

import asyncio
import sys
from typing import Any

import hiredis

from .. import wire
from ..bare_redis import CHANNEL, address
from ..servers.orders import obey_orders, run
from . import AT_ONCE
from .ticks import listen_for_ticks

TARGET = sys.argv[2].encode()


class Publisher(asyncio.Protocol):
    """Writes PUBLISH commands, and counts the replies."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport
        self._unanswered = 0
        self._all_answered = asyncio.Event()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while self._reader.gets() is not False:
            self._unanswered -= 1
        if not self._unanswered:
            self._all_answered.set()

    def publish(self, body: bytes) -> None:
        """Publish a message without waiting for the reply."""
        self._unanswered += 1
        self._all_answered.clear()
        command = ("PUBLISH", CHANNEL, TARGET + b" " + body)
        self._transport.write(hiredis.pack_command(command))  # type: ignore[arg-type]  # takes any length

    async def publish_many(self, messages: int, **_: Any) -> None:
        """Publish messages, `AT_ONCE` at a time."""
        for start in range(0, messages, AT_ONCE):
            for _turn in range(min(AT_ONCE, messages - start)):
                self.publish(wire.body())
            await self._all_answered.wait()


async def main() -> None:
    loop = asyncio.get_running_loop()
    _, publisher = await loop.create_connection(Publisher, *address(sys.argv[1]))
    port = await listen_for_ticks(lambda at: publisher.publish(wire.body(at)))
    await obey_orders(port, {"dispatch": publisher.publish_many})


run(main)

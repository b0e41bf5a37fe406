"""A node as a process of its own: python node_program.py REDIS_URL NAMESPACE LEASE ID...

Holds the ids, prints its node id when it does, and then the body of each message it receives or
catches up with.
"""

import asyncio
import sys

from mesa_ws.backend.outbox import Page, Read, Start
from mesa_ws.backend.redis import RedisBackend
from mesa_ws.messages.envelope import Envelope
from mesa_ws.messages.receipt import Position


class Node:
    """Prints each stored message once, in order, and any other one as it comes."""

    def __init__(self, backend: RedisBackend) -> None:
        self._backend = backend
        self._positions: dict[str, Position] = {}
        self._announced: dict[str, Position] = {}

    async def hold(self, id: str) -> None:
        page = await self._backend.attach(id, 1, Start())
        if page is not None:
            self._take(id, page)

    def receive(self, envelope: Envelope) -> None:
        if not envelope.positions:
            self._print(envelope.body)
        for id, position in zip(envelope.recipients.ids, envelope.positions, strict=False):
            before = self._positions[id]
            self._announced[id] = position
            if position == Position(before.epoch, before.sequence + 1):
                self._positions[id] = position
                self._print(envelope.body)

    async def catch_up(self) -> None:
        """Read all ids, and again those of which a message was announced behind what was read."""
        ids = list(self._positions)
        while ids:
            reads = [Read(id, self._positions[id]) for id in ids]
            for read, page in zip(reads, await self._backend.read(reads), strict=True):
                if read.position == self._positions[read.id]:
                    self._take(read.id, page)
            ids = [id for id in ids if self._is_behind(id)]

    def _is_behind(self, id: str) -> bool:
        position, announced = self._positions[id], self._announced.get(id)
        if announced is None or announced.epoch != position.epoch:
            return False
        return announced.sequence > position.sequence

    def came_online(self, id: str) -> None:
        """Nobody wants to know."""

    def went_offline(self, id: str) -> None:
        """Nobody wants to know."""

    def portal_joined(self, id: str) -> None:
        """Nobody wants to know."""

    def portal_left(self, id: str) -> None:
        """Nobody wants to know."""

    def forked(self, since: float) -> None:
        """Nobody wants to know."""

    def _take(self, id: str, page: Page) -> None:
        self._positions[id] = Position(page.epoch, page.last)
        for entry in page.entries:
            self._print(entry.body)

    def _print(self, body: bytes) -> None:
        print(body.decode(), flush=True)


async def main(redis_url: str, namespace: str, lease: str, *ids: str) -> None:
    backend = RedisBackend(redis_url, namespace=namespace, lease=float(lease))
    node = Node(backend)
    await backend.open(node.receive, node, grace=0.2)
    for id in ids:
        await node.hold(id)
    print(backend.node_id, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

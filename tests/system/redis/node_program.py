"""A node in a process of its own: python node_program.py REDIS_URL NAMESPACE LEASE ID...

It holds the ids, prints its node id, and then the body of each message that it receives or
catches up with.
"""

import asyncio
import sys

from mesa_ws.backend.base import Membership
from mesa_ws.backend.outbox import Page, Read, Start
from mesa_ws.backend.redis import RedisBackend
from mesa_ws.messages.envelope import Envelope
from mesa_ws.messages.receipt import Position


class Node:
    """Prints each stored message once and in order, and other messages as they arrive."""

    def __init__(self, backend: RedisBackend) -> None:
        self._backend = backend
        self._positions: dict[str, Position] = {}
        self._announced: dict[str, Position] = {}

    async def hold(self, id: str) -> None:
        page = await self._backend.attach(id, 1, Start())
        if page is not None:
            self._print_page(id, page)

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
        """Read the outboxes of all ids, and repeat that for ids with a message announced after the page."""
        ids = list(self._positions)
        while ids:
            reads = [Read(id, self._positions[id]) for id in ids]
            for read, page in zip(reads, await self._backend.read(reads), strict=True):
                if read.position == self._positions[read.id]:
                    self._print_page(read.id, page)
            ids = [id for id in ids if self._is_behind(id)]

    def _is_behind(self, id: str) -> bool:
        position, announced = self._positions[id], self._announced.get(id)
        if announced is None or announced.epoch != position.epoch:
            return False
        return announced.sequence > position.sequence

    def came_online(self, id: str) -> None:
        """Ignore the notification."""

    def went_offline(self, id: str) -> None:
        """Ignore the notification."""

    def portal_joined(self, id: str) -> None:
        """Ignore the notification."""

    def doubted(self) -> None: ...

    def portal_left(self, id: str) -> None:
        """Ignore the notification."""

    def forked(self, since: float) -> None:
        """Ignore the notification."""

    def _print_page(self, id: str, page: Page) -> None:
        self._positions[id] = Position(page.epoch, page.last)
        for entry in page.entries:
            self._print(entry.body)

    def _print(self, body: bytes) -> None:
        print(body.decode(), flush=True)


async def main(redis_url: str, namespace: str, lease: str, *ids: str) -> None:
    backend = RedisBackend(redis_url, namespace=namespace, lease=float(lease))
    node = Node(backend)
    await backend.open(node.receive, node, Membership(grace=0.2))
    for id in ids:
        await node.hold(id)
    print(backend.node_id, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

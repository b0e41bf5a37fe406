"""A cluster of backends of one kind, and the envelopes that its nodes receive."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any

from mesa_ws.backend.base import Backend, Membership
from mesa_ws.messages.envelope import Envelope, prepare
from mesa_ws.messages.message import Message

LIMIT = 30.0
"""Seconds that a test waits for a condition."""

Make = Callable[[str], Backend]
"""Makes a backend of a namespace."""


class Node:
    """An open backend, its received envelopes, and the changes of presence that it was notified of."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.received: list[Envelope] = []
        self.changes: list[tuple[str, str]] = []
        self._news = asyncio.Event()

    def receive(self, envelope: Envelope) -> None:
        self.received.append(envelope)
        self._news.set()

    async def catch_up(self) -> None:
        """Do nothing: no test of this folder interrupts a subscription."""

    def came_online(self, id: str) -> None:
        self.changes.append(("online", id))
        self._news.set()

    def went_offline(self, id: str) -> None:
        self.changes.append(("offline", id))
        self._news.set()

    def portal_joined(self, id: str) -> None:
        self.changes.append(("portal joined", id))
        self._news.set()

    def doubted(self) -> None: ...

    def portal_left(self, id: str) -> None:
        self.changes.append(("portal left", id))
        self._news.set()

    def forked(self, since: float) -> None:
        self.changes.append(("forked", str(since)))
        self._news.set()

    async def until_told(self, change: str, id: str) -> None:
        """Wait until the node is notified of a change."""
        async with asyncio.timeout(LIMIT):
            while (change, id) not in self.changes:
                self._news.clear()
                await self._news.wait()

    async def until(self, message_id: str) -> list[Envelope]:
        """Wait for a message, and return the envelopes received before it."""
        async with asyncio.timeout(LIMIT):
            while all(envelope.message_id != message_id for envelope in self.received):
                self._news.clear()
                await self._news.wait()
        ids = [envelope.message_id for envelope in self.received]
        return self.received[: ids.index(message_id)]


class Cluster:
    """Opens nodes that find each other, in a namespace of their own or a named one."""

    def __init__(self, make: Make, namespace: str, stack: AsyncExitStack) -> None:
        self._make = make
        self._stack = stack
        self.namespace = namespace

    def backend(self, namespace: str | None = None) -> Backend:
        """Make a backend that is not open."""
        return self._make(namespace or self.namespace)

    async def node(
        self,
        held: Mapping[str, int] = MappingProxyType({}),
        *,
        namespace: str | None = None,
        **options: Any,
    ) -> Node:
        """Open a node that holds ids with numbers of connections; options are those of `open`."""
        node = Node(self.backend(namespace))
        await node.backend.open(node.receive, node, Membership(**options))
        self._stack.push_async_callback(node.backend.aclose)
        for id, sockets in held.items():
            await node.backend.attach(id, sockets)
        return node


async def heard(*nodes: Node) -> list[list[Envelope]]:
    """Return the envelopes that nodes of one namespace have received so far.

    They are complete when a last message to all nodes has arrived, as messages keep their order.
    """
    last = prepare(Message(0, None, "LAST"))
    await nodes[0].backend.dispatch([last])
    return [await node.until(last.message_id) for node in nodes]

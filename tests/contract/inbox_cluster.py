"""Nodes and portals at one inbox of any backend."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import count

from mesa_ws.backend.base import Backend
from mesa_ws.backend.inbox import (
    PARTITIONS,
    AppendResult,
    Capacity,
    EventKind,
    InboxEvent,
    PortalConsumer,
    Step,
    WaitingEvent,
)
from tests.contract.cluster import LIMIT

EVERY = range(PARTITIONS)


class InboxCluster:
    """Opens nodes and portals of one namespace.

    Args:
        make_backend: makes the backend of a node.
        make_portal: makes the consumer of a portal.
        stack: closes both.
    """

    def __init__(
        self,
        make_backend: Callable[[], Backend],
        make_portal: Callable[[], PortalConsumer],
        stack: AsyncExitStack,
    ) -> None:
        self._make_backend = make_backend
        self._make_attendance = make_portal
        self._stack = stack

    async def node(self) -> "InboxNode":
        backend = self._make_backend()
        received: list[tuple[str, bytes]] = []
        await backend.open(lambda envelope: received.append((envelope.recipients.ids[0], envelope.body)))
        self._stack.push_async_callback(backend.aclose)
        return InboxNode(backend, received)

    def portal(self) -> PortalConsumer:
        portal = self._make_attendance()
        self._stack.push_async_callback(portal.aclose)
        return portal

    async def owner(self) -> "OwnerPortal":
        """Open a portal that owns every queue."""
        portal = self.portal()
        ownership = await portal.heartbeat(EVERY)
        assert set(ownership.tokens) == set(EVERY)
        return OwnerPortal(portal, dict(ownership.tokens))


class InboxNode:
    """A node that appends events."""

    def __init__(self, backend: Backend, received: list[tuple[str, bytes]]) -> None:
        self.backend = backend
        self.received = received

    async def append(
        self,
        kind: EventKind,
        sequence: int,
        data: str = "",
        *,
        connection: str = "c",
        most: int = 100,
        bytes: int = 1 << 30,
        id: str | None = None,
        network: str = "",
    ) -> AppendResult:
        node = self.backend.node_id
        event = InboxEvent(f"{node}.{connection}", 3, str(sequence), kind, id, node, data.encode(), network)
        return await self.backend.append(event, Capacity(most, bytes))

    async def open_with(self, *messages: str, connection: str = "c") -> None:
        """Open a connection that sends messages."""
        await self.append("connection", 1, connection=connection)
        for sequence, message in enumerate(messages, 2):
            await self.append("message", sequence, message, connection=connection)

    async def until_received(self) -> tuple[str, bytes]:
        async with asyncio.timeout(LIMIT):
            while not self.received:
                await asyncio.sleep(0.01)
        return self.received[0]


class OwnerPortal:
    """A portal, and the tokens of the queues that it owns."""

    def __init__(self, portal: PortalConsumer, tokens: dict[int, int]) -> None:
        self.portal = portal
        self.tokens = tokens
        self._attempts = count(1)

    async def read(self) -> list[WaitingEvent]:
        return await self.portal.read(dict.fromkeys(self.tokens, ""))

    async def until_read(self, count: int) -> list[WaitingEvent]:
        async with asyncio.timeout(LIMIT):
            while len(found := await self.read()) < count:
                pass
        return found

    def step(self, action: str, waiting: WaitingEvent, reason: str = "") -> Step:
        partition, event = waiting.event.partition, waiting.event
        what = (waiting.offset, event.account, event.weight, next(self._attempts), reason)
        return Step(partition, self.tokens[partition], action, *what)  # type: ignore[arg-type]

    async def settle(self, action: str, *events: WaitingEvent, reason: str = "") -> list[int]:
        return await self.portal.settle([self.step(action, waiting, reason) for waiting in events])


def contents(events: list[WaitingEvent]) -> list[tuple[str, str, str]]:
    return [(waiting.event.kind, waiting.event.sequence, waiting.event.data.decode()) for waiting in events]

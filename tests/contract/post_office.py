"""A node and portals at one inbox, whatever kind it is of."""

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
    weight_of,
)
from tests.contract.cluster import LIMIT

EVERY = range(PARTITIONS)


class PostOffice:
    """Opens nodes and portals of one namespace.

    Args:
        make_backend: makes a node's seat.
        make_attendance: makes a portal's.
        stack: closes them.
    """

    def __init__(
        self,
        make_backend: Callable[[], Backend],
        make_attendance: Callable[[], PortalConsumer],
        stack: AsyncExitStack,
    ) -> None:
        self._make_backend = make_backend
        self._make_attendance = make_attendance
        self._stack = stack

    async def node(self) -> "Sender":
        backend = self._make_backend()
        received: list[tuple[str, bytes]] = []
        await backend.open(lambda envelope: received.append((envelope.recipients.ids[0], envelope.body)))
        self._stack.push_async_callback(backend.aclose)
        return Sender(backend, received)

    def portal(self) -> PortalConsumer:
        attendance = self._make_attendance()
        self._stack.push_async_callback(attendance.aclose)
        return attendance

    async def owner(self) -> "Owner":
        """A portal that owns every queue."""
        portal = self.portal()
        ownership = await portal.tend(EVERY)
        assert set(ownership.tokens) == set(EVERY)
        return Owner(portal, dict(ownership.tokens))


class Sender:
    """A node that appends letters."""

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
    ) -> AppendResult:
        node = self.backend.node_id
        letter = InboxEvent(f"{node}.{connection}", 3, str(sequence), kind, None, node, data.encode())
        return await self.backend.append(letter, Capacity(most, bytes))

    async def open_with(self, *messages: str, connection: str = "c") -> None:
        """A connection begins, and sends."""
        await self.append("connection", 1, connection=connection)
        for sequence, message in enumerate(messages, 2):
            await self.append("message", sequence, message, connection=connection)

    async def until_received(self) -> tuple[str, bytes]:
        async with asyncio.timeout(LIMIT):
            while not self.received:
                await asyncio.sleep(0.01)
        return self.received[0]


class Owner:
    """A portal, and what it owns."""

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
        partition, whose = waiting.event.partition, waiting.event.connection_id
        what = (waiting.offset, whose, weight_of(waiting.event.data), next(self._attempts), reason)
        return Step(partition, self.tokens[partition], action, *what)  # type: ignore[arg-type]

    async def settle(self, action: str, *letters: WaitingEvent, reason: str = "") -> list[int]:
        return await self.portal.settle([self.step(action, waiting, reason) for waiting in letters])


def told(letters: list[WaitingEvent]) -> list[tuple[str, str, str]]:
    return [(waiting.event.kind, waiting.event.sequence, waiting.event.data.decode()) for waiting in letters]

"""Shared by tests of message sync: a server that stores messages, and the state of its outboxes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from mesa_ws.backend.memory import MemoryBackend
from mesa_ws.backend.outbox import Page, Read
from mesa_ws.backend.queries import Heads
from mesa_ws.errors import BackendUnavailable
from mesa_ws.messages.envelope import Envelope
from mesa_ws.messages.message import Message
from mesa_ws.messages.receipt import Position
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Server

from .peer import LIMIT


def storing(backend: Any = None, **options: Any) -> Server:
    """A server that stores what it sends, and believes who clients say they are."""
    server = Server(backend, **{"sync": True} | options)

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"])

    return server


async def send(server: Server, *numbers: int, to: str = "1", sync: bool = True) -> None:
    """Send messages that carry a number each."""
    for n in numbers:
        await server.send(Message(0, n, "N", sync=sync), [to])


async def until(holds: Callable[[], Awaitable[bool] | bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(LIMIT):
        while True:
            result = holds()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(0.01)


async def unproven(server: Server, id: str = "1") -> int:
    """Return the number of unacknowledged messages of an id."""
    head = (await server.bus.query(Heads([id])))[id]
    return head.top - head.acknowledged if head else 0


async def until_unproven(server: Server, count: int, id: str = "1") -> None:
    """Wait until so many messages of an id are unproven."""

    async def is_so() -> bool:
        return await unproven(server, id) == count

    await until(is_so)


def data(frames: list[dict[str, Any]]) -> list[Any]:
    """What messages carry."""
    return [frame["d"] for frame in frames]


def numbers(frames: list[dict[str, Any]]) -> list[Any]:
    """Their `s`."""
    return [frame.get("s") for frame in frames]


class Flaky(MemoryBackend):
    """A backend whose hints can be lost, and that can be away.

    Attributes:
        is_deaf: hints are lost.
        is_away: reading fails.
        attempts: how often reading was tried while away.
    """

    is_deaf = False
    is_away = False
    attempts = 0

    async def open(self, receive: Any, watcher: Any = None, membership: Any = None) -> None:
        def unless_deaf(envelope: Envelope) -> None:
            if not self.is_deaf:
                receive(envelope)

        await super().open(unless_deaf, watcher, membership)

    async def read(self, reads: Sequence[Read]) -> list[Page]:
        self._check()
        return await super().read(reads)

    async def broadcasts(self, position: Position | None) -> Page:
        self._check()
        return await super().broadcasts(position)

    def _check(self) -> None:
        if self.is_away:
            self.attempts += 1
            raise BackendUnavailable("away")

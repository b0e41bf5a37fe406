"""Two servers, a portal and clients on a Redis that goes away, and a third server that dies while it does."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any, Literal, Self

from websockets.exceptions import ConnectionClosed

from mesa_ws import AsyncDispatcher, Portal, PortalEvent, RedisBackend
from mesa_ws.transports.run import serve
from tests.interop.npm_packages import PROJECT
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.system.server.conftest import accepting
from tests.system.server.peer import LIMIT, Peer

from .verdict import Cast, Event, Kind

GRACE = 5.0
"""What an id has to come back by default, and what a call of Redis may take."""

TIMEOUT = 5.0
"""Seconds that a call of Redis may take by default."""

AOF = ("--appendonly", "yes", "--appendfsync", "always")

NAMESPACE = "restarts"

LEASE = 15.0
"""Seconds of a lease by default; everything else keeps its ratio to it here, whatever it is."""

STAYING, RETURNING, DYING = 300, 10, 10
"""How many ids."""

TALKING = 10
"""How many of those that stay send numbers."""

How = Literal["restarted", "stopped"]


class Visitor:
    """A client with its connection.

    Args:
        id: who it is.
        note: called when it lost the connection.
    """

    def __init__(self, id: str, note: Callable[[Kind, str, int], None]) -> None:
        self.id = id
        self.sent = count()
        self._note = note
        self._stack = AsyncExitStack()
        self._peer: Peer | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def come(self, url: str) -> bool:
        """Connect and log in; False if that was refused."""
        peer = await self._stack.enter_async_context(Peer.connect(url))
        try:
            await peer.authenticate(self.id)
        except ConnectionClosed:
            await self._stack.aclose()
            return False
        self._note("came", self.id, 0)
        self._peer, self._watcher = peer, asyncio.create_task(self._watch(peer))
        return True

    async def leave(self) -> None:
        """Close the connection."""
        self._note("left", self.id, 0)
        if self._watcher is not None:
            self._watcher.cancel()
        await self._stack.aclose()

    async def talk(self) -> None:
        """Send the next number."""
        assert self._peer is not None
        number = next(self.sent)
        self._note("sent", self.id, number)
        await self._peer.send("NUMBER", number)

    async def _watch(self, peer: Peer) -> None:
        await peer.socket.wait_closed()
        self._note("closed", self.id, 0)


class Site:
    """Everything that takes part.

    Args:
        folder: where Redis writes.
        release: which redis-server.
        lease: seconds.
        grace: seconds that ids have to come back.

    Attributes:
        journal: what happened since it was cleared last.
    """

    def __init__(self, folder: Path, release: str, lease: float, grace: float) -> None:
        self.lease = lease
        self.grace = grace
        self.journal: list[Event] = []
        self.staying = [Visitor(f"staying-{n}", self.note) for n in range(STAYING)]
        self.returning = [Visitor(f"returning-{n}", self.note) for n in range(RETURNING)]
        self._redis = RedisServer(folder, *AOF, release=release)
        self._urls: list[str] = []
        self._rounds = count()
        self._dispatcher: AsyncDispatcher

    @classmethod
    @asynccontextmanager
    async def standing(cls, folder: Path, release: str, lease: float, grace: float) -> AsyncIterator[Self]:
        """Have everything running, and all who stay or return logged in, until the end of the context."""
        site = cls(folder, release, lease, grace)
        async with AsyncExitStack() as stack:
            stack.callback(site._redis.stop)
            await asyncio.to_thread(site._redis.start)
            portal = site._portal()
            await stack.enter_async_context(portal)
            for _ in range(2):
                await stack.enter_async_context(site._serving())
            dispatcher = AsyncDispatcher(site._redis.url, namespace=NAMESPACE, timeout=site.scaled(TIMEOUT))
            site._dispatcher = await stack.enter_async_context(dispatcher)
            for n, visitor in enumerate((*site.staying, *site.returning)):
                stack.push_async_callback(visitor.leave)
                assert await visitor.come(site._urls[n % 2])
            yield site

    def scaled(self, seconds: float) -> float:
        """What so many seconds of a lease of the default length are here."""
        return seconds * self.lease / LEASE

    def note(self, kind: Kind, id: str, number: int = 0) -> None:
        """Write down what happened."""
        self.journal.append(Event(monotonic(), kind, id, number))

    @asynccontextmanager
    async def mortal(self) -> AsyncIterator[tuple[Cast, asyncio.subprocess.Process]]:
        """A third server with clients, which is to be killed."""
        port, name = free_port(), next(self._rounds)
        arguments = (self._redis.url, NAMESPACE, str(self.lease), str(port))
        command = [sys.executable, "-m", "tests.faults.portals.server", *arguments]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=PROJECT)
        dying = [Visitor(f"dying-{name}-{n}", self.note) for n in range(DYING)]
        try:
            assert process.stdout is not None
            async with asyncio.timeout(LIMIT):
                await process.stdout.readline()
            for visitor in dying:
                assert await visitor.come(f"ws://127.0.0.1:{port}/")
            groups = (self.staying, self.returning, dying)
            yield Cast(*(tuple(visitor.id for visitor in group) for group in groups)), process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            for visitor in dying:
                await visitor.leave()

    async def disturb(self, how: How, seconds: float) -> None:
        """Have Redis away for so long."""
        if how == "stopped":
            self._redis.freeze()
            await asyncio.sleep(seconds)
            self._redis.thaw()
        else:
            await asyncio.to_thread(self._redis.stop)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self._redis.start)

    async def come_back(self, visitor: Visitor) -> None:
        """Try to log in until that is possible."""
        for turn in count():
            with suppress(OSError, TimeoutError):
                if await visitor.come(self._urls[turn % 2]):
                    return
            await asyncio.sleep(self.scaled(0.3))

    async def online(self, ids: Sequence[str]) -> dict[str, int]:
        """How many connections ids have, as everybody can ask."""
        return await self._dispatcher.presence.online(ids)

    def _portal(self) -> Portal:
        portal = Portal(self._redis.url, namespace=NAMESPACE, lease=self.lease, timeout=self.scaled(TIMEOUT))

        @portal.on_disconnection
        async def on_disconnection(event: PortalEvent) -> None:
            if event.id is not None:
                self.note("disconnected", event.id)

        @portal.on_message
        async def on_message(event: PortalEvent) -> None:
            assert event.id is not None
            assert event.message is not None
            self.note("handled", event.id, event.message.data)

        return portal

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        backend = RedisBackend(
            self._redis.url, namespace=NAMESPACE, lease=self.lease, timeout=self.scaled(TIMEOUT)
        )
        options: dict[str, Any] = {"portals": True, "presence": {"grace": self.grace}}
        server = accepting(backend=backend, namespace=NAMESPACE, **options)

        @server.on_offline
        async def on_offline(id: str) -> None:
            self.note("offline", id)

        async with serve(server) as endpoint:
            self._urls.append(endpoint.url)
            yield

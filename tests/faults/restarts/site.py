"""Two servers, a portal and clients on a Redis that fails, and a third server that dies during the outage."""

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

from .verdict import Event, IdGroups, Kind

GRACE = 5.0
"""Default grace of an id, and default limit of a Redis call."""

TIMEOUT = 5.0
"""Default limit of a Redis call, in seconds."""

AOF = ("--appendonly", "yes", "--appendfsync", "always")

NAMESPACE = "restarts"

LEASE = 15.0
"""Default lease in seconds; all other durations here are scaled with the lease."""

STAYING, RETURNING, DYING = 300, 10, 10
"""Numbers of ids."""

TALKING = 10
"""Number of staying clients that send numbers."""

How = Literal["restarted", "stopped"]


class TalkingClient:
    """A client with its connection.

    Args:
        id: its id.
        note: called when the connection is lost.
    """

    def __init__(self, id: str, note: Callable[[Kind, str, int], None]) -> None:
        self.id = id
        self.sent = count()
        self._note = note
        self._stack = AsyncExitStack()
        self._peer: Peer | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def come(self, url: str) -> bool:
        """Connect and log in; return False if the server refused."""
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
    """All parts of a run.

    Args:
        folder: folder for files of Redis.
        release: which redis-server.
        lease: length of a lease in seconds.
        grace: seconds that ids have to come back.

    Attributes:
        journal: events since it was last cleared.
    """

    def __init__(self, folder: Path, release: str, lease: float, grace: float) -> None:
        self.lease = lease
        self.grace = grace
        self.journal: list[Event] = []
        self.staying = [TalkingClient(f"staying-{n}", self.note) for n in range(STAYING)]
        self.returning = [TalkingClient(f"returning-{n}", self.note) for n in range(RETURNING)]
        self._redis = RedisServer(folder, *AOF, release=release)
        self._urls: list[str] = []
        self._rounds = count()
        self._dispatcher: AsyncDispatcher

    @classmethod
    @asynccontextmanager
    async def standing(cls, folder: Path, release: str, lease: float, grace: float) -> AsyncIterator[Self]:
        """Run everything, with staying and returning clients logged in, until the end of the context."""
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
            for n, client in enumerate((*site.staying, *site.returning)):
                stack.push_async_callback(client.leave)
                assert await client.come(site._urls[n % 2])
            yield site

    def scaled(self, seconds: float) -> float:
        """Scale seconds by the ratio of the lease to the default."""
        return seconds * self.lease / LEASE

    def note(self, kind: Kind, id: str, number: int = 0) -> None:
        """Add an event to the journal."""
        self.journal.append(Event(monotonic(), kind, id, number))

    @asynccontextmanager
    async def dying_server(self) -> AsyncIterator[tuple[IdGroups, asyncio.subprocess.Process]]:
        """Run a third server with clients, for the caller to kill."""
        port, name = free_port(), next(self._rounds)
        arguments = (self._redis.url, NAMESPACE, str(self.lease), str(port))
        command = [sys.executable, "-m", "tests.faults.portals.server", *arguments]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=PROJECT)
        dying = [TalkingClient(f"dying-{name}-{n}", self.note) for n in range(DYING)]
        try:
            assert process.stdout is not None
            async with asyncio.timeout(LIMIT):
                await process.stdout.readline()
            for client in dying:
                assert await client.come(f"ws://127.0.0.1:{port}/")
            groups = (self.staying, self.returning, dying)
            yield IdGroups(*(tuple(client.id for client in group) for group in groups)), process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            for client in dying:
                await client.leave()

    async def disturb(self, how: How, seconds: float) -> None:
        """Cause an outage of Redis."""
        if how == "stopped":
            self._redis.freeze()
            await asyncio.sleep(seconds)
            self._redis.thaw()
        else:
            await asyncio.to_thread(self._redis.stop)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self._redis.start)

    async def come_back(self, client: TalkingClient) -> None:
        """Log in, with repeated attempts."""
        for turn in count():
            with suppress(OSError, TimeoutError):
                if await client.come(self._urls[turn % 2]):
                    return
            await asyncio.sleep(self.scaled(0.3))

    async def online(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the numbers of connections of ids, by the public presence."""
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

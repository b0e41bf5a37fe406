"""A server node: everything a server does, without sockets."""

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Unpack

from ..backend.base import AsyncBus, Backend, ConnectionCounter, WhoIsOnline
from ..backend.memory import MemoryBackend
from ..backend.mesa1 import ImportingBackend, Mesa1Backend
from ..backend.outbox import Page
from ..backend.redis import RedisBackend
from ..envelope import Durability, Envelope, Keep, Receipt, prepare
from ..errors import BackendError, InvalidSettings, MesaError, Unsupported
from ..message import DispatchEvent, Message, reserved_opcodes
from ..position import Position
from ..recipients import EVERYBODY
from ..session import Authenticate, Terms
from ..settings import ServerOptions, ServerSettings
from ..user import User
from . import admission
from .connection import Connection
from .feed import Feed
from .handlers import Handlers
from .hooks import Hooks
from .news import IdNews
from .registry import Registry
from .request import Request
from .supply import Supply
from .transport import Transport

log = logging.getLogger("mesa_ws.server")

_ANOTHER_LOOP = (
    "server.send: expected the event loop of the server, got another one; "
    "make the handler `async def`, or use a Dispatcher in threads"
)
_NOT_RUNNING = "the server is not running; use server.run(...) or async with serve(server, ...)"

GRACE = 5.0
"""Seconds that handlers get to finish when the node stops."""

CANCEL_GRACE = 1.0
"""Seconds that they get after they were cancelled."""

COMING_BACK = 1000
"""Clients that a stopping node asks back for each second."""

MIN_SPREAD = 1.0
"""Seconds within which they are asked back at least."""


class Node(Hooks):
    """Knows its connections, runs the application's handlers, and delivers what the bus brings.

    Args:
        backend: what this node shares with others: None for one process alone, a Redis URI, or a
            `Backend`.
        options: the fields of `ServerSettings`, features in any of their forms.

    Raises:
        InvalidSettings: an option is unknown or wrong.
        Unsupported: an option asks for what this version does not have.
    """

    def __init__(self, backend: Backend | str | None = None, **options: Unpack[ServerOptions]) -> None:
        self.settings = ServerSettings.of(options)
        if not self.settings.authentication.store_connected_users:
            raise Unsupported(
                "authentication.store_connected_users: expected True, got False; "
                "messages find an id by what nodes declare, so without it none would arrive"
            )
        self.handlers = Handlers(self.settings.limits.handler_threads)
        super().__init__(self.handlers)
        self.registry: Registry[Connection] = Registry()
        self.backend: Backend = _backend(backend, self.settings)
        self._news = IdNews(self.spawn)
        self._supply = Supply(self)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._keep = Keep.of(self.settings.sync)
        self._reserved = reserved_opcodes(self.settings.wire)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._is_stopping = False
        self._terms: Terms | None = None

    @property
    def namespace(self) -> str | None:
        """The namespace this node lives in."""
        return self.settings.namespace

    @property
    def bus(self) -> AsyncBus:
        """The way to every node of the cluster, this one included."""
        return self.backend

    @property
    def presence(self) -> WhoIsOnline:
        """Which ids have connections, anywhere in the cluster."""
        return self.backend

    @property
    def is_running(self) -> bool:
        """Whether connections may come."""
        return self._loop is not None and not self._is_stopping

    @property
    def is_ready(self) -> bool:
        """Whether the node runs and hears the rest of its cluster."""
        return self.is_running and self.backend.is_ready

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The connections that are open on this node."""
        return tuple(self.registry)

    @property
    def lost(self) -> int:
        """Stored messages that clients of 1.x have lost, as far as this node found out."""
        return self._supply.lost_count

    @property
    def terms(self) -> Terms:
        """What this node offers to its connections.

        Raises:
            MesaError: the node is not running.
        """
        if self._terms is None:
            raise MesaError(_NOT_RUNNING)
        return self._terms

    async def send(
        self,
        message: Message | DispatchEvent,
        recipients: Iterable[str] = EVERYBODY,
        excluding: Iterable[str] = (),
        *,
        idempotency_key: str | None = None,
        durability: Durability = "memory",
    ) -> Receipt:
        """Send to every connection of the recipients, wherever in the cluster they are.

        With `Server(sync=...)` it is stored for those of them who are away, unless the message
        says `sync=False`; without, it goes at most once to those who are connected.

        Args:
            message: what to send.
            recipients: ids, or `"*"` for every connection.
            excluding: ids that shall not receive, also with `"*"`.
            idempotency_key: a name of yours for this message: who got it by that name does not get
                it again within 24 hours.
            durability: what a stored message has to reach first: `memory`, `fsync` or `replicated`.

        Raises:
            InvalidMessage: the message cannot go on the wire.
            InvalidRecipients: recipients or exclusions are not ids.
            InvalidInput: the key or the durability cannot be used.
            Unsupported: the backend does not have that durability.
            BackendError: the backend did not take it.
            MesaError: the server is not running, or in another event loop.
        """
        envelope = prepare(
            message,
            recipients,
            excluding,
            keep=self._keep,
            idempotency_key=idempotency_key,
            durability=durability,
            reserved=self._reserved,
        )
        if self._running() is not asyncio.get_running_loop():
            raise MesaError(_ANOTHER_LOOP)
        [receipt] = await self.backend.dispatch([envelope])
        return receipt

    async def start(self) -> None:
        """Join the cluster; connections may come from now on.

        Raises:
            BackendUnavailable: the backend cannot be reached.
            BackendRefused: it says no.
            MesaError: the server is running already.
        """
        if self._loop is not None:
            raise MesaError("the server is running already; make another Server to listen once more")
        self._loop = asyncio.get_running_loop()
        self._is_stopping = False
        self._thread = threading.get_ident()
        self._terms = Terms(self.settings, has_authenticator=self.handlers.authenticator is not None)
        try:
            await self._open()
        except BaseException:
            self._loop = None
            raise
        log.info("node %s is up", self.backend.node_id)

    async def stop(self) -> None:
        """Close every connection with 1001, let handlers finish, and leave the cluster.

        Handlers that do not finish are cancelled; those that go on all the same are left behind.
        """
        self._is_stopping = True
        self._supply.close()
        spread = max(MIN_SPREAD, len(self.registry) / COMING_BACK)
        for connection in self.registry:
            connection.send_away(round(random.uniform(0, spread), 3))  # noqa: S311 - spreads load
        try:
            await self._finish_tasks()
        finally:
            await self.backend.aclose()
            self.handlers.shutdown()
            self._loop = None
        log.info("node %s is down", self.backend.node_id)

    # What the backend tells.

    def deliver(self, envelope: Envelope) -> None:
        """Hand what the bus brought to the connections it is for. Never waits."""
        self._supply.deliver(envelope)

    async def catch_up(self) -> None:
        """Read again everything that concerns this node.

        Raises:
            BackendError: the backend did not answer.
        """
        await self._supply.catch_up()

    def came_online(self, id: str) -> None:
        """Tell the application that an id has its first connection in the cluster."""
        if self.handlers.online and self._loop is not None:
            self._news.add(id, lambda: self.handlers.came_online(id))

    def went_offline(self, id: str) -> None:
        """Tell the application that an id has had none for longer than the grace."""
        if self.handlers.offline and self._loop is not None:
            self._news.add(id, lambda: self.handlers.went_offline(id))

    def tell_lost(self, id: str, count: int) -> None:
        """Tell the application that a client of 1.x has lost messages."""
        if self.handlers.lost:
            self._news.add(id, lambda: self.handlers.lost_messages(id, count))

    # What connections and transports call.

    def connect(self, transport: Transport, request: Request) -> Connection:
        """Take in a client whose handshake is done."""
        connection = Connection(self, transport, request)
        self.registry.add(connection)
        self._count()
        connection.open()
        return connection

    async def admit(self, connection: Connection, attempt: Authenticate) -> None:
        """Answer op 2 of a connection."""
        await admission.admit(self, connection, attempt)

    def rename(self, connection: Connection, user: User) -> None:
        """Take note that a connection belongs to another user now."""
        if self.registry.id_of(connection) != user.id:
            work = admission.rename(self, connection, user)
            if work is not None:
                self.spawn(work)

    def feed(self, connection: Connection, id: str) -> Feed:
        """Begin to feed a connection from the outbox of `id`."""
        return self._supply.feed(connection, id)

    def leave(self, id: str) -> None:
        """Pass on what was proven for an id that a connection is about to leave."""
        self._supply.leave(id)

    def left(self, id: str) -> None:
        """A connection has left an id; tell the backend how many it has here now."""
        if self.registry.count(id) == 0:
            self.backend.detach(id)
        else:
            self._supply.left(id)
            self.spawn(self._redeclare(id))

    @property
    def broadcast_position(self) -> Position | None:
        """Where this node is among the messages to everybody."""
        return self._supply.broadcast_position

    async def broadcasts(self, position: Position | None) -> Page:
        """Read the messages to everybody after a position."""
        return await self._supply.broadcasts(position)

    def forget(self, connection: Connection) -> None:
        """Let go of a connection that has ended; what it has proven is told before that."""
        id = self.registry.id_of(connection)
        if id is not None:
            self.leave(id)
        self.registry.discard(connection)
        self._count()
        if id is not None:
            self.left(id)

    def now(self) -> float:
        """The event loop's time, in seconds."""
        return self._running().time()

    def at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back at `when`, in the time of `now`."""
        return self._running().call_at(when, callback)

    def in_loop(self, callback: Callable[..., None], *args: Any) -> None:
        """Call `callback` in the event loop: at once if we are in it, else as soon as possible."""
        loop = self._loop
        if threading.get_ident() == self._thread:
            callback(*args)
        elif loop is not None:  # without it every connection has ended, and there is nothing to do
            loop.call_soon_threadsafe(callback, *args)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` on its own; `stop` waits for it."""
        task = self._running().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _count(self) -> None:
        if isinstance(self.backend, ConnectionCounter):
            self.backend.connected(len(self.registry))

    async def _open(self) -> None:
        settings = self.settings
        await self.backend.open(
            self.deliver,
            self,
            keep=self._keep,
            grace=settings.presence.grace,
            window=settings.sync.resume_window,
            allow_eviction=settings.sync.allow_eviction,
        )
        try:
            await self._supply.start()
        except BaseException:
            await self.backend.aclose()
            raise

    async def _finish_tasks(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GRACE)
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=CANCEL_GRACE)
            if stuck:
                log.error("%d handlers go on although they were cancelled; left behind", len(stuck))

    async def _redeclare(self, id: str) -> None:
        """Tell how many connections `id` has, as of when this runs; so the order does not matter."""
        sockets = self.registry.count(id)
        try:
            if sockets:
                await self.backend.attach(id, sockets)
        except BackendError as error:
            log.warning("the backend does not know that a connection of %r has left: %s", id, error)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise MesaError(_NOT_RUNNING)
        return self._loop


def _backend(given: Backend | str | None, settings: ServerSettings) -> Backend:
    if settings.import_from_1x and (settings.wire != "native" or not isinstance(given, str)):
        raise InvalidSettings("import_from_1x", "False without wire 'native' and a Redis URI", True)
    if settings.wire == "mesa1" and not isinstance(given, str | Mesa1Backend):
        raise InvalidSettings("backend", "a Redis URI or a Mesa1Backend with wire 'mesa1'", given)
    if settings.wire == "native" and isinstance(given, Mesa1Backend):
        raise InvalidSettings("wire", "'mesa1' with a Mesa1Backend", settings.wire)
    if given is None:
        return MemoryBackend(namespace=settings.namespace)
    if isinstance(given, str):
        if settings.wire == "mesa1":
            return Mesa1Backend(given, namespace=settings.namespace)
        kind = ImportingBackend if settings.import_from_1x else RedisBackend
        return kind(given, namespace=settings.namespace)
    if not isinstance(given, Backend):
        raise InvalidSettings("backend", "None, a Redis URI or a Backend", given)
    return given

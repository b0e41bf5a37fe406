"""A server node: everything a server does, without sockets."""

import logging
from collections.abc import Iterable
from itertools import count
from typing import Unpack

from ..backend.base import AsyncBus, Backend
from ..backend.outbox import Page
from ..backend.presence import ClusterPresence
from ..backend.redis import Given
from ..backend.urls import backend_of
from ..concurrency.blocking import awaited
from ..errors import BackendError, MesaError, Unsupported
from ..messages.envelope import Envelope, Retention, new_message_id, prepare
from ..messages.message import DispatchEvent, Message, reserved_opcodes
from ..messages.message_log import log_dispatches
from ..messages.receipt import Position, Receipt
from ..messages.recipients import EVERYBODY, User
from ..messages.request import (
    DEFAULT_REQUEST_TIMEOUT,
    KEPT,
    Failure,
    check_timeout,
    prepare_request,
    read_answer,
)
from ..protocol import Authenticate, Terms
from ..settings import Durability, ServerOptions, ServerSettings
from . import authentication, client_requests, cluster_requests
from .blocking import BlockingForms
from .connection import Connection
from .event_loop import NOT_RUNNING
from .fanout import Supply
from .handshake import Request
from .hooks import Hooks
from .middleware import mesa1_middleware_key, middleware_key
from .notifications import Reports, Telling
from .portal_forwarding import Awaited, Forwarder
from .registrations import Handlers
from .registry import Registry
from .send_queue import Transport
from .subscription import Feed

log = logging.getLogger("mesa_ws.server")

GRACE = 5.0
"""Seconds that handlers get to finish when the node stops."""


class Node(Hooks, Telling, BlockingForms):
    """Knows its connections, runs the application's handlers, and delivers what the bus brings.

    Args:
        backend: what this node shares with others: None for one process alone, a Redis URI, a
            mapping or a list of its options, a redis-py client, or a `Backend`.
        options: the fields of `ServerSettings`, features in any of their forms.

    Raises:
        InvalidSettings: an option is unknown or wrong.
        Unsupported: an option asks for what this version does not have.
    """

    def __init__(self, backend: Backend | Given | None = None, **options: Unpack[ServerOptions]) -> None:
        self.settings = ServerSettings.of(options)
        if not self.settings.authentication.store_connected_users:
            raise Unsupported(
                "authentication.store_connected_users: expected True, got False; "
                "messages find an id by what nodes declare, so without it none would arrive"
            )
        Telling.__init__(self, Handlers(self.settings.limits.handler_threads))
        Hooks.__init__(self, self.handlers)
        self.registry: Registry[Connection] = Registry()
        self.backend: Backend = backend_of(backend, self.settings)
        if self.settings.portals.enabled:
            # Portals of 1.x return nothing.
            most = self.settings.limits.max_requests if self.settings.wire == "native" else 0
            self.handlers.forwarder = Forwarder(self.backend, self.settings.portals, most)
        self._numbers = count(1)
        self.reports = Reports(self.handlers, self.spawn)
        self._supply = Supply(self)
        self._retention = Retention.of(self.settings.sync)
        self.reserved = reserved_opcodes(self.settings.wire)
        self._is_stopping = False
        self._terms: Terms | None = None

    @property
    def namespace(self) -> str | None:
        """The namespace this node lives in."""
        return self.settings.namespace

    def middleware_key(self, name: str, *parts: str) -> str:
        """A key for what a middleware keeps in Redis, apart from those of other namespaces and names.

        With `wire="mesa1"` it has the form of 1.x: `mesa1_middleware_key` says how.

        Args:
            name: the middleware's: 1 to 64 of `A-Z a-z 0-9 _ . -`.
            parts: what tells its keys apart.

        Raises:
            InvalidInput: a name or a part cannot be used.
        """
        form = mesa1_middleware_key if self.settings.wire == "mesa1" else middleware_key
        return form(self.namespace, name, *parts)

    @property
    def bus(self) -> AsyncBus:
        """The way to every node of the cluster, this one included."""
        return self.backend

    @property
    def presence(self) -> ClusterPresence:
        """Which ids have connections, anywhere in the cluster."""
        return ClusterPresence(self.backend)

    @property
    def is_running(self) -> bool:
        """Whether connections may come."""
        return self.is_in_loop and not self._is_stopping

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
            raise MesaError(NOT_RUNNING)
        return self._terms

    @awaited("server.send", "server.send_blocking(...)")
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
            idempotency_key: a name for this message, which no id gets twice within 24 hours.
            durability: what a stored message has to reach first: `memory`, `fsync` or `replicated`.

        Raises:
            InvalidMessage: the message cannot go on the wire.
            InvalidRecipients: recipients or exclusions are not ids.
            InvalidInput: the key or the durability cannot be used.
            Unsupported: the backend does not have that durability.
            BackendError: the backend did not take it.
            MesaError: the server is not running, or in another event loop.
            Exception: what a middleware raises `before_send`.
        """
        going = self.handlers.outgoing(message, None)
        if going is None:
            return Receipt(new_message_id(), {}, 0)
        envelope = prepare(
            going,
            recipients,
            excluding,
            retention=self._retention,
            idempotency_key=idempotency_key,
            durability=durability,
            reserved=self.reserved,
        )
        self._check_loop("send")
        self.reports.own(envelope.message_id)
        [receipt] = receipts = await self.backend.dispatch([envelope])
        if log.isEnabledFor(logging.DEBUG):
            log_dispatches(log, [envelope], receipts)
        if isinstance(going, Message):
            self.reports.stored(going, receipt.deliveries)
        return receipt

    @awaited("server.request", "server.request_blocking(...)")
    async def request(self, id: str, message: Message, timeout: float = DEFAULT_REQUEST_TIMEOUT) -> Message:
        """Ask the clients of one id, wherever in the cluster, and wait for the first answer.

        See `Dispatcher.request` for what it promises and raises. A handler may wait for it, also
        for an answer of the client whose message it handles. What a middleware raises `before_send`
        is raised; what it keeps back is `Unanswered`.

        Args:
            id: who is asked.
            message: what is asked; never stored.
            timeout: seconds to wait.
        """
        going = self.handlers.outgoing(message, None)
        if going is None:
            raise KEPT.error()
        request = prepare_request(id, going)
        self._check_loop("request")
        self.reports.own(request.message_id)
        return read_answer(await self.backend.request(request, check_timeout(timeout)))

    async def start(self) -> None:
        """Join the cluster; connections may come from now on.

        Raises:
            BackendUnavailable: the backend cannot be reached.
            BackendRefused: it says no.
            MesaError: the server is running already.
        """
        self._enter_loop()
        self._is_stopping = False
        self._terms = Terms(self.settings, has_authenticator=self.handlers.authenticator is not None)
        try:
            await self._open()
        except BaseException:
            await self._leave_loop()
            raise
        log.info("node %s is up", self.backend.node_id)

    async def stop(self) -> None:
        """Tell `on_stop`, close every connection with 1001, let handlers finish, and leave the cluster.

        Handlers that do not finish are cancelled; those that go on all the same are left behind.
        """
        was_running, self._is_stopping = self.is_running, True
        try:
            try:
                if was_running:
                    await self.handlers.stopping(GRACE)
            finally:  # also where this is cancelled
                self._supply.close()
                for connection, pause in self.registry.come_back():
                    connection.send_away(pause)
            await self._finish_tasks(GRACE)
        finally:
            await self.backend.aclose()
            self.handlers.shutdown()
            await self._leave_loop()
        log.info("node %s is down", self.backend.node_id)

    # What the backend tells.

    def deliver(self, envelope: Envelope) -> None:
        """Hand what the bus brought to the connections it is for. Never waits."""
        if envelope.kind == "request":
            cluster_requests.ask(self, envelope)
        elif envelope.kind != "connection":
            self._supply.deliver(envelope)
        elif self.handlers.forwarder is not None:
            reached = self.handlers.forwarder.reply(envelope)
            self.reports.wrote(envelope.body, reached, from_this_node=False)

    async def catch_up(self) -> None:
        """Read again everything that concerns this node.

        Raises:
            BackendError: the backend did not answer.
        """
        await self._supply.catch_up()

    # What connections and transports call.

    def connect(self, transport: Transport, request: Request) -> Connection:
        """Take in a client whose handshake is done."""
        connection = Connection(self, transport, request)
        self.registry.add(connection)
        self._count()
        connection.open()
        return connection

    async def answer(self, message: Message, connection: Connection) -> bytes | Failure | Awaited:
        """Answer a request of a client."""
        return await client_requests.answer_by(self.handlers, message, connection)

    async def admit(self, connection: Connection, attempt: Authenticate) -> None:
        """Answer op 2 of a connection."""
        await authentication.admit(self, connection, attempt)

    def rename(self, connection: Connection, user: User) -> bool:
        """Take note that a connection belongs to another user now; return whether to another id."""
        if self.registry.id_of(connection) == user.id:
            return False
        work = authentication.rename(self, connection, user)
        if work is not None:
            self.spawn(work)
        return True

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

    def name_connection(self) -> str:
        """A name that no connection had before, anywhere."""
        return f"{self.backend.node_id}.{next(self._numbers)}"

    def _count(self) -> None:
        self.backend.connected(len(self.registry))

    async def _open(self) -> None:
        settings = self.settings
        await self.backend.open(
            self.deliver,
            self,
            retention=self._retention,
            grace=settings.presence.grace,
            window=settings.sync.resume_window,
            allow_eviction=settings.sync.allow_eviction,
            portals=bool(settings.portals.enabled),
            durability=settings.portals.durability if settings.portals.enabled else "memory",
        )
        try:
            await self._supply.start()
        except BaseException:
            await self.backend.aclose()
            raise

    async def _redeclare(self, id: str) -> None:
        """Tell how many connections `id` has, as of when this runs; so the order does not matter."""
        sockets = self.registry.count(id)
        try:
            if sockets:
                await self.backend.attach(id, sockets)
        except BackendError as error:
            log.warning("the backend does not know that a connection of %r has left: %s", id, error)

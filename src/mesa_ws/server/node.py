"""A server node: a server without its sockets."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import TypeVar, Unpack

from ..backend.base import AsyncBus, Backend, Membership
from ..backend.orders import give, prepare_revocation
from ..backend.presence import BlockingClusterPresence, ClusterPresence
from ..backend.queries import Query
from ..backend.urls import SharedUrl, backend_of
from ..close import CloseCode
from ..concurrency.blocking import awaited
from ..concurrency.queues import KeyedQueues
from ..errors import MesaError, Unsupported
from ..messages.envelope import DeliveryPolicy, Retention, new_message_id, prepare
from ..messages.message import DispatchEvent, Message, reserved_opcodes
from ..messages.message_log import log_dispatches
from ..messages.order import OrderReceipt, prepare_order
from ..messages.receipt import Receipt
from ..messages.recipients import EVERYBODY
from ..messages.request import DEFAULT_REQUEST_TIMEOUT, DROPPED, check_timeout, prepare_request, read_answer
from ..protocol.server import Terms
from ..settings import Durability, ServerOptions, ServerSettings
from .authentication import Authenticator
from .connection import Connection, ConnectionHost
from .connection_limits import ConnectionLimits
from .event_loop import NOT_RUNNING, LoopTasks
from .failed_logins import FailedLogins
from .fanout import Fanout
from .flow_control import Load
from .guests import Guests
from .hooks import Hooks
from .middleware import mesa1_middleware_key, middleware_key
from .notifications import Notifications
from .origins import Origins
from .overload import LoginQueue, LoopLag
from .portal_forwarding import Forwarder
from .rates import ClientRates
from .registrations import Handlers
from .request import OtherRequests, Request
from .send_queue import Transport
from .slow_readers import SlowReaders

T = TypeVar("T")

log = logging.getLogger("mesa_ws.server")

GRACE = 5.0
"""Seconds that handlers may take to finish when the node stops."""


class Node(Hooks, LoopTasks):
    """One server of a cluster: its connections, the application's handlers, and the fan-out of messages.

    Args:
        backend: shared with the other nodes: None for one process alone, a Redis URI, a mapping or a list
            of its options, a redis-py client, a `MemoryHub`, or a `Backend`.
        options: the fields of `ServerSettings`, features in any of their forms.

    Attributes:
        connection_limits: counts connections, and refuses those over a limit.
        slow_readers: bounds what waits for all connections together.
        rates: limits of what clients send, and counts what is beyond.
        other_requests: answers requests for something else on the port of the WebSockets; None for none.
        http_url: for such requests, while there is a port.
        plain_addresses: where that port listens, unless it does so with TLS.
        fanout: delivers messages to connections.
        authentication: handles the logins of connections.
        notifications: tells middleware of messages.

    Raises:
        InvalidSettings: an option is unknown or wrong.
        Unsupported: this version does not have a feature that an option turns on.
    """

    other_requests: OtherRequests | None = None
    http_url = ""
    plain_addresses: Sequence[str] = ()
    _pingless: Terms | None = None

    def __init__(self, backend: Backend | SharedUrl | None = None, **options: Unpack[ServerOptions]) -> None:
        self.settings = ServerSettings.of(options)
        _check_supported(self.settings)
        LoopTasks.__init__(self)
        self.handlers = Handlers(self.settings.limits.handler_threads)
        Hooks.__init__(self, self.handlers, ClientRates(self.settings.rates, self.handlers.log))
        self._id_calls = KeyedQueues(_make, spawn=self.spawn)
        self._portal_calls = KeyedQueues(_make, spawn=self.spawn)
        self.backend: Backend = backend_of(backend, self.settings)
        self._numbers = count(1)
        self.connection_limits = ConnectionLimits(
            self.settings.limits, self.handlers.log, self.settings.trusted_proxies or ()
        )
        if self.settings.portals.enabled:
            # Portals of 1.x return nothing.
            most = self.settings.limits.max_requests if self.settings.wire == "native" else 0
            self.handlers.forwarder = Forwarder(
                self.backend, self.settings.portals, most, self.connection_limits, self.handlers.log
            )
        self.slow_readers = SlowReaders(self.settings.limits.max_node_buffer, self.handlers.log)
        self.origins = Origins(self.settings.allowed_origins, self.handlers.log)
        self.logins = LoginQueue(self.settings.limits.max_logins)
        self.loop_lag = LoopLag(self.settings.limits.max_lag)
        self.notifications = Notifications(self.handlers, self.spawn)
        self.fanout = Fanout(
            self.backend,
            settings=self.settings,
            notifications=self.notifications,
            forwarder=self.handlers.forwarder,
            spawn=self.spawn,
            report_lost=self.lost_messages,
        )
        self.authentication = Authenticator(
            self.backend,
            fanout=self.fanout,
            handlers=self.handlers,
            timeout=self.settings.authentication.timeout,
            limits=self.connection_limits,
            failed_logins=FailedLogins(
                self.settings.limits.max_failed_logins_per_address, self.connection_limits.network_of
            ),
            logins=self.logins,
            spawn=self.spawn,
        )
        self._retention = Retention.of(self.settings.sync)
        self.reserved = reserved_opcodes(self.settings.wire)
        self._host = self._connection_host()
        self._is_stopping = False
        self._node_id = ""
        self._terms: Terms | None = None

    def _connection_host(self) -> ConnectionHost:
        limits = self.settings.limits
        return ConnectionHost(
            self.settings,
            self.handlers,
            self.notifications,
            self.reserved,
            spawn=self.spawn,
            in_loop=self.in_loop,
            authenticate=self.authentication.authenticate,
            rename=self.authentication.rename,
            settle=self.fanout.settle,
            remove=self.fanout.remove,
            most_waiting=Load(limits.max_queued, limits.most_queued_bytes),
            guests=Guests(limits),
            rates=self.rates,
            slow_readers=self.slow_readers,
        )

    @property
    def namespace(self) -> str | None:
        """The namespace of this node."""
        return self.settings.namespace

    def middleware_key(self, name: str, *parts: str) -> str:
        """Return a key for a middleware's data in Redis, apart from those of other namespaces and names.

        With `wire="mesa1"` it has the form of 1.x; see `mesa1_middleware_key`.

        Args:
            name: of the middleware: 1 to 64 of `A-Z a-z 0-9 _ . -`.
            parts: tell its keys apart.

        Raises:
            InvalidInput: a name or a part cannot be used.
        """
        form = mesa1_middleware_key if self.settings.wire == "mesa1" else middleware_key
        return form(self.namespace, name, *parts)

    @property
    def bus(self) -> AsyncBus:
        """The bus to every node of the cluster, this one included."""
        return self.backend

    @property
    def presence(self) -> ClusterPresence:
        """The ids that have connections, anywhere in the cluster."""
        return ClusterPresence(self.backend)

    @property
    def is_unstarted(self) -> bool:
        """Whether nothing has started the node yet."""
        return self._loop is None and not self._is_stopping

    @property
    def is_running(self) -> bool:
        """Whether the node accepts connections."""
        return self._loop is not None and not self._is_stopping

    @property
    def is_open(self) -> bool:
        """Whether the node runs, and has joined its cluster."""
        return self.is_running and bool(self._node_id)

    @property
    def is_ready(self) -> bool:
        """Whether the node runs and hears the rest of its cluster."""
        return self.is_running and self.backend.is_ready

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The connections that are open on this node."""
        return tuple(self.fanout.connections)

    @property
    def lost(self) -> int:
        """Stored messages that clients of 1.x have lost, as far as this node found out."""
        return self.fanout.lost_count

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
        delivery: DeliveryPolicy | None = None,
    ) -> Receipt:
        """Send to every connection of the recipients, wherever in the cluster they are.

        With `Server(sync=...)` the message is stored for recipients who are away, unless it says
        `sync=False`; without, it goes at most once to those who are connected.

        Args:
            message: to send.
            recipients: ids, or `"*"` for every connection.
            excluding: ids that do not receive it, also with `"*"`.
            idempotency_key: a name for this message, which no id gets twice within 24 hours.
            durability: what a stored message has to reach first: `memory`, `fsync` or `replicated`.
            delivery: `"volatile"` or `Latest(key)`, as in `Dispatcher.dispatch`.

        Raises:
            InvalidInput: the message, the recipients or another argument cannot be used.
            Unsupported: the backend does not have that durability or delivery.
            BackendError: the backend did not accept it.
            MesaError: the server is not running, or in another event loop.
            Exception: raised by a middleware's `before_send`.
        """
        if (going := self.handlers.outgoing(message, None)) is None:
            return Receipt(new_message_id(), {}, 0)
        envelope = prepare(
            going,
            recipients,
            excluding,
            retention=self._retention,
            idempotency_key=idempotency_key,
            durability=durability,
            delivery=delivery,
            reserved=self.reserved,
        )
        self._check_loop("send")
        self.notifications.own(envelope.message_id)
        [receipt] = receipts = await self.backend.dispatch([envelope])
        if log.isEnabledFor(logging.DEBUG):
            log_dispatches(log, [envelope], receipts)
        if isinstance(going, Message):
            self.notifications.stored(going, receipt.deliveries)
        return receipt

    @awaited("server.request", "server.request_blocking(...)")
    async def request(self, id: str, message: Message, timeout: float = DEFAULT_REQUEST_TIMEOUT) -> Message:
        """Send a request to the clients of one id, wherever in the cluster, and return the first answer.

        `Dispatcher.request` documents its promises and errors. A handler may await it, even for an
        answer of the client whose message it handles. Errors that a middleware's `before_send` raises
        are raised; a request that it drops raises `Unanswered`.

        Args:
            id: of the clients.
            message: the request; never stored.
            timeout: seconds to wait.
        """
        going = self.handlers.outgoing(message, None)
        if going is None:
            raise DROPPED.error()
        request = prepare_request(id, going)
        self._check_loop("request")
        self.notifications.own(request.message_id)
        return read_answer(await self.backend.request(request, check_timeout(timeout)))

    @awaited("server.disconnect", "a Dispatcher")
    async def disconnect(
        self,
        ids: Iterable[str],
        code: int = CloseCode.NORMAL,
        reason: str = "",
        *,
        idempotency_key: str | None = None,
    ) -> OrderReceipt:
        """End every connection of ids, on all servers; see `Dispatcher.disconnect`."""
        order = prepare_order(ids, code, reason)
        self._check_loop("orders")
        return await give(self.backend, order.envelope(idempotency_key))

    @awaited("server.revoke", "a Dispatcher")
    async def revoke(
        self,
        ids: Iterable[str],
        issued_before: float | None = None,
        code: int = CloseCode.REFUSED,
        reason: str = "",
        *,
        idempotency_key: str | None = None,
    ) -> OrderReceipt:
        """End the logins of ids, and refuse them; see `Dispatcher.revoke`."""
        order = prepare_revocation(ids, code, reason, issued_before)
        self._check_loop("orders")
        return await give(self.backend, order.envelope(idempotency_key))

    # For threads. In the event loop of the server these raise `MesaError`, because they would block it.

    def send_blocking(
        self,
        message: Message | DispatchEvent,
        recipients: Iterable[str] = EVERYBODY,
        excluding: Iterable[str] = (),
        *,
        idempotency_key: str | None = None,
        durability: Durability = "memory",
        delivery: DeliveryPolicy | None = None,
    ) -> Receipt:
        """Send like `send`, from a thread, such as that of a `def` handler.

        Raises:
            MesaError: as `send`; also in the event loop of the server.
            BackendUnavailable: as `send`; also if the server stops before it is done.
        """
        return self.wait_in_thread(
            "send",
            lambda: self.send(
                message,
                recipients,
                excluding,
                idempotency_key=idempotency_key,
                durability=durability,
                delivery=delivery,
            ),
        )

    def request_blocking(
        self, id: str, message: Message, timeout: float = DEFAULT_REQUEST_TIMEOUT
    ) -> Message:
        """Send a request like `request`, from a thread; errors as in `send_blocking` and `request`."""
        return self.wait_in_thread("request", lambda: self.request(id, message, timeout))

    @property
    def presence_blocking(self) -> BlockingClusterPresence:
        """The ids that have connections, for use in a thread; errors as in `send_blocking`."""
        self.check_thread("presence")
        return BlockingClusterPresence(_BlockingPresence(self))

    async def start(self) -> None:
        """Join the cluster, and accept connections from now on.

        Raises:
            BackendUnavailable: the backend cannot be reached.
            BackendRefused: the backend refuses the node.
            MesaError: the server is running already.
        """
        self._enter_loop()
        self._is_stopping, self._node_id = False, ""
        has_authenticator = self.handlers.authenticator is not None
        self._terms = Terms(self.settings, has_authenticator=has_authenticator)
        self.connection_limits.has_authenticator = has_authenticator
        try:
            await self._open()
        except BaseException:
            await self._leave_loop()
            raise
        self._node_id = self.backend.node_id
        self.loop_lag.start()
        log.info("node %s is up", self._node_id)

    async def stop(self) -> None:
        """Call `on_stop`, close every connection with 1001, let handlers finish, and leave the cluster.

        Handlers that do not finish are cancelled; those that ignore that are left behind.
        """
        was_running, self._is_stopping = self.is_running, True
        try:
            try:
                if was_running:
                    await self.handlers.stopping(GRACE)
                    await self.fanout.send_all_away()
            finally:  # also where this is cancelled
                self.fanout.close()
                self._host.deadlines.close()
            await self._finish_tasks(GRACE)
        finally:
            await self.backend.aclose()
            self.handlers.caller.shutdown(log)
            self.handlers.log.close()
            await self._leave_loop()
            await self.loop_lag.stop()
        log.info("node %s is down", self.backend.node_id)

    # From the backend. Handlers of one id are called in order, those of different ids at the same time.

    def doubted(self) -> None:
        """Note that orders to all nodes may be missing before what is delivered next."""
        self.fanout.orders.doubt()

    async def catch_up(self) -> None:
        """Read everything again that concerns this node.

        Raises:
            BackendError: the backend did not answer.
        """
        await self.fanout.catch_up()

    def came_online(self, id: str) -> None:
        """Notify that an id has its first connection in the cluster."""
        if self.handlers.online and self._loop is not None:
            self._id_calls.put(id, lambda: self.handlers.run(self.handlers.online, None, id))

    def went_offline(self, id: str) -> None:
        """Notify that an id has had no connection for longer than the grace."""
        if self.handlers.offline and self._loop is not None:
            self._id_calls.put(id, lambda: self.handlers.run(self.handlers.offline, None, id))

    def portal_joined(self, id: str) -> None:
        """Notify middleware that a portal has joined."""
        if self.handlers.portal_join and self._loop is not None:
            self._portal_calls.put(id, lambda: self.handlers.run(self.handlers.portal_join, None, id))

    def portal_left(self, id: str) -> None:
        """Notify middleware that a portal has left."""
        if self.handlers.portal_leave and self._loop is not None:
            self._portal_calls.put(id, lambda: self.handlers.run(self.handlers.portal_leave, None, id))

    def forked(self, since: float) -> None:
        """Notify that Redis may have lost writes that it confirmed after `since`."""
        when = f"after {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S} UTC" if since else "before now"
        log.warning("Redis restarted or failed over: writes that it confirmed %s may be lost", when)
        if self.handlers.forked and self._loop is not None:
            self._id_calls.put("*", lambda: self.handlers.run(self.handlers.forked, None, since))

    def lost_messages(self, id: str, count: int) -> None:
        """Notify that a client of 1.x has lost messages."""
        if self.handlers.lost:
            self._id_calls.put(id, lambda: self.handlers.run(self.handlers.lost, None, id, count))

    # From transports and connections.

    def connect(
        self,
        transport: Transport,
        target: str,
        headers: Mapping[str, str],
        remote_address: tuple[str, int] | None,
        *,
        has_pings: bool = True,
    ) -> Connection:
        """Add the connection of a client whose handshake is done.

        Args:
            transport: the client's WebSocket.
            target: as for `Request`, like the next two.
            headers: as well.
            remote_address: as well.
            has_pings: whether the transport has Pings.
        """
        terms = self.terms if has_pings else self._terms_without_pings()
        name = f"{self._node_id}.{next(self._numbers)}"  # no connection had it before, on any node
        request = Request(target, headers, remote_address)
        connection = Connection(self._host, terms, name, transport, request)
        self.fanout.add(connection)
        connection.open(terms.hello)
        return connection

    def _terms_without_pings(self) -> Terms:
        has_authenticator = self.terms.has_authenticator
        if self._pingless is None or self._pingless.has_authenticator != has_authenticator:
            self._pingless = Terms(self.settings, has_authenticator=has_authenticator, has_pings=False)
        return self._pingless

    async def _open(self) -> None:
        settings = self.settings
        membership = Membership(
            retention=self._retention,
            grace=settings.presence.grace,
            window=settings.sync.resume_window,
            allow_eviction=settings.sync.allow_eviction,
            portals=bool(settings.portals.enabled),
            durability=settings.portals.durability if settings.portals.enabled else "memory",
        )
        await self.backend.open(self.fanout.deliver, self, membership)
        try:
            await self.fanout.orders.start()
            await self.fanout.broadcasts.start()
        except BaseException:
            await self.backend.aclose()
            raise


def _check_supported(settings: ServerSettings) -> None:
    if not settings.authentication.store_connected_users:
        raise Unsupported(
            "authentication.store_connected_users: expected True, got False; "
            "without it no message would arrive, because messages find an id by what nodes declare"
        )


class _BlockingPresence:
    """Queries presence in the event loop of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def query(self, query: Query[T]) -> T:
        return self._node.wait_in_thread("presence", lambda: self._node.bus.query(query))


async def _make(call: Callable[[], Awaitable[None]]) -> None:
    await call()

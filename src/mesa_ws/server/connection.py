"""One client's connection: the object that applications use, and the work behind it.

All events of a client go through one receive queue, so its handlers run one after another, in order;
the task that works on the queue exists only while there are events. What the server sends to a
client goes straight to its transport, which never waits, or waits in its send queue.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import NamedTuple

from ..close import CloseCode, check_close
from ..concurrency.clock import unix_time
from ..concurrency.deadlines import Deadlines
from ..concurrency.tasks import Spawn, survive
from ..concurrency.turns import Turn
from ..errors import ConnectionClosed, InvalidInput, NotAuthenticated
from ..messages.frames import RawFrame, encode_message
from ..messages.message import Message
from ..messages.recipients import User
from ..messages.request import BUSY
from ..protocol.correlation import ReplyReceived, RequestReceived, failing
from ..protocol.events import (
    Acknowledged,
    Authenticate,
    Close,
    Output,
    ProbeAnswered,
    Received,
    SendPing,
    SendText,
    ServerEvent,
    UnexpectedAnswer,
    Waiting,
)
from ..protocol.resume import reconnect
from ..protocol.server import ServerProtocol, Terms
from ..settings import ServerSettings
from ..text import plain
from . import client_requests
from .flow_control import FlowControl, Load
from .guests import Guest, Guests
from .history import History
from .notifications import Notifications
from .pending_requests import PendingRequests
from .rates import ClientRates, Meter
from .registrations import Handlers
from .request import Request
from .send_queue import PeerState, SendQueue, Transport
from .slow_readers import SlowReaders
from .subscription import Subscription


class _Opened(NamedTuple):
    """The connection is open: the first event of every receive queue that gets one."""


class _Ended(NamedTuple):
    """The connection has ended: the last event of every receive queue that gets one."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class ConnectionHost:
    """The node, as its connections use it.

    Attributes:
        reserved: opcodes that an application cannot send.
        spawn: runs work in a task of the node.
        in_loop: calls a function in the event loop, from any thread.
        authenticate: `Authenticator.authenticate`.
        rename: `Authenticator.rename`.
        settle: `Fanout.settle`.
        remove: `Fanout.remove`.
        most_waiting: events and bytes of one client that may wait for its handlers.
        guests: the clients that have not logged in.
        rates: limits of what clients send.
        slow_readers: the clients for which something waits.
        turn: the time for the handlers of all connections in a turn of the event loop.
    """

    settings: ServerSettings
    handlers: Handlers
    notifications: Notifications
    reserved: Container[int]
    spawn: Spawn
    in_loop: Callable[..., None]
    authenticate: Callable[["Connection", Waiting], Awaitable[None]]
    rename: Callable[["Connection", User], bool]
    settle: Callable[["Connection"], None]
    remove: Callable[["Connection"], None]
    most_waiting: Load
    guests: Guests
    rates: ClientRates
    slow_readers: SlowReaders
    turn: Turn = field(default_factory=Turn)
    deadlines: Deadlines = field(default_factory=Deadlines)


class Connection:
    """A client's connection to this node.

    Methods may be called from any thread. Attributes may be read from any thread.

    Attributes:
        connection_id: name of this connection, unique in the whole cluster and for ever.
        request: the handshake: headers, path, query and remote address.
        user: the client's user, or None before authentication.
        protocol: the protocol's state; for the node's own use, in the event loop only.
        send_queue: sends encoded frames; for the node's own use, in the event loop only.
        subscription: to the outbox of the user's id, None before authentication; set by `Fanout`; likewise.
        large_delivery: number of its last delivery to very many; set by `LargeDeliveries`; likewise.
        is_logging_in: whether the client waits for the answer to its login; set by `Authenticator`; likewise.
    """

    __slots__ = (
        "__weakref__",
        "_deadline",
        "_ended",
        "_events",
        "_flow",
        "_guest",
        "_history",
        "_host",
        "_loop",
        "_meter",
        "_pending_requests",
        "_state",
        "_transport",
        "_waiting_size",
        "_worker",
        "connection_id",
        "is_logging_in",
        "large_delivery",
        "protocol",
        "request",
        "send_queue",
        "subscription",
        "user",
    )

    def __init__(
        self, host: ConnectionHost, terms: Terms, connection_id: str, transport: Transport, request: Request
    ) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self.connection_id = connection_id
        self._transport = transport
        self.protocol = ServerProtocol(terms, self._loop.time())
        self._deadline: int | None = None
        self._state: SimpleNamespace | None = None
        self._ended: _Ended | None = None
        self._events: deque[object] | None = None
        self._waiting_size = 0  # bytes of the frames among them
        self._worker: asyncio.Task[None] | None = None
        self._flow: FlowControl | None = None
        self._meter: Meter | None = None
        self._guest: Guest | None = None
        if terms.has_authenticator:
            self._guest = host.guests.join(self.protocol, self._turn_out)
        self._pending_requests: PendingRequests[Message] | None = None
        self._history = History() if host.settings.rules.store_messages else None
        self.request = request
        self.user: User | None = None
        self.subscription: Subscription | None = None
        self.large_delivery = 0
        self.is_logging_in = False
        put = self._history.recording(transport) if self._history else transport.write
        most = host.settings.limits.max_buffered
        self.send_queue = SendQueue(transport, put, most, self._too_slow, host.slow_readers)

    @property
    def id(self) -> str | None:
        """The user's id, or None before authentication."""
        return self.user.id if self.user else None

    @property
    def is_authenticated(self) -> bool:
        """Whether the client has become a user."""
        return self.user is not None

    @property
    def is_open(self) -> bool:
        """Whether messages can still be sent."""
        return self._ended is None

    @property
    def pending_requests(self) -> PendingRequests[Message]:
        """Requests to the client that it has not answered; for the node's own use, in the event loop only."""
        if self._pending_requests is None:
            self._pending_requests = PendingRequests(self._host.settings.limits.max_requests, self._regulate)
        return self._pending_requests

    @property
    def state(self) -> SimpleNamespace:
        """Namespace for the application's own values, kept as long as the connection."""
        if self._state is None:
            self._state = SimpleNamespace()
        return self._state

    @property
    def messages(self) -> History | None:
        """The last messages in both directions, if the server's rules store them."""
        return self._history

    def send(self, message: Message) -> None:
        """Send to this connection alone; never stored, and in order with earlier messages.

        Raises:
            InvalidMessage: it cannot go on the wire.
            ConnectionClosed: the connection has ended.
            Exception: raised by a middleware's `before_send`.
        """
        handlers = self._host.handlers
        going = handlers.outgoing(message, self) if handlers.before_send else message
        if going is None:
            return
        body = encode_message(going, self._host.reserved)
        if self._ended is not None:
            raise ConnectionClosed(*self._ended)
        self._host.in_loop(self.write, body)
        if handlers.sent:
            self._host.in_loop(self._report, going)

    def disconnect(self, code: int = CloseCode.NO_STATUS, reason: str = "") -> None:
        """Close the connection. Does nothing if it has ended already.

        Args:
            code: close code; by default the close frame is empty, which clients report as 1005.
            reason: up to 123 bytes of text for the close frame.

        Raises:
            InvalidInput: RFC 6455 section 7.4 does not allow the code or the reason.
        """
        check_close(code, reason)
        self._host.in_loop(self._end, code, plain(reason))

    def update_user(self, user: User) -> None:
        """Replace the user, and with it the id that messages find this connection by.

        The server does not notify the client.

        Raises:
            InvalidInput: `user` is not a `User`.
            NotAuthenticated: the client has not authenticated yet.
        """
        if not isinstance(user, User):
            raise InvalidInput(f"update_user: expected User(id, data), got {type(user).__name__}")
        if self.user is None:
            raise NotAuthenticated("update_user: the client has no user yet; call it after authentication")
        self.user = user
        self._host.in_loop(self._rename, user)

    # From the transport.

    def open(self, hello: bytes) -> None:
        """Send the first frame, and queue the call of `on_connection`."""
        self._transport.write(hello)
        self._schedule()
        if self._host.handlers.connection or self._host.handlers.forwarder is not None:
            self._enqueue(_Opened())

    def heard(self) -> None:
        """Count a Ping as a sign of life."""
        self.protocol.heard(self._loop.time())

    def received_part(self, size: int) -> None:
        """Take note of a part of a message, of which `size` bytes have arrived."""
        self.heard()
        if self._guest is not None:
            self._guest.partial = size
            self.obey(self._guest.objection(size))
            self._limit_waiting()

    def ponged(self, payload: bytes) -> None:
        """Handle a Pong."""
        self._react(self.protocol.ponged(payload, self._loop.time()))

    def receive(self, payload: bytes) -> None:
        """Handle a message: the protocol reads it, and handlers get it in its turn."""
        if self._guest is not None:
            self._guest.partial = 0
            self.obey(self._guest.objection(len(payload)))
            self._regulate()
        self._react(self.protocol.receive(payload, self._loop.time()))

    def congested(self) -> None:
        """Stop writing: more waits for the client than it reads in time."""
        if self._ended is None:
            (self.subscription or self.send_queue).congested()
            self.check_room()

    def check_room(self) -> None:
        """Disconnect a congested client if too much waits for it, for example after a Pong."""
        self.send_queue.check_room()

    def relieved(self) -> None:
        """Write on: the client has read the bytes that waited."""
        if self._ended is None:
            (self.subscription or self.send_queue).relieved()
            self.send_queue.recount()

    def obey(self, close: Close | None) -> None:
        """Close as the protocol or a limit demands."""
        if close is not None and self._ended is None:
            self._host.handlers.log.info(
                "closing %r with %d: %s", self, close.code, close.why, kind=int(close.code)
            )
            self._end(close.code, close.code.wire_reason)

    def lost(self, code: int, reason: str) -> None:
        """End a connection that the client has closed, or that is broken."""
        if self._ended is None:
            self._finish(_Ended(code, reason))
        if self.send_queue.is_slow:
            self.send_queue.ended()
        self._flow = None  # it refers to this connection, which would be freed in a cycle only

    # From the node.

    def log_in(self, user: User) -> None:
        """Make the client a user, to whom the limits of users apply, until the login expires."""
        self._set_user(user)
        self._forget_guest()
        if self._flow is not None:
            self._flow.most = self._host.most_waiting
            self._regulate()

    def has_gone(self) -> bool:
        """Whether the client has closed its end, although that may not have been read yet."""
        return self._transport.peer_state() is not PeerState.PRESENT

    def probe(self) -> None:
        """Probe the client for an acknowledgement, unless it is too early."""
        output = self.protocol.probe(self._loop.time())
        if output is not None:
            self._emit(output)

    def send_away(self, after: float) -> None:
        """Close because the server stops; ask clients of wire 2 to reconnect in `after` seconds."""
        self._host.settle(self)
        if self.protocol.is_wire2:
            self.send_queue.control(reconnect(after))
        self.disconnect(CloseCode.GOING_AWAY)

    def write(self, payload: bytes) -> None:
        """Send an encoded message, after those to very many that have begun before."""
        self._host.settle(self)
        self.send_queue.write(payload)

    # In the event loop.

    def _report(self, message: Message) -> None:
        if self._ended is None:  # it may have ended since a thread sent the message
            self._host.notifications.sent(message, [self], from_this_node=True)

    def _react(self, event: ServerEvent | None) -> None:
        """Do at once what cannot wait; queue messages, requests and logins for the handlers."""
        match event:
            case Waiting():
                if event.request and self._guest is not None and not self._guest.may_request():
                    self.send_queue.write(failing(BUSY, event.request))
                else:
                    self._waiting_size += event.size
                    self._enqueue(event)
            case Close():
                self.obey(event)
            case SendText():
                self._emit(event)
                if self.send_queue.is_congested:
                    self.check_room()
            case ReplyReceived(request, reply):
                if self._pending_requests is not None:
                    self._pending_requests.answered(request, reply)
            case Acknowledged() | ProbeAnswered() | UnexpectedAnswer():
                if self.subscription is not None:
                    self.subscription.on_acknowledgement(event)

    def _turn_out(self, close: Close) -> None:
        """Drop what a guest has waiting, and close its connection."""
        self._drop_frames()
        self.obey(close)

    def _too_slow(self, why: str) -> None:
        self.obey(Close(CloseCode.SLOW_READER, why))

    def _end(self, code: int, reason: str) -> None:
        if self._ended is not None:
            return
        if code != CloseCode.SLOW_READER:
            self._host.settle(self)
            self.send_queue.flush()
        if self._ended is None:  # flushing may have ended a client that reads too slowly
            self._transport.close(code, reason)
            self._finish(_Ended(int(code), reason))

    def _finish(self, ended: _Ended) -> None:
        self._ended = ended
        self.protocol.close()
        self.send_queue.close()
        self._stop_timer()
        self._host.remove(self)
        if self._pending_requests is not None:
            self._pending_requests.close()
        if self.subscription is not None:
            self.subscription.close()
        if self._meter is not None:
            self._meter.wake()
        if self._host.handlers.disconnection or self._host.handlers.forwarder is not None:
            self._enqueue(ended)
        if self._guest is not None:
            self._guest.partial = 0
        if self._worker is None:
            self._forget_guest()

    def _rename(self, user: User) -> None:
        if self._ended is None:
            self._set_user(user)  # again: of two threads, the one that gets here last decides
            is_another = self._host.rename(self, user)
            if is_another and self._host.handlers.forwarder is not None:
                self._enqueue(user)

    def _set_user(self, user: User) -> None:
        self.user, at = user, user.expires_at
        self.protocol.expire(None if at is None else self._loop.time() + at - unix_time())
        self._stop_timer()
        self._schedule()

    def _stop_timer(self) -> None:
        if self._deadline is not None:
            self._host.deadlines.drop(self, self._deadline)
            self._deadline = None

    def _schedule(self) -> None:
        due = self.protocol.deadline if self._flow is None else self._flow.deadline
        self._deadline = None if due is None else self._host.deadlines.put(self, due)

    def tick(self) -> None:
        """Do what is due: send heartbeats and Pings, or give up a client that is silent."""
        for output in self.protocol.poll(self._loop.time()):
            self._emit(output)
        if self._flow is not None:
            self._flow.look()
        if self._ended is None:
            self._schedule()

    def _emit(self, output: Output) -> None:
        """Send a frame of the protocol past the send queue, or close."""
        match output:
            case SendText(payload, token):
                self._transport.write(payload)
            case SendPing(payload, token):
                self._transport.ping(payload)
            case Close():
                self.obey(output)
                return
        if token is not None and self.subscription is not None:
            self.subscription.outbox.on_probe(token)

    def _regulate(self) -> None:
        if self._flow is not None:
            self._flow.regulate(self._load(), owes_answer=bool(self._pending_requests))
        if self._guest is not None:
            is_paused = self._flow is not None and self._flow.is_paused
            self._guest.hold(self._waiting_size, is_paused=is_paused)

    def _load(self) -> Load:
        size = self._waiting_size
        if self._guest is not None and self._guest.is_logging_in:
            size += self._guest.partial
        return Load(len(self._events) if self._events else 0, size)

    def _reading_changed(self) -> None:
        if self._ended is None and self._deadline is None:
            self._schedule()

    def _enqueue(self, event: object) -> None:
        """Add an event to the receive queue, to be handled after all earlier ones."""
        if self._events is None:
            self._events = deque()
        self._events.append(event)
        if self._worker is None:
            self._worker = self._host.spawn(self._work())
        most, most_bytes = self._host.most_waiting
        if self._guest is not None or len(self._events) >= most or self._waiting_size > most_bytes:
            self._limit_waiting()

    def _limit_waiting(self) -> None:
        """Stop reading if too much waits."""
        most = self._host.most_waiting if self._guest is None else self._host.guests.most
        if self._flow is None and self._load().is_too_much(most):
            keepalive, now = self._host.settings.keepalive, self._loop.time
            self._flow = FlowControl(
                self._transport, self.protocol, keepalive, most, now, self._reading_changed
            )
        self._regulate()

    async def _work(self) -> None:
        """Handle the events of the receive queue, one after another, until it is empty.

        Others have their turn in between: handlers that do not wait would run until the queue is empty.
        """
        turn = self._host.turn
        try:
            while self._events:
                try:
                    await self._handle(self._events.popleft())
                    if self._guest is not None:
                        self._guest.in_turn = 0
                    if self._guest is not None or (self._flow is not None and self._flow.is_full):
                        self._regulate()
                    if self._events and turn.is_over():
                        await asyncio.sleep(0)
                except asyncio.CancelledError:  # by an earlier handler, which has kept this task
                    await survive()
                    self._broken("its task was cancelled", "code of the application cancelled the task of %r")
                except Exception as error:  # noqa: BLE001 - it is logged there, and none of a handler
                    text = "a bug in the server ended %r; the client may reconnect"
                    self._broken("a bug in the server", text, error)
        finally:
            self._events = None
            self._worker = None
            self._waiting_size = 0
            if self._ended is not None:
                self._forget_guest()

    def _forget_guest(self) -> None:
        guest, self._guest = self._guest, None
        if guest is not None:
            guest.leave()

    def _broken(self, why: str, text: str, error: Exception | None = None) -> None:
        """Log what has ended a step of the worker, and close the connection."""
        self._host.handlers.log.error(text, self, exc_info=error)
        self.obey(Close(CloseCode.INTERNAL_ERROR, why))

    async def _handle(self, event: object) -> None:
        frame = None
        if isinstance(event, Waiting) and event.sync is None:
            self._meter = self._meter or Meter(self._host.rates)
            over = self._meter.over(event, self.user)
            if over is not None and not await self._meter.admit(event, over, self, self._turn_out):
                self._skip(event)
                return
            frame, event = event.frame, self.read(event)
        match event:
            case Received(message):
                await self._host.handlers.received(message, self, frame)
            case RequestReceived():
                await self._answer(event, frame)
            case Waiting():
                await self._host.authenticate(self, event)
            case User():
                await self._host.handlers.renamed(self)
            case _Opened():
                await self._host.handlers.connected(self)
            case _Ended(code, reason):
                await self._host.handlers.disconnected(self, code, reason)

    async def _answer(self, event: RequestReceived, frame: RawFrame | None) -> None:
        guest, host = self._guest, self._host
        later = await client_requests.answer(host.handlers, host.notifications, event, self, frame)
        if guest is not None and later is not None:
            later.add_done_callback(lambda _: guest.answered())
        elif guest is not None:
            guest.answered()

    def read(self, waiting: Waiting) -> object:
        """Read a frame whose turn has come; after a bad one, no other is handled."""
        self._waiting_size -= waiting.size
        if self._guest is not None:
            self._guest.in_turn = waiting.size
        event = self.protocol.read(waiting)
        if event is None or isinstance(event, Close):
            self._drop_frames()
            self.obey(event)
        elif self._history is not None and not isinstance(event, Authenticate):
            self._history.add_received(waiting.frame)
        return event

    def _skip(self, waiting: Waiting) -> None:
        """Count a frame no longer that is not handled."""
        self._waiting_size = max(0, self._waiting_size - waiting.size)
        if waiting.request and self._guest is not None:
            self._guest.answered()

    def _drop_frames(self) -> None:
        """Drop what the client has sent and is not handled yet."""
        self._events = deque(event for event in self._events or () if not isinstance(event, Waiting))
        self._waiting_size = 0

    def __repr__(self) -> str:
        remote = self.request.remote_address
        return f"<Connection id={self.id!r} from {remote[0] if remote else 'a local socket'}>"

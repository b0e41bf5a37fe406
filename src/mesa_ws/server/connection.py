"""One client's connection: what applications see of it, and the work behind.

Everything that a client causes goes through one queue, so its handlers run one after another, in
order; the task that works on it exists only while there is something to do. What is sent to a
client goes straight to its transport, which never waits, or waits in its outlet.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

from ..close import CloseCode, check_close
from ..concurrency.tasks import survive
from ..errors import ConnectionClosed, InvalidInput, NotAuthenticated
from ..messages.frames import encode_message
from ..messages.message import Message
from ..messages.recipients import User
from ..messages.request import Failure
from ..protocol import (
    Acknowledged,
    Authenticate,
    Close,
    Output,
    ProbeAnswered,
    Received,
    ReplyReceived,
    RequestReceived,
    SendPing,
    SendText,
    ServerEvent,
    ServerProtocol,
    Terms,
    UnexpectedAnswer,
    reconnect,
)
from ..settings import ServerSettings
from ..text import plain
from . import client_requests
from .acknowledgements import take_proof
from .handshake import Request
from .history import History
from .notifications import Reports
from .portal_forwarding import Awaited
from .receive_queue import Flow, Turns
from .registrations import Handlers
from .send_queue import Outlet, Transport
from .subscription import Feed


class Host(Protocol):
    """What a connection needs of the node it belongs to."""

    settings: ServerSettings
    handlers: Handlers
    reports: Reports

    @property
    def terms(self) -> Terms:
        """What the node offers to its connections."""

    def name_connection(self) -> str:
        """The name of a new connection."""

    def now(self) -> float:
        """The event loop's time, in seconds."""

    def at(self, when: float, callback: Callable[[], None], /) -> asyncio.TimerHandle:
        """Call back at `when`, in the time of `now`."""

    def in_loop(self, callback: Callable[..., None], *args: Any) -> None:
        """Call `callback` in the event loop."""

    def spawn(self, work: Coroutine[Any, Any, Any], /) -> asyncio.Task[Any]:
        """Run `work` on its own."""

    async def answer(self, message: Message, connection: "Connection", /) -> bytes | Failure | Awaited:
        """Answer a request of a client."""

    async def admit(self, connection: "Connection", attempt: Authenticate) -> None:
        """Answer op 2."""

    def rename(self, connection: "Connection", user: User) -> bool:
        """Take note that the connection belongs to another user now; return whether to another id."""

    def forget(self, connection: "Connection") -> None:
        """Let go of a connection that has ended."""


log = logging.getLogger("mesa_ws.server")


class _Opened(NamedTuple):
    """The connection exists; first in every queue."""


class _Ended(NamedTuple):
    """The connection has ended; last in every queue."""

    code: int
    reason: str


class Connection:
    """A client's connection to this node.

    Methods may be called from any thread. Attributes may be read from any thread.

    Attributes:
        connection_id: names this connection in the whole cluster, and no other, ever.
        request: the handshake: headers, path, query and remote address.
        user: who the client is, or None before authentication.
        protocol: the protocol's state; for the node's own use, in the event loop only.
        outlet: sends encoded frames; for the node's own use, in the event loop only.
        feed: what the client gets of what is stored, None before authentication; likewise.
        asked: what the client was asked and has not answered; likewise.
        is_logging_in: whether the client waits to be told who it is; likewise.
    """

    __slots__ = (
        "__weakref__",
        "_ended",
        "_flow",
        "_history",
        "_host",
        "_state",
        "_timer",
        "_transport",
        "_turns",
        "asked",
        "connection_id",
        "feed",
        "is_logging_in",
        "outlet",
        "protocol",
        "request",
        "user",
    )

    def __init__(self, host: Host, transport: Transport, request: Request) -> None:
        self._host = host
        self.connection_id = host.name_connection()
        self._transport = transport
        self.protocol = ServerProtocol(host.terms, host.now())
        self._timer: asyncio.TimerHandle | None = None
        self._state: SimpleNamespace | None = None
        self._ended: _Ended | None = None
        limits = host.settings.limits
        self._turns = Turns(host.spawn, self._handle, limits.max_queued, self._regulate)
        self._flow = Flow(transport, self.protocol, host.settings.keepalive, host.now, self._reading_changed)
        self.asked = client_requests.PendingRequests(limits.max_requests, self._regulate)
        self._history = History() if host.settings.rules.store_messages else None
        self.request = request
        self.user: User | None = None
        self.feed: Feed | None = None
        self.is_logging_in = False
        put = self._history.recording(transport.write) if self._history else transport.write
        self.outlet = Outlet(transport, put, limits.max_buffered, self._too_slow)

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
    def state(self) -> SimpleNamespace:
        """A place for the application's own values, kept as long as the connection."""
        if self._state is None:
            self._state = SimpleNamespace()
        return self._state

    @property
    def messages(self) -> History | None:
        """The last messages in both directions, if the server's rules say that they are stored."""
        return self._history

    def send(self, message: Message) -> None:
        """Send to this connection alone; never stored, and in order with what was sent before.

        Raises:
            InvalidMessage: it cannot go on the wire.
            ConnectionClosed: the connection has ended.
            Exception: what a middleware raises `before_send`.
        """
        handlers = self._host.handlers
        going = handlers.outgoing(message, self) if handlers.before_send else message
        if going is None:
            return
        body = encode_message(going, self._host.terms.reserved)
        if self._ended is not None:
            raise ConnectionClosed(*self._ended)
        self._host.in_loop(self._write, body)
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

        The client is not told.

        Raises:
            InvalidInput: it is no `User`.
            NotAuthenticated: the client has not become a user yet.
        """
        if not isinstance(user, User):
            raise InvalidInput(f"update_user: expected User(id, data), got {type(user).__name__}")
        if self.user is None:
            raise NotAuthenticated("update_user: expected an authenticated connection; authenticate it first")
        self.user = user
        self._host.in_loop(self._rename, user)

    # What the transport calls.

    def open(self) -> None:
        """Greet the client."""
        self._transport.write(self._host.terms.hello.payload)
        self._schedule()
        if self._host.handlers.wants_connections:
            self._turns.add(_Opened())

    def heard(self) -> None:
        """A Ping or a part of a message came."""
        self.protocol.heard(self._host.now())

    def ponged(self, payload: bytes) -> None:
        """A Pong came."""
        self._react(self.protocol.ponged(payload, self._host.now()))

    def receive(self, payload: bytes) -> None:
        """A message came."""
        self._react(self.protocol.receive(payload, self._host.now()))

    def congested(self) -> None:
        """More waits for the client than it reads in time."""
        if self._ended is not None:
            return
        self.outlet.congested(by_page=self.feed is not None and self.feed.is_writing_page)
        if self.feed is not None:
            self.feed.congested()
        self.check_room()

    def check_room(self) -> None:
        """Something was written to a congested client, such as a Pong: give it up if that is too much."""
        if self.outlet.is_over:
            self._too_slow(f"{self._transport.buffered} bytes wait to be read")

    def relieved(self) -> None:
        """The client has read what waited."""
        if self._ended is not None:
            return
        self.outlet.relieved()
        if self.feed is not None:
            self.feed.relieved()

    def obey(self, close: Close | None) -> None:
        """Close because the protocol or a limit says so."""
        if close is not None and self._ended is None:
            log.info("closing %r with %d: %s", self, close.code, close.why)
            self._end(close.code, close.code.wire_reason)

    def lost(self, code: int, reason: str) -> None:
        """The peer closed, or is gone."""
        if self._ended is None:
            self._finish(_Ended(code, reason))

    # What the node calls.

    def follow(self, feed: Feed) -> None:
        """Get what is stored from `feed` from now on."""
        if self.feed is not None:
            self.feed.close()
        self.feed = feed

    def probe(self) -> None:
        """Ask the client for a proof of what it was sent, unless it is too early."""
        output = self.protocol.probe(self._host.now())
        if output is not None:
            self._put(output)

    def send_away(self, after: float) -> None:
        """Close because the server stops; ask the client to come back `after` seconds, if it can be asked."""
        if self.protocol.is_wire2:
            self.outlet.control(reconnect(after).payload)
        self.disconnect(CloseCode.GOING_AWAY)

    # What happens in the event loop.

    def _write(self, payload: bytes) -> None:
        self.outlet.write(payload)

    def _report(self, message: Message) -> None:
        if self._ended is None:  # of a thread's message it is not known before
            self._host.reports.sent(message, [self], from_this_node=True)

    def _react(self, event: ServerEvent | None) -> None:
        match event:
            case None:
                return
            case Close():
                self.obey(event)
            case SendText():
                self._put(event)
                if self.outlet.is_congested:
                    self.check_room()
            case ReplyReceived(request, reply):
                self.asked.replied(request, reply)
            case Acknowledged() | ProbeAnswered() | UnexpectedAnswer():
                if self.feed is not None:
                    take_proof(self.feed, event)
            case _:
                if self._history is not None and isinstance(event, Received | RequestReceived):
                    self._history.add_received(event.message)
                self._turns.add(event)

    def _too_slow(self, why: str) -> None:
        self.obey(Close(CloseCode.SLOW_READER, why))

    def _end(self, code: int, reason: str) -> None:
        if self._ended is not None:
            return
        if code != CloseCode.SLOW_READER:
            self.outlet.flush()
        if self._ended is None:  # the client may have been given up for what was written
            self._transport.close(code, reason)
            self._finish(_Ended(int(code), reason))

    def _finish(self, ended: _Ended) -> None:
        self._ended = ended
        self.protocol.close()
        self.outlet.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._host.forget(self)
        self.asked.close()
        if self.feed is not None:
            self.feed.close()
        if self._host.handlers.wants_disconnections:
            self._turns.add(ended)

    def _rename(self, user: User) -> None:
        if self._ended is None:
            self.user = user  # once more: of two threads, the one that gets here last decides
            is_another = self._host.rename(self, user)
            if is_another and self._host.handlers.forwarder is not None:
                self._turns.add(user)

    def _schedule(self) -> None:
        due = self._flow.deadline
        self._timer = None if due is None else self._host.at(due, self._tick)

    def _tick(self) -> None:
        for output in self.protocol.poll(self._host.now()):
            self._put(output)
        self._flow.look()
        if self._ended is None:
            self._schedule()

    def _put(self, output: Output) -> None:
        match output:
            case SendText(payload, token):
                self._transport.write(payload)
            case SendPing(payload, token):
                self._transport.ping(payload)
            case Close():
                self.obey(output)
                return
        if token is not None and self.feed is not None:
            self.feed.replay.on_probe(token)

    def _regulate(self) -> None:
        self._flow.regulate(self._turns, owes_answer=len(self.asked) > 0)

    def _reading_changed(self) -> None:
        if self._ended is None and self._timer is None:
            self._schedule()

    async def _handle(self, event: object) -> None:
        try:
            await self._attend(event)
        except asyncio.CancelledError:  # by a handler of before, which has kept this task
            await survive()
            log.error("the work for %r was cancelled by other code than the server's", self)
            self.obey(Close(CloseCode.INTERNAL_ERROR, "the work for it was cancelled"))
        except Exception:
            log.exception("a bug in the server ended %r; the client may come back", self)
            self.obey(Close(CloseCode.INTERNAL_ERROR, "a bug in the server"))

    async def _attend(self, event: object) -> None:
        match event:
            case Received(message):
                await self._host.handlers.received(message, self)
            case RequestReceived():
                await client_requests.answer(self._host, event, self)
            case Authenticate():
                await self._host.admit(self, event)
            case User():
                await self._host.handlers.renamed(self)
            case _Opened():
                await self._host.handlers.connected(self)
            case _Ended(code, reason):
                await self._host.handlers.disconnected(self, code, reason)

    def __repr__(self) -> str:
        remote = self.request.remote_address
        return f"<Connection id={self.id!r} from {remote[0] if remote else 'a local socket'}>"

"""One client's connection: what applications see of it, and the work behind.

Everything that a client causes goes through one queue, so its handlers run one after another, in
order; the task that works on it exists only while there is something to do. What is sent to a
client goes straight to its transport, which never waits.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

from ..close import CloseCode, check_close
from ..codec import encode_message
from ..errors import ConnectionClosed, InvalidInput, NotAuthenticated
from ..message import Message
from ..session import Authenticate, Close, Received, SendPing, SendText, ServerSession, Terms
from ..settings import ServerSettings
from ..user import User
from .handlers import Handlers
from .history import History
from .request import Request

log = logging.getLogger("mesa_ws.server")


class Transport(Protocol):
    """What a connection needs of a WebSocket. Called in the event loop; nothing here waits."""

    def write(self, payload: bytes, /) -> None:
        """Send a text frame, or buffer it."""

    def ping(self) -> None:
        """Send a Ping frame."""

    def close(self, code: int, reason: str) -> None:
        """Send a close frame, empty for 1005, and cut the connection if no answer comes."""

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`."""

    def resume_reading(self) -> None:
        """Receive again."""


class Host(Protocol):
    """What a connection needs of the node it belongs to."""

    settings: ServerSettings
    handlers: Handlers

    @property
    def terms(self) -> Terms:
        """What the node offers to its connections."""

    def now(self) -> float:
        """The event loop's time, in seconds."""

    def at(self, when: float, callback: Callable[[], None], /) -> asyncio.TimerHandle:
        """Call back at `when`, in the time of `now`."""

    def in_loop(self, callback: Callable[..., None], *args: Any) -> None:
        """Call `callback` in the event loop."""

    def spawn(self, work: Coroutine[Any, Any, Any], /) -> asyncio.Task[Any]:
        """Run `work` on its own."""

    async def admit(self, connection: "Connection", data: object) -> None:
        """Answer op 2."""

    def rename(self, connection: "Connection", user: User) -> None:
        """Take note that the connection belongs to another user now."""

    def forget(self, connection: "Connection") -> None:
        """Let go of a connection that has ended."""


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
        request: the handshake: headers, path, query and remote address.
        user: who the client is, or None before authentication.
        session: the protocol's state; for the node's own use, in the event loop only.
        write: sends an encoded frame; for the node's own use, in the event loop only.
    """

    __slots__ = (
        "__weakref__",
        "_ended",
        "_held",
        "_history",
        "_host",
        "_is_paused",
        "_queue",
        "_state",
        "_timer",
        "_transport",
        "_worker",
        "request",
        "session",
        "user",
        "write",
    )

    def __init__(self, host: Host, transport: Transport, request: Request) -> None:
        self._host = host
        self._transport = transport
        self.session = ServerSession(host.terms, host.now())
        self._queue: deque[object] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._state: SimpleNamespace | None = None
        self._ended: _Ended | None = None
        self._held: list[bytes] | None = None
        self._is_paused = False
        self._history = History() if host.settings.rules.store_messages else None
        self.request = request
        self.user: User | None = None
        self.write: Callable[[bytes], None] = self._usual_write()

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
        """
        body = encode_message(message)
        if self._ended is not None:
            raise ConnectionClosed(*self._ended)
        self._host.in_loop(self._write, body)

    def disconnect(self, code: int = CloseCode.NO_STATUS, reason: str = "") -> None:
        """Close the connection. Does nothing if it has ended already.

        Args:
            code: close code; by default the close frame is empty, which clients report as 1005.
            reason: up to 123 bytes of text for the close frame.

        Raises:
            InvalidInput: RFC 6455 section 7.4 does not allow the code or the reason.
        """
        check_close(code, reason)
        self._host.in_loop(self._end, code, reason)

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
        if self._host.handlers.connection:
            self._enqueue(_Opened())

    def heard(self) -> None:
        """A control frame or a part of a message came."""
        self.session.heard(self._host.now())

    def receive(self, payload: bytes) -> None:
        """A message came."""
        event = self.session.receive(payload, self._host.now())
        if event is None:
            return
        if isinstance(event, Close):
            self.obey(event)
            return
        if self._history is not None and isinstance(event, Received):
            self._history.add_received(event.message)
        self._enqueue(event)

    def obey(self, close: Close | None) -> None:
        """Close because the protocol or a limit says so."""
        if close is not None and self._ended is None:
            log.info("closing %r with %d: %s", self, close.code, close.why)
            self._end(close.code, close.code.wire_reason)

    def lost(self, code: int, reason: str) -> None:
        """The peer closed, or is gone."""
        if self._ended is None:
            self._finish(_Ended(code, reason))

    # What admission calls.

    def hold_back(self) -> None:
        """Keep what is written, until `release`."""
        self._held = []
        self.write = self._held.append

    def release(self, first: bytes) -> None:
        """Send `first`, then what was held back, then whatever is written."""
        held, self._held = self._held, None
        self._transport.write(first)
        self.write = self._usual_write()
        for payload in held or ():
            self.write(payload)

    # What happens in the event loop.

    def _usual_write(self) -> Callable[[bytes], None]:
        return self._transport.write if self._history is None else self._recorded_write

    def _recorded_write(self, payload: bytes) -> None:
        assert self._history is not None  # noqa: S101 - chosen by _usual_write only where there is one
        self._history.add_sent(payload)
        self._transport.write(payload)

    def _write(self, payload: bytes) -> None:
        self.write(payload)

    def _end(self, code: int, reason: str) -> None:
        if self._ended is None:
            self._transport.close(code, reason)
            self._finish(_Ended(int(code), reason))

    def _finish(self, ended: _Ended) -> None:
        self._ended = ended
        self.session.close()
        self.write = _nowhere
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._host.forget(self)
        if self._host.handlers.disconnection:
            self._enqueue(ended)

    def _rename(self, user: User) -> None:
        if self._ended is None:
            self.user = user  # once more: of two threads, the one that gets here last decides
            self._host.rename(self, user)

    def _schedule(self) -> None:
        due = self.session.deadline
        self._timer = None if due is None else self._host.at(due, self._tick)

    def _tick(self) -> None:
        for output in self.session.poll(self._host.now()):
            match output:
                case SendText(payload):
                    self._transport.write(payload)
                case SendPing():
                    self._transport.ping()
                case Close():
                    self.obey(output)
        if self._ended is None:
            self._schedule()

    # The queue and its worker.

    def _enqueue(self, event: object) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(event)
        if self._worker is None:
            self._worker = self._host.spawn(self._work())
        if not self._is_paused and len(self._queue) >= self._host.settings.limits.max_queued:
            self._is_paused = True
            self.session.suspend(self._host.now())
            self._transport.pause_reading()

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._handle(self._queue.popleft())
                if self._is_paused and len(self._queue) <= self._host.settings.limits.max_queued // 2:
                    self._read_again()
        finally:
            self._queue = None
            self._worker = None

    def _read_again(self) -> None:
        self._is_paused = False
        self.session.resume(self._host.now())
        self._transport.resume_reading()
        if self._ended is None and self._timer is None:
            self._schedule()

    async def _handle(self, event: object) -> None:
        match event:
            case Received(message):
                await self._host.handlers.received(message, self)
            case Authenticate(data):
                await self._host.admit(self, data)
            case _Opened():
                await self._host.handlers.connected(self)
            case _Ended(code, reason):
                await self._host.handlers.disconnected(self, code, reason)

    def __repr__(self) -> str:
        remote = self.request.remote_address
        return f"<Connection id={self.id!r} from {remote[0] if remote else 'a local socket'}>"


def _nowhere(payload: bytes) -> None:
    """Where messages to a connection that has ended go; whoever calls `send` gets an error."""

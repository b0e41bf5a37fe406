"""One connection of a client: its WebSocket, the state of its protocol, and its deadlines."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..close import CloseCode
from ..errors import ConnectFailed, InvalidMessage, MesaError, TooManyRequests
from ..handlers.caller import Handler
from ..messages.message import Message
from ..messages.receipt import Position
from ..messages.request import Failure
from ..protocol.client import AckDue, ClientEvent, ClientProtocol, Hello, Ignored, Leave
from ..protocol.correlation import ReplyReceived, RequestReceived
from ..protocol.events import Authenticated, Close, SendPing, SendText
from ..protocol.positions import Arrived, Lost, Positions
from ..settings import ClientSettings
from ..transports.client_socket import ClientSocket, ServerAddress
from ..transports.websocket import ConnectionEnd
from .acknowledging import Acknowledging
from .callbacks import RequestHandlers
from .event_queue import Ending, EventQueue, QueueLevel

log = logging.getLogger("mesa_ws.client")


RENEWAL = (0.8, 0.9)
"""Parts of the time of a login between which the client authenticates again (spec section 17.11)."""


class OpenRequests:
    """Requests of this client on one connection that wait for their answers.

    Args:
        most: requests at a time.
        changed: called when a request begins, or ceases, to wait.
    """

    def __init__(self, most: int, changed: Callable[[], None]) -> None:
        self._most = most
        self._changed = changed
        self._number = 0
        self._open: dict[str, asyncio.Future[Message | Failure]] = {}

    def __len__(self) -> int:
        return len(self._open)

    async def ask(self, write: Callable[[str], None]) -> Message:
        """Send a request with `write` under an id, and wait for the answer however long it takes.

        Raises:
            TooManyRequests: `most` requests wait already.
            MesaError: the error that the server answered, that `close` was given, or that `write` raised.
        """
        if len(self._open) >= self._most:
            raise TooManyRequests(
                f"request: {self._most} already wait for answers, and no more may; wait for some first, "
                "or give the client a larger limits.max_requests"
            )
        self._number += 1
        request = str(self._number)
        reply: asyncio.Future[Message | Failure] = asyncio.get_running_loop().create_future()
        self._open[request] = reply
        try:
            write(request)
            self._changed()
            answer = await reply
        finally:
            del self._open[request]
            self._changed()
        if isinstance(answer, Failure):
            raise answer.error()
        return answer

    def replied(self, request: str, reply: Message | Failure) -> None:
        """Settle a request; an answer without a request is ignored."""
        waiting = self._open.get(request)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def close(self, ending: Callable[[], MesaError]) -> None:
        """Settle all requests with errors that `ending` makes, after the connection has ended."""
        for waiting in self._open.values():
            if not waiting.done():
                waiting.set_exception(ending())
                waiting.exception()  # marks it as seen: the call may have been cancelled


AuthenticationData = Mapping[str, Any] | Callable[[], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
"""The data itself, or a function that returns it for each attempt: `def` or `async def`."""

CallFunction = Callable[[Handler], Awaitable[Any]]
"""Calls a function of the application, and waits for its result."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Authentication data of a client; equal credentials make the same user.

    Args:
        data: for the authenticator of the server.
        should_sync: whether the server delivers messages stored for this user.
        timeout: seconds to wait for the answer.
    """

    data: AuthenticationData
    should_sync: bool
    timeout: float = field(compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.data, Mapping):
            object.__setattr__(self, "data", dict(self.data))
        elif not callable(self.data):
            raise InvalidMessage(
                f"authentication data: expected a mapping or a function, got {type(self.data).__name__}"
            )

    @property
    def is_fixed(self) -> bool:
        """Whether the data is the same at every attempt."""
        return isinstance(self.data, Mapping)

    async def resolve(self, call: CallFunction) -> Mapping[str, Any]:
        """Return the data to send now; `call` calls the application's function, and raises its errors."""
        if isinstance(self.data, Mapping):
            return self.data
        data: Mapping[str, Any] = await call(self.data)
        return data


class ClientConnection:
    """A connection on which the server has sent its greeting.

    Args:
        settings: of the client.
        positions: up to which messages were received on connections before.
        acknowledging: acknowledges handled messages.
        event_queue: gets messages and events from the server.
        request_handlers: answer the server's requests.

    Attributes:
        websocket: the WebSocket.
        hello: the greeting.
        usable_since: when the greeting came, or the server first accepted this client, in the event
            loop's time.
        user: the object the server sent when it accepted this client.
        accepted: the credentials that the server accepted; None before.
        preparing: the credentials whose data the application's function makes at the moment.
        expiring: done when it is time to authenticate again, because the login ends; it is then replaced.
        leave: done when the server is about to stop, with the seconds to stay away.
    """

    websocket: ClientSocket

    def __init__(
        self,
        settings: ClientSettings,
        positions: Positions,
        acknowledging: Acknowledging,
        event_queue: EventQueue,
        request_handlers: RequestHandlers,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._protocol = ClientProtocol(settings.keepalive, self._loop.time(), positions)
        self._acknowledging = acknowledging
        self._event_queue = event_queue
        self._request_handlers = request_handlers
        self._greeted: asyncio.Future[Hello] = self._loop.create_future()
        self._answer: asyncio.Future[Any] | None = None
        self._pending: Credentials | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._level = QueueLevel.SMALL
        self._requests = OpenRequests(settings.limits.max_requests, self._regulate)
        self._is_paused = False
        self.hello: Hello
        self.usable_since = self._loop.time()
        self.user: Any = None
        self.accepted: Credentials | None = None
        self.preparing: Credentials | None = None
        self.expiring: asyncio.Future[None] = self._loop.create_future()
        self._expiry: asyncio.TimerHandle | None = None
        self.leave: asyncio.Future[float] = self._loop.create_future()
        self._early: list[Arrived] | None = []
        self._authenticated: asyncio.Future[None] = self._loop.create_future()

    async def open(self, address: ServerAddress) -> None:
        """Connect, and wait for the server's greeting. Cancelling leaves nothing open."""
        websocket = await address.connect(self, self._settings.limits)
        try:
            self.hello = await self._greeting(address)
        except BaseException:
            websocket.abort()
            await asyncio.wait({websocket.ended})
            raise

    @property
    def is_authenticated(self) -> bool:
        """Whether the server has accepted this client."""
        return self._authenticated.done()

    @property
    def attempt(self) -> Credentials | None:
        """Credentials that wait for the server's answer, or are about to be sent; or None."""
        return self._pending or self.preparing

    @property
    def positions(self) -> Positions:
        """Positions up to which messages were received."""
        return self._protocol.positions

    def start(self) -> None:
        """Queue what arrives from now on, beginning with what has arrived already."""
        early, self._early = self._early, None
        for arrived in early or ():
            self._queue(arrived)

    def acknowledge(self, position: Position) -> None:
        """Acknowledge everything up to `position`, unless the client did so before."""
        acknowledgement = self._protocol.acknowledge(position)
        if acknowledgement is not None:
            self.websocket.write(acknowledgement.payload)

    async def wait_authenticated(self) -> None:
        """Wait until the server has accepted this client, or the connection has ended."""
        await self._first_of(self._authenticated)

    async def authenticate(self, credentials: Credentials, data: Mapping[str, Any], resume: Positions) -> Any:
        """Request authentication with `data`, and return the user object that the server sends.

        See `Client.authenticate` for errors.
        """
        question = self._protocol.authenticate(data, should_sync=credentials.should_sync, resume=resume)
        answer = self._answer = self._loop.create_future()
        self._pending = credentials
        self._regulate()
        self.websocket.write(question.payload)
        try:
            await self._first_of(answer)
        finally:
            self._answer = None
            self._regulate()
        if answer.done():
            return answer.result()
        raise self.ending().error()

    async def request(self, body: bytes) -> Message:
        """Send a request, and wait for its answer however long it takes; see `Client.request`."""
        return await self._requests.ask(
            lambda request: self.websocket.write(self._protocol.request(body, request).payload)
        )

    def throttle(self, level: QueueLevel) -> None:
        """Stop reading while the application is behind, or read again."""
        self._level = level
        self._regulate()

    def ending(self) -> Ending:
        """Return how this connection ended, or will; call it when its WebSocket is not open any more."""
        code, reason = self.websocket.ending
        is_refusal = code == CloseCode.REFUSED and self._pending is not None
        return Ending(code, reason, is_refusal)

    async def aclose(self, code: int = CloseCode.NORMAL) -> ConnectionEnd:
        """Close the connection with a close frame, and return how it ended."""
        self.websocket.close(code, "")
        return await asyncio.shield(self.websocket.ended)

    # Called by the WebSocket.

    def opened(self, websocket: ClientSocket) -> None:
        """Begin, after the handshake."""
        self.websocket = websocket
        websocket.ended.add_done_callback(self._stop)
        self._schedule()

    def message(self, payload: bytes) -> None:
        """Handle a message of the WebSocket."""
        for event in self._protocol.receive(payload, self._loop.time()):
            self._obey(event)

    def heard(self) -> None:
        """Record that the server is alive."""
        self._protocol.heard(self._loop.time())

    def _obey(self, event: ClientEvent) -> None:
        match event:
            case Arrived():
                self._arrived(event)
            case ReplyReceived(request, reply):
                self._requests.replied(request, reply)
            case RequestReceived():
                self._request_handlers.handle(event, self.websocket.write)
            case AckDue():
                self._acknowledging.hurry()
            case SendText(payload):
                self.websocket.write(payload)
            case Authenticated():
                self._accept(event)
            case Hello():
                self.usable_since = self._loop.time()
                _settle(self._greeted, event)
            case Leave(after):
                _settle(self.leave, after)
            case Ignored(why):
                log.warning("ignored a message that is not a frame of the protocol: %s", why)

    def _arrived(self, arrived: Arrived) -> None:
        if isinstance(arrived.what, Lost) and not arrived.what.is_announced:
            log.warning("the server broke a rule: it left out %d messages", arrived.what.number)
        if self._early is not None:
            self._early.append(arrived)
        else:
            self._queue(arrived)

    def _queue(self, arrived: Arrived) -> None:
        self._acknowledging.received(arrived)
        self._event_queue.receive(arrived)

    def _accept(self, authenticated: Authenticated) -> None:
        self.user, expires = authenticated
        self._stop_expiry()
        if expires:
            after = expires * random.uniform(*RENEWAL)  # noqa: S311 - spreads load
            self._expiry = self._loop.call_later(after, lambda: _settle(self.expiring, None))
        if self._pending is not None:
            self.accepted, self._pending = self._pending, None
        if not self._authenticated.done():
            self.usable_since = self._loop.time()
        _settle(self._authenticated, None)
        if self._answer is not None:
            _settle(self._answer, self.user)

    def _stop_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()

    async def _greeting(self, address: ServerAddress) -> Hello:
        patience = self._settings.limits.connect_timeout
        await self._first_of(self._greeted, timeout=patience)
        if self._greeted.done():
            return self._greeted.result()
        problem = f"sent nothing for {patience:g} s"
        if self.websocket.ended.done():
            problem = f"closed the connection with {self.websocket.ended.result().code}"
        raise ConnectFailed(
            f"expected a greeting from {address}, but it {problem}; check that it is a Mesa server"
        )

    async def _first_of(self, event: asyncio.Future[Any], timeout: float | None = None) -> None:
        """Wait for `event` or for the end of the connection, whichever comes first."""
        waited: set[asyncio.Future[Any]] = {event, self.websocket.ended}
        await asyncio.wait(waited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    def _regulate(self) -> None:
        # An answer can only be read by reading on, whatever comes before it. But messages may never end,
        # so a request whose answer is behind too many of them has to time out.
        has_patience = self._answer is not None or (len(self._requests) and self._level < QueueLevel.OVERFULL)
        is_paused = self._level > QueueLevel.SMALL and not has_patience
        if is_paused == self._is_paused:
            return
        self._is_paused = is_paused
        if is_paused:
            self._protocol.suspend(self._loop.time())
            self.websocket.pause_reading()
        else:
            self._protocol.resume(self._loop.time())
            self.websocket.resume_reading()
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._protocol.deadline
        self._timer = None if due is None else self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        for output in self._protocol.poll(self._loop.time()):
            match output:
                case SendPing():
                    self.websocket.ping()
                case Close(code, why):
                    # A server that does not answer Pings will not answer a close frame either.
                    self.websocket.close(code, why, patience=0)
        self._schedule()

    def _stop(self, ended: "asyncio.Task[ConnectionEnd]") -> None:
        self._protocol.close()
        self._stop_expiry()
        self._requests.close(lambda: self.ending().error())
        self._schedule()


def _settle(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)

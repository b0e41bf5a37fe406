"""One connection of a client: its wire, the state of its protocol, and its deadlines."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from ..close import CloseCode
from ..errors import ConnectFailed, InvalidMessage, MesaError, TooManyRequests
from ..handlers import Handler
from ..messages.message import Message
from ..messages.receipt import Position
from ..messages.request import Failure
from ..protocol import (
    AckDue,
    Arrived,
    Authenticated,
    ClientEvent,
    ClientProtocol,
    Close,
    Hello,
    Ignored,
    Leave,
    Lost,
    Positions,
    ReplyReceived,
    RequestReceived,
    SendPing,
    SendText,
)
from ..settings import ClientSettings
from ..transports.client_socket import Address, Ended, Wire, connect
from .events import Ending
from .inbox import Crowd


class Asking:
    """Requests on one connection. Nothing is left of one whose call has ended.

    Args:
        most: requests at a time.
        changed: called when an answer begins, or ceases, to be waited for.
    """

    def __init__(self, most: int, changed: Callable[[], None]) -> None:
        self._most = most
        self._changed = changed
        self._number = 0
        self._open: dict[str, asyncio.Future[Message | Failure]] = {}

    def __len__(self) -> int:
        return len(self._open)

    async def ask(self, write: Callable[[str], None]) -> Message:
        """Ask, and wait for the reply however long it takes.

        Args:
            write: sends the request under the id that it is given.

        Raises:
            TooManyRequests: as many wait as may.
            MesaError: what the reply says, what `close` was given, or what `write` raises.
        """
        if len(self._open) >= self._most:
            raise TooManyRequests(
                f"request: expected up to {self._most} that wait for answers at a time, got one more; "
                "wait for some first, or give the client larger limits.max_requests"
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
        """The server said something to a request; what was not asked is ignored."""
        waiting = self._open.get(request)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def close(self, ending: Callable[[], MesaError]) -> None:
        """The connection has ended; every call raises what `ending` makes."""
        for waiting in self._open.values():
            if not waiting.done():
                waiting.set_exception(ending())
                waiting.exception()  # the call may have been given up, and nobody looks


AuthenticationData = Mapping[str, Any] | Callable[[], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
"""The data itself, or a function that makes it anew each time: `def` or `async def`."""

Call = Callable[[Handler], Awaitable[Any]]
"""Calls a function of the application, and waits for its result."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """One way to authenticate; equal ones make the same user.

    Args:
        data: for the authenticator of the server.
        should_sync: whether messages stored for this user shall be delivered.
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

    async def resolve(self, call: Call) -> Mapping[str, Any]:
        """Return the data to send, as of now; errors of the application's function are its caller's.

        Args:
            call: calls that function.
        """
        if isinstance(self.data, Mapping):
            return self.data
        data: Mapping[str, Any] = await call(self.data)
        return data


log = logging.getLogger("mesa_ws.client")


class Crew(Protocol):
    """Who works with what a connection receives. Called in the event loop; nothing here waits."""

    def receive(self, arrived: Arrived) -> None:
        """Something arrived; comes after `start` only."""

    def hurry(self) -> None:
        """Acknowledge what was handled, now."""

    def asked(self, asked: RequestReceived, write: Callable[[bytes], None]) -> None:
        """The server wants an answer, which `write` sends."""


class ClientConnection:
    """A connection whose server has greeted.

    Args:
        settings: of the client.
        crew: who works with what comes.
        positions: up to where messages were received on connections before.

    Attributes:
        wire: the WebSocket.
        hello: what the server announced.
        usable_since: when the server greeted, or first accepted this client, in the event loop's time.
        user: the object the server sent when it accepted this client.
        accepted: what the server accepted; None before.
        preparing: what the application makes the data of at the moment, to authenticate with.
        leave: done when the server is about to go, with the seconds to stay away.
    """

    wire: Wire

    def __init__(self, settings: ClientSettings, crew: Crew, positions: Positions) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._protocol = ClientProtocol(settings.keepalive, self._loop.time(), positions)
        self._crew = crew
        self._greeted: asyncio.Future[Hello] = self._loop.create_future()
        self._answer: asyncio.Future[Any] | None = None
        self._pending: Credentials | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._crowd = Crowd.SMALL
        self._asking = Asking(settings.limits.max_requests, self._regulate)
        self._is_paused = False
        self.hello: Hello
        self.usable_since = self._loop.time()
        self.user: Any = None
        self.accepted: Credentials | None = None
        self.preparing: Credentials | None = None
        self.leave: asyncio.Future[float] = self._loop.create_future()
        self._early: list[Arrived] | None = []
        self._authenticated: asyncio.Future[None] = self._loop.create_future()

    @classmethod
    async def open(cls, address: Address, settings: ClientSettings, crew: Crew, positions: Positions) -> Self:
        """Connect, and wait until the server has greeted. Cancelling leaves nothing open.

        Raises:
            ConnectFailed: the server cannot be reached, or is not a Mesa server.
        """
        connection = cls(settings, crew, positions)
        wire = await connect(address, connection, settings.limits)
        try:
            connection.hello = await connection._greeting(address)
        except BaseException:
            wire.abort()
            await asyncio.wait({wire.ended})
            raise
        return connection

    @property
    def is_authenticated(self) -> bool:
        """Whether the server has accepted this client."""
        return self._authenticated.done()

    @property
    def attempt(self) -> Credentials | None:
        """What waits for the server's answer, or is about to be sent; None if no attempt is under way."""
        return self._pending or self.preparing

    @property
    def positions(self) -> Positions:
        """Up to where messages were received."""
        return self._protocol.positions

    def start(self) -> None:
        """Hand over what arrives from now on, beginning with what is here already."""
        early, self._early = self._early, None
        for arrived in early or ():
            self._crew.receive(arrived)

    def acknowledge(self, position: Position) -> None:
        """Tell the server that everything up to `position` was handled, if that is news to it."""
        acknowledgement = self._protocol.acknowledge(position)
        if acknowledgement is not None:
            self.wire.write(acknowledgement.payload)

    async def wait_authenticated(self) -> None:
        """Wait until the server has accepted this client, or the connection has ended."""
        await self._first_of(self._authenticated)

    async def authenticate(self, credentials: Credentials, data: Mapping[str, Any], resume: Positions) -> Any:
        """Ask to be somebody, and wait for the answer however long it takes.

        Args:
            credentials: who.
            data: what they say at the moment.
            resume: from where to go on.

        Returns:
            The user object that the server sent.

        Raises:
            InvalidMessage: JSON cannot hold `data`.
            AuthenticationFailed: the server refused.
            ConnectionClosed: the connection ended before the answer.
        """
        question = self._protocol.authenticate(data, should_sync=credentials.should_sync, resume=resume)
        answer = self._answer = self._loop.create_future()
        self._pending = credentials
        self._regulate()
        self.wire.write(question.payload)
        try:
            await self._first_of(answer)
        finally:
            self._answer = None
            self._regulate()
        if answer.done():
            return answer.result()
        raise self.ending().error()

    async def request(self, body: bytes) -> Message:
        """Ask the server, and wait for its answer however long it takes.

        Args:
            body: the encoded message.

        Raises:
            Unsupported: the server speaks wire 1; nothing was sent.
            TooManyRequests: as many wait for answers as may.
            RequestFailed: the answer is an error.
            ConnectionClosed: the connection ended before the answer.
        """
        return await self._asking.ask(
            lambda request: self.wire.write(self._protocol.request(body, request).payload)
        )

    def throttle(self, crowd: Crowd) -> None:
        """Stop reading while the application is behind, or read again."""
        self._crowd = crowd
        self._regulate()

    def ending(self) -> Ending:
        """How this connection ended, or will; call it when its wire is not open any more."""
        code, reason = self.wire.ending
        is_refusal = code == CloseCode.REFUSED and self._pending is not None
        return Ending(code, reason, is_refusal)

    async def aclose(self, code: int = CloseCode.NORMAL) -> Ended:
        """Close it in order with a code, and tell how it ended."""
        self.wire.close(code, "")
        return await asyncio.shield(self.wire.ended)

    # What the wire calls.

    def opened(self, wire: Wire) -> None:
        """The handshake is done."""
        self.wire = wire
        wire.ended.add_done_callback(self._stop)
        self._schedule()

    def message(self, payload: bytes) -> None:
        """A message came."""
        for event in self._protocol.receive(payload, self._loop.time()):
            self._obey(event)

    def heard(self) -> None:
        """A sign of life came."""
        self._protocol.heard(self._loop.time())

    def _obey(self, event: ClientEvent) -> None:
        match event:
            case Arrived():
                self._arrived(event)
            case ReplyReceived(request, reply):
                self._asking.replied(request, reply)
            case RequestReceived():
                self._crew.asked(event, self._write)
            case AckDue():
                self._crew.hurry()
            case SendText(payload):
                self.wire.write(payload)
            case Authenticated(user):
                self._accept(user)
            case Hello():
                self.usable_since = self._loop.time()
                _settle(self._greeted, event)
            case Leave(after):
                _settle(self.leave, after)
            case Ignored(why):
                log.warning("ignored what is not a frame of the protocol: %s", why)

    def _write(self, payload: bytes) -> None:
        """Send an answer, if there is still somebody to get it."""
        if self.wire.is_open:
            self.wire.write(payload)

    def _arrived(self, arrived: Arrived) -> None:
        if isinstance(arrived.what, Lost) and not arrived.what.is_announced:
            log.warning("the server broke a rule: it left out %d messages", arrived.what.number)
        if self._early is not None:
            self._early.append(arrived)
        else:
            self._crew.receive(arrived)

    def _accept(self, user: Any) -> None:
        self.user = user
        if self._pending is not None:
            self.accepted, self._pending = self._pending, None
        if not self._authenticated.done():
            self.usable_since = self._loop.time()
        _settle(self._authenticated, None)
        if self._answer is not None:
            _settle(self._answer, user)

    async def _greeting(self, address: Address) -> Hello:
        patience = self._settings.limits.connect_timeout
        await self._first_of(self._greeted, timeout=patience)
        if self._greeted.done():
            return self._greeted.result()
        problem = f"said nothing for {patience:g} s"
        if self.wire.ended.done():
            problem = f"closed the connection with {self.wire.ended.result().code}"
        raise ConnectFailed(
            f"expected a greeting from {address}, but it {problem}; check that it is a Mesa server"
        )

    async def _first_of(self, event: asyncio.Future[Any], timeout: float | None = None) -> None:
        """Wait for `event` or for the end of the connection, whichever comes first."""
        waited: set[asyncio.Future[Any]] = {event, self.wire.ended}
        await asyncio.wait(waited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    def _regulate(self) -> None:
        # The answer to a question can only be read by reading on, whatever comes before it. Of messages
        # there may be no end, so one that is behind too many of them has to run out of time.
        has_patience = self._answer is not None or (len(self._asking) and self._crowd < Crowd.OVERFULL)
        is_paused = self._crowd > Crowd.SMALL and not has_patience
        if is_paused == self._is_paused:
            return
        self._is_paused = is_paused
        if is_paused:
            self._protocol.suspend(self._loop.time())
            self.wire.pause_reading()
        else:
            self._protocol.resume(self._loop.time())
            self.wire.resume_reading()
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
                    self.wire.ping()
                case Close(code, why):
                    # Who does not answer Pings will not answer a close frame either.
                    self.wire.close(code, why, patience=0)
        self._schedule()

    def _stop(self, ended: "asyncio.Task[Ended]") -> None:
        self._protocol.close()
        self._asking.close(lambda: self.ending().error())
        self._schedule()


def _settle(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)

"""A client's WebSocket on picows: frames, back-pressure and the closing handshake.

This module decides what picows leaves to its user: fragments (RFC 6455 section 5.4), reserved bits
(5.2), Pings (5.5.2) and the closing handshake (7.1).
"""

import asyncio
import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import urlsplit

from picows import WSError, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

from ..close import CloseCode
from ..concurrency.happy_eyeballs import connect_socket
from ..concurrency.tasks import start
from ..errors import ConnectFailed, InvalidSettings
from ..protocol.fragments import Fragments, Violation
from ..settings import ClientLimits
from ..text import plain
from ..tls import MAY_DEMAND, tls_problem
from .websocket import ConnectionEnd, data_frame, implied_end, quiet, received_close, send_close

log = logging.getLogger("mesa_ws.client")

LINGER = 1.0
"""Seconds the server has to end the TCP connection once both sides have sent a close frame."""


class Peer(Protocol):
    """The owner of a WebSocket, which it reports to. Called in the event loop; nothing here waits."""

    def opened(self, websocket: "ClientSocket") -> None:
        """The handshake is done. Called first."""

    def message(self, payload: bytes) -> None:
        """A whole message has arrived."""

    def heard(self) -> None:
        """A control frame, or a part of a message, has arrived."""


class ClientSocket(WSListener):
    """One WebSocket. For the event loop that opened it only.

    Attributes:
        ended: done when nothing is left of the connection.
    """

    ended: "asyncio.Task[ConnectionEnd]"

    def __init__(self, peer: Peer, limits: ClientLimits) -> None:
        self._peer = peer
        self._limits = limits
        self._fragments = Fragments(limits.max_message, limits.max_fragments)
        self._transport: WSTransport
        self._goodbye: ConnectionEnd | None = None
        self._cut: asyncio.TimerHandle | None = None
        self._has_room = asyncio.Event()
        self._has_room.set()

    @property
    def is_open(self) -> bool:
        """Whether frames that are sent now can still reach the server."""
        transport = self._transport
        return not (self._goodbye or transport.is_close_frame_sent or transport.is_disconnected)

    @property
    def ending(self) -> ConnectionEnd:
        """How the connection ended, or will end, as far as is known; meaningful once it is not open."""
        return self._goodbye or implied_end(self._transport)

    @property
    def is_congested(self) -> bool:
        """Whether the socket accepts no more, so that frames pile up in memory."""
        return not self._has_room.is_set()

    async def drained(self) -> None:
        """Wait until the socket accepts more, or the connection ends."""
        await self._has_room.wait()

    def write(self, payload: bytes) -> None:
        """Send a text frame; does nothing when the connection is not open."""
        if self.is_open:
            self._transport.send(WSMsgType.TEXT, payload)

    def ping(self) -> None:
        """Send a Ping frame; does nothing when the connection is not open."""
        if self.is_open:
            self._transport.send_ping()

    def close(self, code: int, reason: str, *, patience: float | None = None) -> None:
        """Send a close frame, if none was sent or received; frames that still arrive are dropped.

        Args:
            code: for the frame; 1005 sends an empty one.
            reason: for `ended`; it is not sent.
            patience: seconds until the connection is cut, whether the server has answered or not.
        """
        if self.is_open:
            self._say_goodbye(ConnectionEnd(int(code), reason))
        self._cut_after(self._limits.close_timeout if patience is None else patience)

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.disconnect(False)

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`, or until the connection is closed."""
        if self.is_open:
            self._transport.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        """Receive again."""
        if not self._transport.is_disconnected:
            self._transport.underlying_transport.resume_reading()

    # What picows calls.

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done."""
        self._transport = transport
        self.ended = start(self._watch())
        self._peer.opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame has arrived."""
        try:
            self._take(frame)
        except Violation as violation:
            log.warning("the server broke a rule: %s", violation.why)
            self.close(violation.code, violation.why)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The socket is closed."""
        if self._cut is not None:
            self._cut.cancel()
        self._has_room.set()

    def pause_writing(self) -> None:
        """The socket accepts no more."""
        self._has_room.clear()

    def resume_writing(self) -> None:
        """The socket accepts more."""
        self._has_room.set()

    def _take(self, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self._closed_by_server(received_close(frame))
        elif self._goodbye is not None:
            return
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise Violation(CloseCode.PROTOCOL_ERROR, "reserved bits without an extension")
        elif kind == WSMsgType.PING:
            self._transport.send_pong(frame.get_payload_as_bytes())
            self._peer.heard()
        elif kind == WSMsgType.PONG:
            self._peer.heard()
        else:
            self._join(frame)

    def _join(self, frame: WSFrame) -> None:
        message = self._fragments.add(data_frame(frame))
        if message is None:
            self._peer.heard()
        else:
            self._peer.message(message)

    def _closed_by_server(self, end: ConnectionEnd) -> None:
        if self._goodbye is None:
            self._say_goodbye(end)
        self._cut_after(LINGER)

    def _say_goodbye(self, goodbye: ConnectionEnd) -> None:
        send_close(self._transport, goodbye.code)
        self._goodbye = goodbye
        self._has_room.set()
        self.resume_reading()

    def _cut_after(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._transport.is_disconnected or (self._cut and self._cut.when() <= loop.time() + seconds):
            return
        if self._cut is not None:
            self._cut.cancel()
        self._cut = loop.call_later(seconds, self.abort)

    async def _watch(self) -> ConnectionEnd:
        try:
            await self._transport.wait_disconnected()
        except WSError as error:
            log.warning("the server broke a rule of WebSockets: %s", error)
        except Exception:
            log.exception("a bug in the client ended its connection")
        return self.ending


READ_BUFFER = 16 * 1024

HANDOVER = 3
"""Rounds of the event loop after which a transport certainly owns its socket."""

MAX_RETRY_AFTER = 86_400.0
"""Seconds of a day: a longer `Retry-After` counts as this."""

_HUNG_UP = "the server hung up during the handshake"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\ud7ff\ue000-\U0010ffff]*")
_URL = re.compile(r"[^\x00-\x20\x7f\ud800-\udfff]+")
"""Without lone surrogates, which no encoding has."""


class ServerAddress(NamedTuple):
    """The address that a client connects to, with the headers of its handshake.

    Its text leaves out the query and the headers, because they often hold a token.
    """

    url: str
    headers: Mapping[str, str]
    ssl: ssl.SSLContext | None

    @classmethod
    def of(cls, url: object, headers: object, context: object) -> Self:
        """Check the address that the user gave."""
        url = plain(url)
        scheme = _check_url(url)
        if context is not None and not isinstance(context, ssl.SSLContext):
            raise InvalidSettings("ssl", "an ssl.SSLContext or None", context)
        if context is not None and scheme == "ws":
            raise InvalidSettings("ssl", "None for a ws:// URL; use wss:// for TLS", context)
        return cls(str(url), _checked_headers(headers), context)

    async def connect(self, peer: Peer, limits: ClientLimits) -> ClientSocket:
        """Open a WebSocket to it; see the function `connect`."""
        return await connect(self, peer, limits)

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"


async def connect(address: ServerAddress, peer: Peer, limits: ClientLimits) -> ClientSocket:
    """Open a WebSocket. Cancelling closes what was opened.

    Raises:
        ConnectFailed: the server cannot be reached, or refuses the WebSocket.
    """
    websocket = ClientSocket(peer, limits)
    dial = _Dial()
    opening = start(
        ws_connect(
            lambda *_: websocket,
            address.url,
            ssl_context=address.ssl,
            extra_headers=address.headers,
            socket_factory=dial,
            enable_auto_pong=False,
            logger_name=quiet("client"),
            max_frame_size=limits.max_message,
            max_redirects=0,
            read_buffer_init_size=READ_BUFFER,
            # Its TLS reports a server that hangs up to the event loop, as if that were a bug.
            use_aiofastnet=False,
            websocket_handshake_timeout=None,
        )
    )
    try:
        await asyncio.wait({opening}, timeout=limits.connect_timeout)
    except asyncio.CancelledError:
        await dial.hang_up(opening)
        raise
    if not opening.done():
        await dial.hang_up(opening)
        raise failure(address, f"no answer within {limits.connect_timeout:g} s")
    error = opening.exception()
    if error is not None:
        raise failure(address, _told(error), _retry_after(error)) from error
    if opening.result()[1] is None:
        raise failure(address, _HUNG_UP)
    return websocket


class _Dial:
    """Opens the TCP connection, so that it can be given up before picows returns it."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    async def __call__(self, url: Any) -> socket.socket:
        self._socket = await connect_socket(url.host, url.port)
        return self._socket

    async def hang_up(self, opening: "asyncio.Future[Any]") -> None:
        """End `opening` at any stage, and wait until its socket is closed."""
        if self._socket is None:
            opening.cancel()
        else:
            # Cancelled in the handshake, picows would leave the transport open. Before the transport
            # has taken the socket over, in its first rounds of the event loop, uvloop would lose it.
            for _ in range(HANDOVER):
                await asyncio.sleep(0)
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        await asyncio.wait({opening})
        if not opening.cancelled() and opening.exception() is None:
            _, websocket = opening.result()
            if websocket is not None:
                websocket.abort()
                await asyncio.wait({websocket.ended})


def failure(address: ServerAddress, problem: str, retry_after: float | None = None) -> ConnectFailed:
    """Return the error for a server that cannot be reached, or refuses the WebSocket."""
    if problem == _HUNG_UP and address.url.startswith("wss:"):
        problem = f"{problem}; {MAY_DEMAND}, which ssl= would show"
    return ConnectFailed(
        f"cannot connect to {address}: {problem}; check the address, and that the server is running",
        retry_after,
    )


def _retry_after(error: BaseException) -> float | None:
    if not isinstance(error, WSHandshakeError) or error.response is None:
        return None
    return read_retry_after(error.response.headers.get("Retry-After"), time.time())


def read_retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a `Retry-After` asks for (RFC 9110 section 10.2.3); None if it is none."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        seconds = float(value[:20])  # longer is longer than a day
    else:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return min(max(0.0, seconds), MAX_RETRY_AFTER)


def _told(error: BaseException) -> str:
    problem = str(error) or type(error).__name__
    match error:
        case WSHandshakeError(response=response):
            answer = f"{response.status.value} {response.status.phrase}" if response else "something else"
            problem = f"expected a WebSocket, got {answer}"
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | ConnectionResetError() | ConnectionAbortedError():
            problem = _HUNG_UP
        case ssl.SSLError():
            problem = tls_problem(error) or problem
        case socket.gaierror(strerror=text):
            problem = f"its name cannot be resolved: {text}"
        case OSError(errno=number) if number is not None:
            problem = os.strerror(number).lower()
    return problem


def _check_url(url: object) -> str:
    expected = "a URL such as ws://localhost:4000 or wss://example.com/ws"
    if not isinstance(url, str) or not _URL.fullmatch(url):
        raise InvalidSettings("url", expected, url)
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"ws", "wss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or parts.fragment:
        raise InvalidSettings("url", expected, re.sub("//.*@|[?].*", "…", url))
    if parts.username is not None or parts.password is not None:
        raise InvalidSettings("url", f"{expected}, credentials in headers=", "one with credentials")
    return parts.scheme


def _checked_headers(headers: object) -> Mapping[str, str]:
    expected = "a mapping of header names to values without control characters and lone surrogates"
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise InvalidSettings("headers", expected, type(headers).__name__)
    for name, value in headers.items():
        if not (isinstance(name, str) and _TOKEN.fullmatch(name)):
            raise InvalidSettings("headers", expected, name)
        if not (isinstance(value, str) and _VALUE.fullmatch(value)):
            raise InvalidSettings(f"headers.{name}", expected, "a value that is not one")
    return {plain(name): plain(value) for name, value in headers.items()}

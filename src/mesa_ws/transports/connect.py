"""Opening a client's WebSocket on picows, with every failure as one of our errors."""

import asyncio
import os
import re
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from picows import WSHandshakeError, ws_connect

from ..client_settings import ClientLimits
from ..concurrency.happy_eyeballs import connect_socket
from ..concurrency.tasks import start
from ..errors import ConnectFailed, InvalidSettings
from ..text import plain
from ..tls import MAY_DEMAND, tls_problem
from .quiet import quiet
from .wire import Peer, Wire

READ_BUFFER = 16 * 1024

HANDOVER = 3
"""Rounds of the event loop after which a transport certainly owns the socket it was given."""

MAX_RETRY_AFTER = 86_400.0
"""Seconds of a day: a longer `Retry-After` counts as this."""

_HUNG_UP = "the server hung up during the handshake"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\ud7ff\ue000-\U0010ffff]*")
_URL = re.compile(r"[^\x00-\x20\x7f\ud800-\udfff]+")
"""Without lone surrogates, which no encoding has."""


class Address(NamedTuple):
    """Where a client connects to, and what it says in its handshake.

    Shown without its query and its headers, which often hold a token.
    """

    url: str
    headers: Mapping[str, str]
    ssl: ssl.SSLContext | None

    @classmethod
    def of(cls, url: object, headers: object, context: object) -> Self:
        """Check what the user gave.

        Raises:
            InvalidSettings: one of them cannot be used.
        """
        url = plain(url)
        scheme = _check_url(url)
        if context is not None and not isinstance(context, ssl.SSLContext):
            raise InvalidSettings("ssl", "an ssl.SSLContext or None", context)
        if context is not None and scheme == "ws":
            raise InvalidSettings("ssl", "None for a ws:// URL; use wss:// for TLS", context)
        return cls(str(url), _checked_headers(headers), context)

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"


async def connect(address: Address, peer: Peer, limits: ClientLimits) -> Wire:
    """Open a WebSocket. Cancelling closes what was opened.

    Raises:
        ConnectFailed: the server cannot be reached, or does not agree.
    """
    wire = Wire(peer, limits)
    dial = _Dial()
    opening = start(
        ws_connect(
            lambda *_: wire,
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
        raise _failure(address, f"no answer within {limits.connect_timeout:g} s")
    problem = _problem(opening)
    if problem is not None:
        error = opening.exception()
        raise _failure(address, problem, _retry_after(error)) from error
    return wire


class _Dial:
    """Opens the TCP connection, so that it can be given up before picows hands it over."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    async def __call__(self, url: Any) -> socket.socket:
        self._socket = await connect_socket(url.host, url.port)
        return self._socket

    async def hang_up(self, opening: "asyncio.Future[Any]") -> None:
        """End `opening`, at whatever stage it is, and wait until nothing is left of it."""
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
            _, wire = opening.result()
            if wire is not None:
                wire.abort()
                await asyncio.wait({wire.ended})


def _failure(address: Address, problem: str, retry_after: float | None = None) -> ConnectFailed:
    if problem == _HUNG_UP and address.url.startswith("wss:"):
        problem = f"{problem}; {MAY_DEMAND}, which ssl= would show"
    return ConnectFailed(
        f"cannot connect to {address}: {problem}; check the address, and that the server is running",
        retry_after,
    )


def _retry_after(error: BaseException | None) -> float | None:
    if not isinstance(error, WSHandshakeError) or error.response is None:
        return None
    return read_retry_after(error.response.headers.get("Retry-After"), time.time())


def read_retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a `Retry-After` asks for (RFC 9110 section 10.2.3); None if it is none.

    Args:
        value: of the header.
        now: seconds of Unix time.
    """
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


def _problem(opening: "asyncio.Future[Any]") -> str | None:
    """What went wrong; None if the connection is open."""
    error = opening.exception()
    if error is not None:
        return _told(error)
    _, wire = opening.result()
    return None if wire is not None else _HUNG_UP


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

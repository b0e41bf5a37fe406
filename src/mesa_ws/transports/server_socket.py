"""The server's WebSockets on picows: the connection of one client, and the listening socket.

This module decides what picows leaves to its user: which requests are upgraded (RFC 6455 section
4.2), fragments (5.4), reserved bits (5.2), Pings (5.5.2) and the closing handshake (7.1).
"""

import asyncio
import logging
import random
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from ssl import SSLContext
from typing import Any, ClassVar

import aiofastnet
from picows import (
    WSAutoPingStrategy,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # its stubs leave it out

from ..close import CloseCode
from ..errors import InvalidSettings
from ..protocol.events import Close
from ..protocol.fragments import Fragments, Violation
from ..server.connection import Connection
from ..server.connection_limits import WAIT
from ..server.node import Node
from ..server.send_queue import JOINED_BYTES, PeerState
from ..settings import Hosts, Port, Settings
from ..text import plain
from .browser_client import BrowserClient
from .frame_feed import READ_AT_ONCE, FrameFeed, plain_path
from .listening import Acceptor, HostOrHosts, listen
from .liveness import limit_silence, peer_state, probe_silent_peers, seconds_waited
from .proxies import RemoteAddress, TrustedProxies
from .websocket import ConnectionEnd, QuietLoop, data_frame, implied_end, quiet, received_close, send_close

log = logging.getLogger("mesa_ws.server")

CLOSE_TIMEOUT = 2.0
"""Seconds a client gets to answer a close frame before its connection is cut."""

BACKLOG = 4096

RESERVE = 32
"""Descriptors that are reserved for the backend, the dispatch API and other uses of the process."""

READ_BUFFER = 2048

TLS_BUFFER = 16 * 1024 + 64
"""Bytes that were received on a TLS connection, and that are sent; aiofastnet would take 16 times as many."""

HANDSHAKE_TIMEOUT = 10.0
"""Seconds a client gets for the handshakes of TLS and WebSocket together, from the accepted connection on."""

RETRY_AFTER = (1, 10)
"""Seconds, at least and at most, after which a client may try again that was refused by a limit."""

IMPATIENCE = 1.0
"""Seconds of waiting to be accepted after which a client may have gone; those that waited less are let in."""

HIGH_WATER = 1024 * 1024
"""Bytes waiting for a client above which it counts as slow, unless `max_buffered` is less."""

WRITE_COST = 128
"""Bytes of memory that a frame in the buffer of a socket takes besides its own."""


class NativeTransport(WSListener):
    """One client's WebSocket; the `Transport` of its connection."""

    __slots__ = (
        "_closing",
        "_connection",
        "_feed",
        "_fragments",
        "_frames",
        "_is_congested",
        "_late_pong",
        "_listener",
        "_peer",
        "_written",
        "_ws",
        "is_cut",
        "remote_address",
        "write",
        "write_joined",
    )

    def __init__(self, listener: "NativeListener", feed: FrameFeed, remote_address: RemoteAddress) -> None:
        self._listener = listener
        self._feed = feed
        self.remote_address = remote_address
        self._ws: WSTransport
        self._connection: Connection
        self.write: Callable[[bytes], None]
        self.write_joined: Any
        self.is_cut: Callable[[], bool]
        self._fragments: Fragments | None = None
        self._frames = 0  # that were written since something waits, and their bytes
        self._written = 0
        self._late_pong: bytes | None = None  # the answer to a Ping for which no answer was sent yet
        self._is_congested = False
        self._closing: asyncio.TimerHandle | None = None
        self._peer: ConnectionEnd | None = None

    # Called by the connection.

    @property
    def buffered(self) -> int:
        """Bytes that the system has not accepted yet."""
        return self._ws.underlying_transport.get_write_buffer_size()

    @property
    def memory(self) -> int:
        """The same, with what the frames take besides: as many as there are on average in so many bytes."""
        size = self.buffered
        return size + size * self._frames * WRITE_COST // self._written if self._written else size

    def ping(self, payload: bytes = b"") -> None:
        """Send a Ping, unless the client has gone."""
        if not self.is_cut():
            self._ws.send_ping(payload)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame and wait a little for the client's."""
        if self._closing is not None:
            return
        send_close(self._ws, code, reason)
        self._fragments = None
        loop = asyncio.get_running_loop()
        self._closing = loop.call_later(CLOSE_TIMEOUT, self._ws.disconnect, False)

    def hold_back(self) -> None:
        """Count the client as too slow until it has read what waits."""
        self._is_congested = True
        self._connection.congested()

    def pause_reading(self) -> None:
        """Stop reading the socket, and make TCP check whether the client is still connected."""
        if not self._ws.is_disconnected:
            self._feed.hold()
            self._limit_silence(self._listener.silence_limit)

    def resume_reading(self) -> None:
        """Read the socket again."""
        if not self._ws.is_disconnected:
            self._limit_silence(0)
            self._feed.release()

    def peer_state(self) -> PeerState:
        """Return whether the client is still connected, without reading."""
        if self._ws.is_disconnected:
            return PeerState.GONE
        return peer_state(self._socket.fileno())

    def cut(self) -> None:
        """End the connection at once."""
        self._ws.disconnect(False)

    # Called by picows.

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Make the connection, since the handshake is done."""
        self._ws = transport
        self.write, self.write_joined = self._writers()  # a message to everybody spends its time here
        self.is_cut = transport.underlying_transport.is_closing
        self._connection = self._listener.connected(self, transport)
        transport.underlying_transport.set_write_buffer_limits(high=0)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Pass a frame to the connection; after a close frame was sent, only the client's counts."""
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._violated(Violation(CloseCode.PROTOCOL_ERROR, "reserved bits without an extension"))
        elif kind == WSMsgType.CLOSE:
            self._closed_by_peer(frame)
        elif self._closing is not None:
            return
        elif kind == WSMsgType.PING:
            self._connection.heard()
            self._answer_ping(frame.get_payload_as_bytes())
        elif kind == WSMsgType.PONG:
            self._connection.ponged(frame.get_payload_as_bytes())
        elif frame.fin and self._fragments is None and kind != WSMsgType.CONTINUATION:
            self._connection.receive(frame.get_payload_as_bytes())
        else:
            self._join(frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """End the connection, whose socket is closed: with the close frame of the client, if it sent one."""
        if self._closing is not None:
            self._closing.cancel()
        code, reason = self._peer or implied_end(transport)
        self._listener.disconnected(self, self._connection)
        self._connection.lost(code, reason)
        self.write = partial(transport.send, WSMsgType.TEXT)  # a method of this would keep it in a cycle
        del self._connection  # it refers to this transport; so both are freed at once

    def _answer_ping(self, payload: bytes) -> None:
        """Send a Pong; while something waits for the client, for the newest Ping only (section 5.5.3).

        Pongs that wait take much more memory than their two bytes.
        """
        self._late_pong = payload
        if not self.buffered:
            self._send_late_pong()

    def _send_late_pong(self) -> None:
        if self._late_pong is not None and self._closing is None and not self.is_cut():
            self._ws.send_pong(self._late_pong)
        self._late_pong = None

    def pause_writing(self) -> None:
        """Count what waits from now on, as the system does not accept all at once."""
        self._write_by(self._write_and_count)
        self._count()

    def resume_writing(self) -> None:
        """The client has read what waited; or most of it, if that was too much."""
        self._write_by(*self._writers())
        if not self.buffered:
            self._frames = self._written = 0
        self._send_late_pong()
        if self._is_congested:
            self._is_congested = False
            self._ws.underlying_transport.set_write_buffer_limits(high=0)  # calls `pause_writing` for a rest
            if self._closing is None:
                self._connection.relieved()
        self._connection.send_queue.recount()

    def _writers(self) -> tuple[Callable[[bytes], None], Any]:
        joined = self._ws.underlying_transport.write if self._listener.joins_frames else None
        return partial(self._ws.send, WSMsgType.TEXT), joined

    def _write_by(self, write: Callable[[bytes], None], joined: Any = None) -> None:
        before, self.write, self.write_joined = self.write, write, joined
        self._connection.send_queue.reroute(before, write)

    def _write_and_count(self, payload: bytes) -> None:
        self._ws.send(WSMsgType.TEXT, payload)
        self._frames += 1
        self._written += len(payload)
        self._send_late_pong()
        self._count()

    def _count(self) -> None:
        """Tell the connection that more waits, and whether that is too much."""
        high = self._listener.high_water
        if not self._is_congested and self._closing is None and self.buffered > high:
            self._ws.underlying_transport.set_write_buffer_limits(high=high)
            self.hold_back()
        self._connection.send_queue.recount()

    @property
    def _socket(self) -> Any:
        return self._ws.underlying_transport.get_extra_info("socket")

    def _limit_silence(self, seconds: float) -> None:
        if self._listener.silence_limit:
            with suppress(OSError):  # the connection has just ended; reading will tell
                limit_silence(self._socket, seconds)

    def _join(self, frame: WSFrame) -> None:
        if self._fragments is None:
            self._fragments = self._listener.fragments()
        try:
            message = self._fragments.add(data_frame(frame))
        except Violation as violation:
            self._violated(violation)
            return
        if message is None:
            self._connection.received_part(self._fragments.size)
        else:
            self._fragments = None
            self._connection.receive(message)

    def _violated(self, violation: Violation) -> None:
        self._connection.obey(Close(violation.code, violation.why))

    def _closed_by_peer(self, frame: WSFrame) -> None:
        try:
            self._peer = received_close(frame)
        except Violation as violation:
            self._violated(violation)
        else:
            self.close(*self._peer)
        self._ws.disconnect()


WEBSOCKET_VERSION = "13"

_TARGET = re.compile(rb"/[^\x00-\x20\x7f#]*")
"""A path in origin form, with a query or without (RFC 9112 section 3.2.1); bytes above 127 are let pass."""

_KEY = re.compile("[A-Za-z0-9+/]{22}==")
"""16 bytes in base64 (RFC 6455 section 4.1)."""

Answer = WSUpgradeResponseWithListener


def refusal(request: WSUpgradeRequest, path: str | None) -> Answer | None:
    """Return the answer to a request that cannot be upgraded; None for one that can, on `path` if given.

    These are the rules of RFC 6455 section 4.2.1 that picows leaves out. It reads no request but a GET of
    HTTP/1.1, and checks `Upgrade` and `Connection` itself.
    """
    if path is not None and request.path.partition(b"?")[0].decode("latin-1") != path:
        return refuse(HTTPStatus.BAD_REQUEST)
    if "upgrade" not in request.headers:
        return refuse(HTTPStatus.UPGRADE_REQUIRED, {"Upgrade": "websocket"})
    if request.headers.getall("Sec-WebSocket-Version", []) != [WEBSOCKET_VERSION]:
        return refuse(HTTPStatus.BAD_REQUEST, {"Sec-WebSocket-Version": WEBSOCKET_VERSION})
    host, key = (request.headers.getall(name, []) for name in ("Host", "Sec-WebSocket-Key"))
    if not (
        _TARGET.fullmatch(request.path)
        and (len(host), len(key)) == (1, 1)
        and host[0]
        and _KEY.fullmatch(key[0])
        and request.headers.get("Sec-WebSocket-Protocol", "").isascii()  # picows cannot write it otherwise
    ):
        return refuse(HTTPStatus.BAD_REQUEST)
    return None


def accept(request: WSUpgradeRequest, listener: WSListener) -> Answer:
    """Upgrade to a WebSocket with the first subprotocol that the client offers."""
    options: list[str] = ",".join(request.headers.getall("connection", [])).lower().split(",")
    if "upgrade" in (option.strip() for option in options):  # Firefox: `keep-alive, Upgrade`
        request.headers["Connection"] = "upgrade"
    offered = request.headers.get("sec-websocket-protocol", "").split(",")[0].strip()
    extra = {"Sec-WebSocket-Protocol": offered} if offered else None
    return Answer(WSUpgradeResponse.create_101_response(extra), listener)


def decoded(headers: Any) -> Any:
    """Decode the values of header fields as Latin-1, like the path: each byte is one character.

    picows decodes bytes above 127 as lone surrogates, which neither JSON nor a log can hold.
    """
    if all(value.isascii() for value in headers.values()):
        return headers
    return type(headers)(
        (name, value.encode("ascii", "surrogateescape").decode("latin-1")) for name, value in headers.items()
    )


def without_body(answer: Answer) -> Answer:
    """Return the answer to a HEAD, for the answer to a GET."""
    response: Any = answer.response
    if response.body:
        response.headers["Content-Length"] = str(len(response.body))
        response.body = None
    return answer


def refuse(status: HTTPStatus, headers: dict[str, str] | None = None) -> Answer:
    """Return an answer without a WebSocket."""
    response: Any = WSUpgradeResponse.create_error_response(status, status.phrase.encode(), headers)
    return Answer(response, None)


_TOO_LATE = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: %d\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


def _retry_after() -> int:
    return random.randint(*RETRY_AFTER)  # noqa: S311 - spreads load


class _HostAndPort(Settings, frozen=True, kw_only=True):
    _prefix: ClassVar[str] = ""
    host: Hosts
    port: Port


class NativeListener:
    """Listens for WebSockets and hands them to a node.

    Args:
        node: the node that gets the connections.
        path: the only path that is upgraded, compared exactly and without its query; None for all.
    """

    transport_type = NativeTransport

    def __init__(self, node: Node, path: str | None = None) -> None:
        if path is not None and not path.startswith("/"):
            raise InvalidSettings("path", "a path that starts with /, such as /ws", path)
        self._node = node
        self._path = plain(path)
        self._limits = node.settings.limits
        self._logger = quiet("server")
        proxies = node.settings.trusted_proxies
        self._proxies = TrustedProxies(proxies, node.settings.proxy_header) if proxies else None
        self._browser_client = BrowserClient()
        self.high_water = min(HIGH_WATER, self._limits.max_buffered // 2)
        self.joins_frames = self.high_water >= JOINED_BYTES
        self._open: set[NativeTransport] = set()
        keepalive = node.settings.keepalive
        self._keepalive = keepalive if keepalive.enabled else None
        self.silence_limit = keepalive.interval + keepalive.timeout if keepalive.enabled else 0.0
        self._acceptor: Acceptor | None = None
        self._ssl: SSLContext | None = None
        self._all_gone = asyncio.Event()
        self._room = memoryview(bytearray(READ_AT_ONCE))

    async def start(self, host: HostOrHosts, port: int, ssl: SSLContext | None) -> list[RemoteAddress]:
        """Listen; return the addresses and the port of all of them, also where `port` is 0."""
        where = _HostAndPort.of({"host": host, "port": port})
        self._ssl = ssl
        listeners = await listen(where.host, port, backlog=BACKLOG)
        if self._keepalive is not None:
            for listener in listeners:
                probe_silent_peers(listener, self._keepalive)
        self._acceptor = Acceptor(
            listeners,
            self._arrive,
            who="clients",
            reserve=RESERVE,
            most=self._limits.max_handshakes,
            pace=self._limits.max_handshakes_per_second or float("inf"),
            is_busy=self._is_busy,
        )
        self._acceptor.start()
        return [listener.getsockname()[:2] for listener in listeners]

    def stop_accepting(self) -> None:
        """Stop listening, and drop connections that are not upgraded yet."""
        if self._acceptor is not None:
            self._acceptor.close()

    async def wait_closed(self) -> None:
        """Wait until every socket is closed; each one is cut `CLOSE_TIMEOUT` after its close frame."""
        if self._acceptor is not None:
            await self._acceptor.wait_closed()
        if self._open:
            self._all_gone.clear()
            await self._all_gone.wait()

    @property
    def has_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self._ssl is not None

    def fragments(self) -> Fragments:
        """Return a joiner for the fragments of one connection's messages."""
        return Fragments(self._limits.max_message, self._limits.max_fragments)

    def connected(self, transport: NativeTransport, ws: WSTransport) -> Connection:
        """Give a socket whose handshake is done to the node, as a connection."""
        self._open.add(transport)
        target, headers = ws.request.path.decode("latin-1"), decoded(ws.request.headers)
        connection = self._node.connect(transport, target, headers, transport.remote_address)
        self._node.connection_limits.opened(connection, transport.remote_address[0])
        return connection

    def disconnected(self, transport: NativeTransport, connection: Connection) -> None:
        """Forget a socket."""
        self._open.discard(transport)
        self._node.connection_limits.closed(connection, transport.remote_address[0])
        if not self._open:
            self._all_gone.set()

    def _is_busy(self) -> bool:
        return self._node.loop_lag.is_high or bool(self._node.logins.waiting)

    def _is_in_time(self, connection: socket.socket, address: str) -> bool:
        """Whether a client that was just accepted can be served before it gives up; if not, refuse it."""
        waited, limits = seconds_waited(connection), self._node.connection_limits
        if waited < IMPATIENCE:
            return True
        if peer_state(connection.fileno()) is not PeerState.PRESENT:
            limits.dropped["handshake"] += 1
            return False
        if waited < self._limits.max_wait:
            return True
        limits.refuse(WAIT, address)
        if self._ssl is None:
            with suppress(OSError):
                connection.recv(READ_AT_ONCE)  # with a request unread, the answer might not arrive
                connection.send(_TOO_LATE % _retry_after())
        return False

    async def _arrive(self, connection: socket.socket) -> None:
        """Perform the handshakes of a connection, unless it is too late, or a limit does not allow it."""
        peer: RemoteAddress = connection.getpeername()[:2]
        if not self._is_in_time(connection, peer[0]):
            connection.close()
            return
        address = None if self._proxies is not None and self._proxies.trusts(peer[0]) else peer[0]
        limits = self._node.connection_limits
        limit = limits.begin_handshake(address)
        if limit is not None:
            limits.refuse(limit, address)
            connection.close()
            return
        try:
            await self._perform_handshakes(connection, peer)
        finally:
            limits.end_handshake(address)

    async def _perform_handshakes(self, connection: socket.socket, peer: RemoteAddress) -> None:
        """Perform the handshakes of a connection: TLS, then WebSocket; both have one deadline."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HANDSHAKE_TIMEOUT
        tls: dict[str, Any] = {}
        if self._ssl is not None:
            tls = {"ssl": self._ssl, "ssl_handshake_timeout": HANDSHAKE_TIMEOUT}
            tls |= dict.fromkeys(("ssl_incoming_bio_size", "ssl_outgoing_bio_size"), TLS_BUFFER)
        make = partial(self._protocol, peer)
        transport, feed = await aiofastnet.connect_accepted_socket(
            QuietLoop(loop) if tls else loop,  # type: ignore[arg-type]
            lambda: FrameFeed(make, self._room, self._limits.max_message, self._hand_over),
            connection,
            **tls,
        )
        if transport.is_closing() or feed.is_handed_over:
            return
        try:
            async with asyncio.timeout_at(deadline):
                await feed.protocol.wait_until_handshake_complete()
        except TimeoutError:
            transport.abort()
        except asyncio.CancelledError:
            transport.abort()
            raise

    def _hand_over(self, transport: asyncio.Transport, data: bytes) -> bool:
        """Give a connection to another service on this port, if that answers its first request."""
        others = self._node.other_requests
        path = None if others is None else plain_path(data)
        if others is None or path is None or not others.answers(path):
            return False
        protocol: Any = others.protocol(transport, self._take_back)
        transport.set_protocol(protocol or asyncio.Protocol())  # what comes of a refused one is dropped
        if protocol is not None:
            protocol.connection_made(transport)
            protocol.data_received(data)
        return True

    def _take_back(self, transport: asyncio.Transport, head: bytes) -> None:
        """Take a connection with a request for us, which a proxy had used for other requests before."""
        make = partial(self._protocol, transport.get_extra_info("peername")[:2])
        FrameFeed(make, self._room, self._limits.max_message, self._hand_over).begin(transport, head)

    def _protocol(self, peer: RemoteAddress, feed: FrameFeed) -> WSProtocol:
        # What picows' own `ws_create_server` does for a connection that it accepts itself.
        return WSProtocol(
            host_port=None,
            ws_path=None,
            is_client_side=False,
            ws_listener_factory=partial(self._answer, peer, feed),
            logger=self._logger,
            disconnect_on_exception=True,
            websocket_handshake_timeout=None,
            enable_auto_ping=False,
            auto_ping_idle_timeout=0,
            auto_ping_reply_timeout=0,
            auto_ping_strategy=WSAutoPingStrategy.PING_WHEN_IDLE,
            enable_auto_pong=False,
            max_frame_size=self._limits.max_message,
            extra_headers=None,
            read_buffer_init_size=READ_BUFFER,
        )

    def _answer(self, peer: RemoteAddress, feed: FrameFeed, request: WSUpgradeRequest) -> Answer:
        file = None if "upgrade" in request.headers else self._browser_client.answer(request)
        if feed.is_head:
            return without_body(file or refuse(HTTPStatus.BAD_REQUEST))
        if not self._node.is_running:
            return refuse(HTTPStatus.SERVICE_UNAVAILABLE)
        refused = file or refusal(request, self._path)
        if refused is None and self._node.origins.refuse(request.headers):
            refused = refuse(HTTPStatus.FORBIDDEN)
        return refused or self._admit(peer, feed, request)

    def _admit(self, peer: RemoteAddress, feed: FrameFeed, request: WSUpgradeRequest) -> Answer:
        """Upgrade a valid request, unless a limit of connections is reached."""
        limits = self._node.connection_limits
        client = peer if self._proxies is None else self._proxies.client_of(peer, request.headers)
        if client is None:
            self._node.handlers.log.warning("a trusted proxy names no address of its client; its own counts")
        limit = limits.reached((client or peer)[0])
        if limit is None:
            return accept(request, self.transport_type(self, feed, client or peer))
        limits.refuse(limit, (client or peer)[0])
        return refuse(HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": str(_retry_after())})

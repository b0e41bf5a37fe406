"""A client's WebSocket on picows: frames, back-pressure and the closing handshake.

What picows leaves to its user is decided here: fragments (RFC 6455 section 5.4), reserved bits
(5.2), Pings (5.5.2) and the closing handshake (7.1).
"""

import asyncio
import logging
from typing import Any, NamedTuple, Protocol

from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport

from ..client_settings import ClientLimits
from ..close import CloseCode, check_close
from ..concurrency.tasks import start
from ..errors import InvalidInput
from ..session import Fragments, Violation
from ..session.fragments import DataFrame

log = logging.getLogger("mesa_ws.client")

LINGER = 1.0
"""Seconds the server has to end the TCP connection once both sides have said goodbye."""


class Ended(NamedTuple):
    """How a connection ended.

    Attributes:
        code: the code of the first close frame, ours or the server's; 1006 if there was none.
        reason: its reason, or why we closed.
    """

    code: int
    reason: str


class Peer(Protocol):
    """Whom a wire reports to. Called in the event loop; nothing here waits."""

    def opened(self, wire: "Wire") -> None:
        """The handshake is done. Comes first."""

    def message(self, payload: bytes) -> None:
        """A whole message came."""

    def heard(self) -> None:
        """A control frame, or a part of a message, came."""


class Wire(WSListener):
    """One WebSocket. For the event loop that opened it only.

    Attributes:
        ended: done when nothing is left of the connection.
    """

    ended: "asyncio.Task[Ended]"

    def __init__(self, peer: Peer, limits: ClientLimits) -> None:
        self._peer = peer
        self._limits = limits
        self._fragments = Fragments(limits.max_message, limits.max_fragments)
        self._transport: WSTransport
        self._goodbye: Ended | None = None
        self._cut: asyncio.TimerHandle | None = None
        self._has_room = asyncio.Event()
        self._has_room.set()

    @property
    def is_open(self) -> bool:
        """Whether what is written can still reach the server."""
        transport = self._transport
        return not (self._goodbye or transport.is_close_frame_sent or transport.is_disconnected)

    @property
    def ending(self) -> Ended:
        """How the connection ended, or will, as far as is known; sensible once it is not open."""
        return self._goodbye or _verdict(self._transport)

    @property
    def is_congested(self) -> bool:
        """Whether the socket takes no more, so that what is written piles up in memory."""
        return not self._has_room.is_set()

    async def drained(self) -> None:
        """Wait until the socket takes more, or the connection ends."""
        await self._has_room.wait()

    def write(self, payload: bytes) -> None:
        """Send a text frame; does nothing when the wire is not open."""
        if self.is_open:
            self._transport.send(WSMsgType.TEXT, payload)

    def ping(self) -> None:
        """Send a Ping frame; does nothing when the wire is not open."""
        if self.is_open:
            self._transport.send_ping()

    def close(self, code: int, reason: str, *, patience: float | None = None) -> None:
        """Send a close frame, if none was sent or received; what still comes is dropped.

        Args:
            code: for the frame; 1005 sends an empty one.
            reason: for `ended`; it stays on this side.
            patience: seconds until the connection is cut, however little the server has said.
        """
        if self.is_open:
            self._say_goodbye(Ended(int(code), reason))
        self._cut_after(self._limits.close_timeout if patience is None else patience)

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.disconnect(False)

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`, or until the wire is closed."""
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
        """A frame came."""
        try:
            self._take(frame)
        except Violation as violation:
            log.warning("the server broke a rule: %s", violation.why)
            self.close(violation.code, violation.why)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The socket is gone."""
        if self._cut is not None:
            self._cut.cancel()
        self._has_room.set()

    def pause_writing(self) -> None:
        """The socket takes no more."""
        self._has_room.clear()

    def resume_writing(self) -> None:
        """The socket takes more."""
        self._has_room.set()

    def _take(self, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self._closed_by_server(frame.get_payload_as_bytes())
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
            self._join(kind == WSMsgType.CONTINUATION, frame)

    def _join(self, is_continuation: bool, frame: WSFrame) -> None:
        message = self._fragments.add(
            DataFrame(is_continuation, bool(frame.fin), frame.get_payload_as_bytes())
        )
        if message is None:
            self._peer.heard()
        else:
            self._peer.message(message)

    def _closed_by_server(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2]) if payload else CloseCode.NO_STATUS.value
        if not _may_be_received(code, payload):
            raise Violation(CloseCode.PROTOCOL_ERROR, f"a close frame with the code {code}")
        if self._goodbye is None:
            self._say_goodbye(Ended(code, payload[2:].decode()))
        self._cut_after(LINGER)

    def _say_goodbye(self, goodbye: Ended) -> None:
        if goodbye.code == CloseCode.NO_STATUS:
            self._transport.send(WSMsgType.CLOSE, b"")
        else:
            # Its annotation names an enumeration; what it takes is any close code.
            self._transport.send_close(goodbye.code)  # type: ignore[arg-type]
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

    async def _watch(self) -> Ended:
        try:
            await self._transport.wait_disconnected()
        except WSError as error:
            log.warning("the server broke a rule of WebSockets: %s", error)
        except Exception:
            log.exception("a bug in the client ended its connection")
        return self.ending


def _may_be_received(code: int, payload: bytes) -> bool:
    try:
        check_close(code, "")
    except InvalidInput:
        return False
    return code != CloseCode.NO_STATUS or not payload


def _verdict(transport: WSTransport) -> Ended:
    """How a connection ended that nobody closed: picows found a broken frame, or it was cut."""
    handshake: Any = transport.close_handshake
    if handshake is None or handshake.sent is None:
        return Ended(CloseCode.ABNORMAL.value, "")
    return Ended(int(handshake.sent.code), handshake.sent.reason or "")

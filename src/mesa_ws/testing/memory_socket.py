"""A WebSocket in memory between the ends that sockets have, too: `NativeTransport` and `ClientSocket`.

Frames go to the other end in the next turn of the event loop, in order. Nothing is encoded, masked or cut
into pieces; all else is the code of real connections: the rules of the handshake, limits, Pings, closing.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from itertools import count
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from multidict import CIMultiDict
from picows import WSListener, WSMsgType, WSTransport, WSUpgradeRequest

from ..close import CloseCode
from ..concurrency.clock import unix_time
from ..server.node import Node
from ..server.send_queue import PeerState
from ..settings import ClientLimits
from ..transports.client_socket import ClientSocket, Peer, ServerAddress, failure, read_retry_after
from ..transports.frame_feed import FRAMES_AT_ONCE, FrameFeed
from ..transports.server_socket import NativeListener, NativeTransport

ROOM = 64 * 1024
"""Bytes that the other end may have unread before frames count as waiting, as in the buffers of a system."""


_TOO_BIG = b"Received frame with payload size exceeding max allowed size, %d > %d"
"""The words of picows."""


class Frame(NamedTuple):
    """A frame, with what is read of picows' `WSFrame`."""

    msg_type: WSMsgType
    payload: bytes
    fin: bool = True
    rsv1: bool = False
    rsv2: bool = False
    rsv3: bool = False

    def get_payload_as_bytes(self) -> bytes:
        """Return the payload."""
        return self.payload


class MemoryEnd:
    """One end: stands in for picows' `WSTransport`, the transport below it, and the server's `FrameFeed`.

    Args:
        max_frame: bytes of a frame beyond which the connection is closed with 1009.
        request: the handshake.

    Attributes:
        other: the other end.
        request: as given.
        is_disconnected: whether nothing can be sent any more.
        is_close_frame_sent: whether this end has sent its close frame.
        close_handshake: with that frame as its `sent`; None before.
        is_head: always False: the handshake is no HEAD.
    """

    is_head = False

    def __init__(self, max_frame: int, request: "Handshake") -> None:
        self.other: MemoryEnd
        self.request = request
        self.is_disconnected = False
        self.is_close_frame_sent = False
        self.close_handshake: SimpleNamespace | None = None
        self._listener: WSListener
        self._loop = asyncio.get_running_loop()
        self._max_frame = max_frame
        self._arrived: deque[Frame | None] = deque()
        self._size = 0
        self._is_held = False
        self._turn: asyncio.Handle | None = None
        self._high = 0
        self._is_full = False
        self._gone: asyncio.Future[None] = self._loop.create_future()

    def begin(self, listener: WSListener) -> None:
        """Begin, after the handshake."""
        self._listener = listener
        listener.on_ws_connected(cast("WSTransport", self))

    # `WSTransport`.

    @property
    def underlying_transport(self) -> "MemoryEnd":
        """The transport below."""
        return self

    def send(self, kind: WSMsgType, payload: bytes) -> None:
        """Send a frame."""
        if kind == WSMsgType.CLOSE:
            self._note_close(CloseCode.NO_STATUS, "")
        if not self.is_disconnected:
            self.other._take(Frame(kind, bytes(payload)))
            self._count()

    def send_ping(self, payload: bytes = b"") -> None:
        """Send a Ping."""
        self.send(WSMsgType.PING, payload)

    def send_pong(self, payload: bytes = b"") -> None:
        """Send a Pong."""
        self.send(WSMsgType.PONG, payload)

    def send_close(self, code: int, reason: bytes | None = None) -> None:
        """Send a close frame."""
        self.send(WSMsgType.CLOSE, int(code).to_bytes(2) + (reason or b""))
        self._note_close(int(code), (reason or b"").decode())

    def disconnect(self, graceful: bool = True) -> None:
        """End the connection; the other end still gets what was sent."""
        if not self.is_disconnected:
            self.other._take(None)
            self._end()

    async def wait_disconnected(self) -> None:
        """Wait for the end of the connection."""
        await asyncio.shield(self._gone)

    # The transport below.

    def get_write_buffer_size(self) -> int:
        """Return the bytes that wait because the other end does not read."""
        return max(0, self.other._size - ROOM) if not self.is_disconnected else 0

    def set_write_buffer_limits(self, high: int) -> None:
        """Set how many bytes may wait before writing pauses; a quarter of them when it goes on."""
        self._high = high
        self._count()

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.is_disconnected

    def pause_reading(self) -> None:
        """Take no frames."""
        self._is_held = True

    def resume_reading(self) -> None:
        """Take frames again."""
        self._is_held = False
        self._schedule()

    # `FrameFeed`.

    hold = pause_reading
    release = resume_reading

    # From the other end.

    def _take(self, frame: Frame | None) -> None:
        if not self.is_disconnected:
            self._arrived.append(frame)
            self._size += len(frame.payload) if frame else 0
            self._schedule()

    def _schedule(self) -> None:
        if self._turn is None and self._arrived and not self._is_held:
            self._turn = self._loop.call_soon(self._work)

    def _work(self) -> None:
        self._turn = None
        for _ in range(FRAMES_AT_ONCE):
            if not self._arrived or self._is_held:
                return
            frame = self._arrived.popleft()
            if frame is None:
                self._end()
                return
            self._size -= len(frame.payload)
            self.other._go_on()
            if (size := len(frame.payload)) > self._max_frame:
                self.send_close(CloseCode.TOO_BIG, _TOO_BIG % (size, self._max_frame))
                self.disconnect()
                return
            self._listener.on_ws_frame(cast("WSTransport", self), cast("Any", frame))
        self._schedule()

    def _count(self) -> None:
        if not self._is_full and self.get_write_buffer_size() > self._high:
            self._is_full = True
            self._listener.pause_writing()

    def _go_on(self) -> None:
        if self._is_full and self.get_write_buffer_size() <= self._high // 4:
            self._is_full = False
            self._listener.resume_writing()

    def _note_close(self, code: int, reason: str) -> None:
        self.is_close_frame_sent = True
        self.close_handshake = SimpleNamespace(sent=SimpleNamespace(code=code, reason=reason))

    def _end(self) -> None:
        self.is_disconnected = True
        self._arrived.clear()
        self._size = 0
        self._loop.call_soon(self._ended)

    def _ended(self) -> None:
        self._gone.set_result(None)
        self._listener.on_ws_disconnected(cast("WSTransport", self))


class Handshake:
    """A request, with what is read of picows' `WSUpgradeRequest`.

    Attributes:
        path: path and query.
        headers: the header fields.
    """

    def __init__(self, target: str, headers: Mapping[str, str]) -> None:
        self.path = target.encode("latin-1", "replace")
        self.headers: CIMultiDict[str] = CIMultiDict(headers)
        for name, value in _UPGRADE.items():
            self.headers.setdefault(name, value)


_UPGRADE = {
    "Host": "testserver",
    "Upgrade": "websocket",
    "Connection": "upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


class _MemoryTransport(NativeTransport):
    """`NativeTransport` without a socket."""

    __slots__ = ()

    def peer_state(self) -> PeerState:
        return PeerState.GONE if self.is_cut() else PeerState.PRESENT

    def _limit_silence(self, seconds: float) -> None:
        """TCP does this elsewhere."""


class MemoryListener(NativeListener):
    """Hands WebSockets in memory to a node.

    Args:
        node: the node that gets the connections.
        path: as in `NativeListener`.
    """

    transport_type = _MemoryTransport

    def __init__(self, node: Node, path: str | None = None) -> None:
        super().__init__(node, path)
        self.joins_frames = False
        self._ports = count(1)

    def open(self, address: "MemoryAddress", peer: Peer, limits: ClientLimits) -> ClientSocket:
        """Open a WebSocket; see `MemoryAddress.connect`."""
        handshake = Handshake(address.target, address.headers)
        client = MemoryEnd(limits.max_message, handshake)
        server = MemoryEnd(self._limits.max_message, handshake)
        client.other, server.other = server, client
        where, request = ("127.0.0.1", next(self._ports)), cast("WSUpgradeRequest", handshake)
        answer: Any = self._answer(where, cast("FrameFeed", server), request)
        if answer.listener is None:
            status = answer.response.status
            retry_after = read_retry_after(answer.response.headers.get("Retry-After"), unix_time())
            problem = f"expected a WebSocket, got {status.value} {status.phrase}"
            raise failure(address, problem, retry_after)
        websocket = ClientSocket(peer, limits)
        client.begin(websocket)
        server.begin(answer.listener)
        return websocket


class MemoryAddress(ServerAddress):
    """The address of a server in memory.

    Attributes:
        listener: of that server.
        target: path and query.
    """

    listener: MemoryListener
    target: str

    @classmethod
    def at(cls, listener: MemoryListener, target: str, headers: Mapping[str, str] | None) -> "MemoryAddress":
        """Return an address; see `Client` for the errors."""
        address = cls.of(f"ws://testserver{target}", headers, None)
        address.listener, address.target = listener, target
        return address

    async def connect(self, peer: Peer, limits: ClientLimits) -> ClientSocket:
        """Open a WebSocket.

        Raises:
            ConnectFailed: the server refuses it.
        """
        return self.listener.open(self, peer, limits)

"""One client's WebSocket over ASGI: the `Transport` of its connection, on `receive` and `send`.

Sending over ASGI waits for the client; what writes to a connection must not. So frames go into a queue,
which a task of each connection empties:

    Connection ──write──▶ queue ──writer, one frame after another──▶ send
    Connection ◀─────────────── reader, unless it is paused ──────── receive

A frame that the writer could send at once has never waited, as on a socket that takes all. Frames that still
wait when the writer has had its turn count, for the same limits as natively: `limits.max_buffered` and
`limits.max_node_buffer`. What the WebSocket server itself buffers, a frame and some 64 KiB, is not seen here.

ASGI has no Pings, no fragments and no way to cut a connection. A sign of life is asked for with op 1, whose
answer every client of Mesa sends (spec section 9).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from ..close import CloseCode
from ..concurrency.tasks import end, start
from ..protocol.events import Close
from ..server.connection import Connection
from ..server.send_queue import FRAME_COST, PeerState

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

log = logging.getLogger("mesa_ws.server")

CLOSE_TIMEOUT = 2.0
"""Seconds in which a client has to read what it was sent before its close frame; then it is cut."""

MESSAGES_AT_ONCE = 32
"""Messages of one client that are handled before the event loop does other work."""

WRITERS_AT_ONCE = 64
"""Writers that begin in one turn of the event loop, some 15 us each; a message may go to all connections."""


class WriterTurns:
    """Wakes the writers of all connections, in order, and some in each turn of the event loop."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    def wake(self, writer: "asyncio.Future[None]") -> None:
        """Wake a writer in its turn."""
        self._waiting.append(writer)
        if len(self._waiting) == 1:
            writer.get_loop().call_soon(self._wake_some)

    def _wake_some(self) -> None:
        for _ in range(min(WRITERS_AT_ONCE, len(self._waiting))):
            writer = self._waiting.popleft()
            if not writer.done():
                writer.set_result(None)
        if self._waiting:
            self._waiting[0].get_loop().call_soon(self._wake_some)


class AsgiTransport:
    """One client's WebSocket, which was accepted; the `Transport` of its connection.

    Args:
        turns: of the writers of all connections.
        max_message: bytes of the largest message.
    """

    __slots__ = (
        "_close",
        "_connection",
        "_frames",
        "_high_water",
        "_is_behind",
        "_is_congested",
        "_is_cut",
        "_is_idle",
        "_limit",
        "_max_message",
        "_peer",
        "_resumed",
        "_size",
        "_turns",
        "_wake",
    )

    def __init__(self, turns: WriterTurns, max_message: int) -> None:
        self._turns = turns
        self._high_water = float("inf")  # until there is a connection
        self._max_message = max_message
        self._connection: Connection
        self._limit = asyncio.timeout(None)  # of the reader; it ends the connection
        self._frames: deque[bytes] = deque()
        self._size = 0  # bytes of the frames
        self._wake = asyncio.get_running_loop().create_future()  # the writer waits for it
        self._is_idle = True  # whether the writer waits, and will not be woken yet
        self._is_behind = False  # whether frames have waited longer than the writer's turn
        self._is_congested = False
        self._is_cut = False
        self._close: tuple[int, str] | None = None
        self._peer = (CloseCode.ABNORMAL.value, "")
        self._resumed: asyncio.Future[None] | None = None  # where reading is paused

    # Called by the connection.

    write_joined = None  # ASGI takes single messages

    @property
    def buffered(self) -> int:
        """Bytes that the client has not read in time."""
        return self._size if self._is_behind else 0

    @property
    def memory(self) -> int:
        """The same, with what the frames take besides."""
        return self._size + len(self._frames) * FRAME_COST if self._is_behind else 0

    def is_cut(self) -> bool:
        """Whether the client has gone."""
        return self._is_cut

    def write(self, payload: bytes) -> None:
        """Queue a text frame."""
        if self._is_cut or self._close is not None:
            return
        self._frames.append(payload)
        self._size += len(payload)
        self._rouse()
        if self._is_behind or self._size > self._high_water:
            self._is_behind = True
            self._count()

    def ping(self, payload: bytes = b"") -> None:
        """Do nothing: ASGI has no Pings, and the protocol sends none over it."""

    def close(self, code: int, reason: str) -> None:
        """Send what waits and a close frame; cut the connection if the client does not read them."""
        if self._close is None and not self._is_cut:
            # ASGI has no empty close frame, which 1005 stands for.
            self._close = (CloseCode.NORMAL if code == CloseCode.NO_STATUS else code, reason)
            self._rouse()
            self._end_in(CLOSE_TIMEOUT)

    def hold_back(self) -> None:
        """Count the client as too slow until it has read what waits."""
        self._is_behind = self._is_congested = True
        self._connection.congested()

    def pause_reading(self) -> None:
        """Receive nothing, until `resume_reading`."""
        if self._resumed is None:
            self._resumed = asyncio.get_running_loop().create_future()

    def resume_reading(self) -> None:
        """Receive again."""
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)
        self._resumed = None

    def peer_state(self) -> PeerState:
        """Return whether the client is still connected, as far as that was received."""
        return PeerState.GONE if self._is_cut else PeerState.PRESENT

    def cut(self) -> None:
        """End the connection at once, as far as the WebSocket server does."""
        self._is_cut = True
        self._frames.clear()
        self._size = 0
        self._end_in(0)

    # Called by the application.

    async def run(self, connection: Connection, high_water: int, receive: Receive, send: Send) -> None:
        """Serve the connection until it has ended.

        Args:
            connection: the connection.
            high_water: bytes waiting for a client above which it counts as slow.
            receive: as ASGI has it, like the next one.
            send: likewise.
        """
        self._connection, self._high_water = connection, high_water
        writer = start(self._write_all(send), name="mesa-asgi-writer")
        try:
            async with self._limit:
                await self._read_all(receive)
        except TimeoutError:
            pass  # this end has closed or cut the connection
        finally:
            self._is_cut = True
            end(writer)
            self._frames.clear()
            self._size = 0
            connection.lost(*self._peer)
            del self._connection  # it refers to this transport; so both are freed at once

    async def _read_all(self, receive: Receive) -> None:
        """Pass on what is received, until the client has gone."""
        read = 0
        while True:
            if self._resumed is not None:
                await self._resumed
                continue
            event = await receive()
            if event["type"] == "websocket.disconnect":
                self._peer = (event.get("code") or CloseCode.NO_STATUS.value, event.get("reason") or "")
                return
            self._pass(event)
            read += 1
            if read % MESSAGES_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _pass(self, event: Event) -> None:
        if self._close is not None or self._is_cut:
            return
        text = event.get("text")
        payload: bytes | None = event.get("bytes") if text is None else text.encode()
        if payload is None:
            self._connection.obey(Close(CloseCode.PROTOCOL_ERROR, "message without text and without bytes"))
            return
        if len(payload) > self._max_message:
            why = f"message of more than {self._max_message} bytes"
            self._connection.obey(Close(CloseCode.TOO_BIG, why))
            return
        try:
            self._connection.receive(payload)
        except Exception:
            log.exception("a bug in the server ended %r; the client may reconnect", self._connection)
            self._connection.obey(Close(CloseCode.INTERNAL_ERROR, "a bug in the server"))

    async def _write_all(self, send: Send) -> None:
        """Send what is queued, and the close frame; the reader learns of the end, or is ended."""
        loop = asyncio.get_running_loop()
        frames = self._frames
        try:
            while True:
                await self._wake
                while frames:
                    loop.call_soon(self._look)
                    while frames:
                        await send({"type": "websocket.send", "text": frames[0].decode()})
                        if frames:  # otherwise the connection was cut
                            self._size -= len(frames.popleft())
                    self._drained()
                if self._close is not None:
                    code, reason = self._close
                    await send({"type": "websocket.close", "code": int(code), "reason": reason})
                    self._end_in(0)
                    return
                self._wake, self._is_idle = loop.create_future(), True
        except Exception as error:  # noqa: BLE001 - servers raise what they like for a client that has gone
            log.debug("sending to a client failed: %r", error)
            self._is_cut = True
            self.resume_reading()
            self._end_in(CLOSE_TIMEOUT)

    def _rouse(self) -> None:
        if self._is_idle:
            self._is_idle = False
            self._turns.wake(self._wake)

    def _end_in(self, seconds: float) -> None:
        """End the reader, and with it the connection, unless it ends before."""
        with suppress(RuntimeError):  # it has ended
            self._limit.reschedule(asyncio.get_running_loop().time() + seconds)

    def _look(self) -> None:
        """Count what is left after the turn of the writer: the client does not read it in time."""
        if self._frames and not self._is_cut and not self._is_behind:
            self._is_behind = True
            self._count()

    def _count(self) -> None:
        """Tell the connection that more waits, and whether that is too much."""
        if self._size > self._high_water and not self._is_congested and self._close is None:
            self.hold_back()
        self._connection.send_queue.recount()

    def _drained(self) -> None:
        """Tell the connection that all was sent."""
        if not self._is_behind or self._is_cut:
            return
        self._is_behind = False
        if self._is_congested:
            self._is_congested = False
            if self._close is None:
                self._connection.relieved()
        self._connection.send_queue.recount()

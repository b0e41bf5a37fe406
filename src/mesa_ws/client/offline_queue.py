"""Send queue of a client: messages go to its connection, or are kept until there is one again."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from ..errors import QueueFull
from ..transports.client_socket import ClientSocket
from .connection import ClientConnection
from .event_queue import Ending

log = logging.getLogger("mesa_ws.client")


class OfflineQueue:
    """Sends messages in the order of the calls, each over one connection at most.

    Args:
        limit: messages that are kept while there is no connection.
        is_final: returns whether no other connection follows one that has ended.
    """

    def __init__(self, limit: int, is_final: Callable[[ClientConnection], bool]) -> None:
        self._limit = limit
        self._is_final = is_final
        self._kept: deque[bytes] = deque()
        self._connection: ClientConnection | None = None
        self._ending: Ending | None = None
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    def attach(self, connection: ClientConnection) -> None:
        """Send over `connection` from now on; `flush` sends the messages that were kept."""
        self._connection = connection
        self._changed.set()

    def detach(self) -> None:
        """Keep messages from now on."""
        self._connection = None

    def end(self, ending: Ending) -> None:
        """Send no more messages."""
        self._ending = ending
        self._connection = None
        self._changed.set()
        if self._kept:
            log.warning("%d messages were never sent, because the client has ended", len(self._kept))
            self._kept.clear()

    async def send(self, payload: bytes) -> None:
        """Send a message when the connection has room, or keep it while there is no connection.

        A call that is cancelled has sent nothing. See `Client.send` for errors.
        """
        async with self._turn:
            websocket = await self._ready_websocket()
            if websocket is not None:
                websocket.write(payload)
            else:
                self._keep(payload)

    async def next_in_line(self) -> ClientConnection:
        """Wait until a message would be sent at once, behind all messages sent before."""
        while True:
            async with self._turn:
                if await self._ready_websocket() is not None and self._connection is not None:
                    return self._connection
            if self._ending is not None:
                raise self._ending.error()
            self._changed.clear()
            await self._changed.wait()

    async def flush(self) -> None:
        """Send the messages that were kept, while there is a connection."""
        async with self._turn:
            await self._ready_websocket()

    async def _ready_websocket(self) -> ClientSocket | None:
        """Send the messages that were kept, and wait for room; return None if there is no connection."""
        while self._connection is not None and self._connection.websocket.is_open:
            websocket = self._connection.websocket
            if websocket.is_congested:
                await websocket.drained()
            elif self._kept:
                websocket.write(self._kept.popleft())
            else:
                return websocket
        return None

    def _keep(self, payload: bytes) -> None:
        if self._ending is not None:
            raise self._ending.error()
        if self._connection is not None and self._is_final(self._connection):
            raise self._connection.ending().error()
        if len(self._kept) >= self._limit:
            raise QueueFull(
                f"the client is away, and {self._limit} messages wait already; "
                "send later, or give the client a larger queue_size"
            )
        self._kept.append(payload)

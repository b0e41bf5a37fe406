"""A TCP proxy that injects network faults."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random

DEPTH = 100
"""Largest number of pieces under way; beyond it, the proxy stops reading."""

Piece = tuple[float, bytes]
"""Time to forward a piece, and its bytes; no bytes stand for the end."""


class Way:
    """One direction of a connection.

    Attributes:
        is_swallowing: whether received bytes are dropped.
        flows: cleared to stop forwarding for a while, without loss.
    """

    def __init__(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        self._source = source
        self._sink = sink
        self.is_swallowing = False
        self.flows = asyncio.Event()
        self.flows.set()

    def end(self) -> None:
        """Half-close: send an end in this direction, while the other one goes on."""
        self.is_swallowing = True
        with suppress(OSError, RuntimeError):
            self._sink.write_eof()

    async def pass_on(self, delay: Callable[[], float]) -> None:
        """Forward each piece `delay` seconds after its arrival, until the end."""
        pieces: asyncio.Queue[Piece] = asyncio.Queue(DEPTH)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take(pieces, delay))
            tasks.create_task(self._give(pieces))

    async def _take(self, pieces: "asyncio.Queue[Piece]", delay: Callable[[], float]) -> None:
        now = asyncio.get_running_loop().time
        data = b"anything"
        while data:
            data = await self._source.read(65536)
            await pieces.put((now() + delay(), data))

    async def _give(self, pieces: "asyncio.Queue[Piece]") -> None:
        now = asyncio.get_running_loop().time
        while True:
            due, data = await pieces.get()
            if due > now():
                await asyncio.sleep(due - now())
            await self.flows.wait()
            if not data:
                break
            if not self.is_swallowing:
                self._sink.write(data)
                await self._sink.drain()
        if not self.is_swallowing:
            self.end()


class Passage:
    """One connection through the proxy.

    Attributes:
        peer: address of the client.
        there: direction from the client to the target.
        back: direction from the target to the client.
    """

    def __init__(self, peer: str, there: Way, back: Way, *writers: asyncio.StreamWriter) -> None:
        self.peer = peer
        self.there = there
        self.back = back
        self._writers = writers

    async def run(self, delay: Callable[[], float]) -> None:
        """Forward both directions, until both have ended or the connection is cut."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.there.pass_on(delay))
                tasks.create_task(self.back.pass_on(delay))
        except* OSError:
            pass
        finally:
            self.cut()

    def cut(self) -> None:
        """Cut both directions."""
        for writer in self._writers:
            writer.transport.abort()


class Proxy:
    """Forwards each connection to one of several ports of 127.0.0.1, any that accepts.

    Args:
        dice: random numbers to choose the target.
        targets: ports.

    Attributes:
        port: port that it listens on.
        delay: seconds by which each piece is delayed, in both directions.
        is_down: whether connections are refused.
        barred: client address whose connections are refused, or empty.
        passages: the open connections.
    """

    def __init__(self, dice: Random, *targets: int) -> None:
        self._dice = dice
        self._targets = targets
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.delay = 0.0
        self.is_down = False
        self.barred = ""
        self.passages: set[Passage] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Proxy"]:
        """Listen until the end of the context."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    def some(self, dice: Random, share: float) -> Sequence[Passage]:
        """Return a part of the connections, at least one if any are open."""
        there_are = list(self.passages)
        return dice.sample(there_are, min(len(there_are), max(1, round(share * len(there_are)))))

    def cut(self) -> None:
        """Cut all connections."""
        for passage in list(self.passages):
            passage.cut()

    def bar(self, address: str) -> None:
        """Refuse connections from an address of this machine, and cut the present ones."""
        self.barred = address
        for passage in list(self.passages):
            if passage.peer == address:
                passage.cut()

    def heal(self) -> None:
        """Work normally again, and cut the connections that lost data."""
        self.is_down = False
        self.barred = ""
        self.delay = 0.0
        for passage in list(self.passages):
            passage.back.flows.set()
            if passage.back.is_swallowing or passage.there.is_swallowing:
                passage.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")[0]
        is_refused = self.is_down or peer == self.barred
        for target in () if is_refused else self._dice.sample(self._targets, len(self._targets)):
            with suppress(OSError):
                source, sink = await asyncio.open_connection("127.0.0.1", target)
                break
        else:
            writer.transport.abort()
            return
        passage = Passage(peer, Way(reader, sink), Way(source, writer), writer, sink)
        self.passages.add(passage)
        try:
            await passage.run(lambda: self.delay)
        finally:
            self.passages.discard(passage)

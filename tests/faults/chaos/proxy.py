"""A TCP proxy that does to connections what networks do to them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random

DEPTH = 100
"""Pieces that are under way at most; beyond, no more is read."""

Piece = tuple[float, bytes]
"""When to pass it on, and what; nothing stands for the end."""


class Way:
    """One direction of a connection.

    Attributes:
        is_swallowing: whether what comes is thrown away.
        flows: cleared to let nothing through for a while; nothing is lost by that.
    """

    def __init__(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        self._source = source
        self._sink = sink
        self.is_swallowing = False
        self.flows = asyncio.Event()
        self.flows.set()

    def end(self) -> None:
        """Say that nothing more comes, although the other direction goes on."""
        self.is_swallowing = True
        with suppress(OSError, RuntimeError):
            self._sink.write_eof()

    async def pass_on(self, delay: Callable[[], float]) -> None:
        """Pass on what comes, each piece `delay` after it came, until an end comes."""
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
        peer: the address of who connected.
        there: from who connected to the target.
        back: from the target to who connected.
    """

    def __init__(self, peer: str, there: Way, back: Way, *writers: asyncio.StreamWriter) -> None:
        self.peer = peer
        self.there = there
        self.back = back
        self._writers = writers

    async def run(self, delay: Callable[[], float]) -> None:
        """Pass on both directions, until both have ended or one was cut."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.there.pass_on(delay))
                tasks.create_task(self.back.pass_on(delay))
        except* OSError:
            pass
        finally:
            self.cut()

    def cut(self) -> None:
        """End both directions at once."""
        for writer in self._writers:
            writer.transport.abort()


class Proxy:
    """Passes connections on to one of some ports of 127.0.0.1, any that accepts.

    Args:
        dice: what chooses the target.
        targets: ports.

    Attributes:
        port: where it listens.
        delay: seconds for which each piece is held back, in both directions.
        is_down: whether no connection gets through.
        barred: address from which none gets through, or empty.
        passages: the connections that there are.
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
        """A part of the connections, at least one if there is any."""
        there_are = list(self.passages)
        return dice.sample(there_are, min(len(there_are), max(1, round(share * len(there_are)))))

    def cut(self) -> None:
        """End all connections at once."""
        for passage in list(self.passages):
            passage.cut()

    def bar(self, address: str) -> None:
        """Keep out what comes from an address of this machine, and end its connections at once."""
        self.barred = address
        for passage in list(self.passages):
            if passage.peer == address:
                passage.cut()

    def heal(self) -> None:
        """Be up and quick again, and end connections that were harmed."""
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

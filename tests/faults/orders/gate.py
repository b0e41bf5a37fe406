"""A TCP proxy that cuts a node off from Redis, or only its subscription, or only its commands."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal, NamedTuple, Self

How = Literal["reset", "held", "dropped"]
"""`reset`: connections are reset. `held`: bytes arrive when the cut ends, as TCP repeats them. `dropped`:
they never do, and connections that lost some are reset at the end."""

Part = Literal["all", "subscriber", "commands"]


class Cut(NamedTuple):
    """What is cut, and how."""

    how: How
    part: Part


class Passage:
    """One connection through the gate.

    Attributes:
        is_subscriber: whether the node listens on it.
        has_lost: whether bytes were dropped.
    """

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers
        self.is_subscriber = False
        self.has_lost = False

    def abort(self) -> None:
        """Reset both sides."""
        for writer in self._writers:
            writer.transport.abort()


class Gate:
    """Forwards connections to a port of 127.0.0.1.

    Attributes:
        port: port that it listens on.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._cut: Cut | None = None
        self._healed = asyncio.Event()
        self._passages: set[Passage] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def to(cls, target: int) -> AsyncIterator[Self]:
        """Run a gate until the end of the context."""
        gate = cls(target)
        server = await asyncio.start_server(gate._accept, "127.0.0.1", 0)
        gate.port = server.sockets[0].getsockname()[1]
        try:
            yield gate
        finally:
            server.close()
            for task in gate._tasks:
                task.cancel()
            await asyncio.gather(*gate._tasks, return_exceptions=True)
            await server.wait_closed()

    def shut(self, cut: Cut) -> None:
        """Cut present and new connections."""
        self._cut = cut
        self._healed.clear()
        for passage in tuple(self._passages):
            if cut.how == "reset" and self._is_cut(passage):
                passage.abort()

    def open(self) -> None:
        """Forward again."""
        self._cut = None
        self._healed.set()
        for passage in tuple(self._passages):
            if passage.has_lost:
                passage.abort()

    def _is_cut(self, passage: Passage) -> bool:
        if self._cut is None:
            return False
        part = self._cut.part
        return part == "all" or (part == "subscriber") == passage.is_subscriber

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            passage = Passage(writer, back)
            self._passages.add(passage)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._copy(passage, reader, back, is_request=True))
                    tasks.create_task(self._copy(passage, there, writer, is_request=False))
            finally:
                self._passages.discard(passage)
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _copy(
        self,
        passage: Passage,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_request: bool,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if is_request and b"SUBSCRIBE" in data:
                    passage.is_subscriber = True
                if await self._lets_through(passage):
                    writer.write(data)
                    await writer.drain()
        passage.abort()

    async def _lets_through(self, passage: Passage) -> bool:
        while self._cut is not None and self._is_cut(passage):
            if self._cut.how == "reset":
                passage.abort()
                return False
            if self._cut.how == "dropped":
                passage.has_lost = True
                return False
            await self._healed.wait()
        return not passage.has_lost

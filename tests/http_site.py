"""A server for tests of the dispatch API, and both HTTP buses behind one interface."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Self, TypeVar

from mesa_ws.backend.base import AsyncBus
from mesa_ws.backend.http import AsyncHttpBus, BlockingHttpBus
from mesa_ws.backend.memory import MemoryBackend
from mesa_ws.backend.queries import Query
from mesa_ws.messages.envelope import Envelope, prepare
from mesa_ws.messages.message import PROTOCOL_OPCODES, Message
from mesa_ws.messages.receipt import Receipt

T = TypeVar("T")

KEY = "0123456789abcdef"


class Site:
    """A server in memory that holds connections of the id 0.

    Attributes:
        bus: the bus of the API; a test may replace it.
        received: the data of the messages that were delivered, and whole envelopes of events.
    """

    namespace = "api"
    reserved = PROTOCOL_OPCODES

    def __init__(self, sockets: int = 2) -> None:
        self._sockets = sockets
        self.memory = MemoryBackend(namespace=self.namespace)
        self.bus: AsyncBus = self.memory
        self.received: list[Any] = []

    @property
    def is_ready(self) -> bool:
        return self.memory.is_ready

    @property
    def server(self) -> Any:
        """The parts of a server that the API uses."""
        return self

    async def open(self) -> None:
        await self.memory.open(self._receive)
        await self.memory.attach("0", self._sockets)

    def _receive(self, envelope: Envelope) -> None:
        if envelope.kind == "order":
            self.memory.carried_out(*envelope.positions)
        self.received.append(_data(envelope))


class HeldBus:
    """A bus that holds each dispatch back until it is released."""

    def __init__(self, bus: AsyncBus) -> None:
        self.arrived: asyncio.Queue[str] = asyncio.Queue()
        self.go = asyncio.Event()
        self._bus = bus

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        self.arrived.put_nowait(envelopes[0].message_id)
        await self.go.wait()
        return await self._bus.dispatch(envelopes)

    async def request(self, request: Envelope, timeout: float) -> bytes:
        return await self._bus.request(request, timeout)

    async def query(self, query: Query[T]) -> T:
        return await self._bus.query(query)

    async def purge(self, id: str) -> int:
        return await self._bus.purge(id)

    async def aclose(self) -> None:
        await self._bus.aclose()


class FailingBus:
    """A bus that raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        raise self._error

    async def request(self, request: Envelope, timeout: float) -> bytes:
        raise self._error

    async def query(self, query: Query[T]) -> T:
        raise self._error

    async def purge(self, id: str) -> int:
        raise self._error

    async def aclose(self) -> None:
        raise NotImplementedError


class Dispatching:
    """Both buses behind one interface, so that one test covers both."""

    def __init__(self, kind: str, url: str, **settings: Any) -> None:
        settings = {"key": KEY} | settings
        self._aio = AsyncHttpBus(url, **settings) if kind == "aio" else None
        self._blocking = BlockingHttpBus(url, **settings) if kind == "blocking" else None

    async def dispatch(self, *envelopes: Envelope) -> list[Receipt]:
        if self._aio is not None:
            return await self._aio.dispatch(envelopes)
        assert self._blocking is not None
        return await asyncio.to_thread(self._blocking.dispatch, envelopes)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._aio is not None:
            await self._aio.aclose()
        if self._blocking is not None:
            self._blocking.close()


def message(data: Any, recipients: Sequence[str] = ("0",)) -> Envelope:
    """Return an encoded message."""
    return prepare(Message(0, data), recipients)


def _data(envelope: Envelope) -> Any:
    return json.loads(envelope.body)["d"] if envelope.body and envelope.kind != "order" else envelope

"""Clients that send more than a rate allows: delayed, in order, and no harm to neighbours."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mesa_ws import Connection, Message, Server, User, serve
from mesa_ws.middleware import RateLimit
from mesa_ws.middleware.prometheus import PrometheusMetrics
from tests.system.server.peer import Peer
from tests.system.waiting import until


class Counting:
    """A server that notes what it handles.

    Attributes:
        handled: the data of messages.
        left: close codes of connections that have ended.
    """

    def __init__(self, **options: Any) -> None:
        self.handled: list[Any] = []
        self.left: list[int] = []
        self.server = Server(**options)
        self.server.authenticator(self.authenticate)
        self.server.on_message("N")(self.handle)
        self.server.on_message("PING")(self.pong)
        self.server.on_disconnection(self.leave)

    async def authenticate(self, data: Any, _: Connection) -> User:
        return User(data["id"])

    async def handle(self, message: Message, _: Connection) -> None:
        self.handled.append(message.data)

    async def pong(self, message: Message, connection: Connection) -> None:
        connection.send(Message(0, message.data, "PONG"))

    async def leave(self, _: Connection, code: int, __: str) -> None:
        self.left.append(code)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def join(stack: AsyncExitStack, url: str, id: str) -> Peer:
    peer = await stack.enter_async_context(Peer.connect(url))
    await peer.authenticate(id)
    return peer


async def test_a_flood_is_delayed_in_order_and_neighbours_are_not(stack: AsyncExitStack) -> None:
    counting = Counting(rates={"messages_per_connection": 200, "burst": 0.1})
    registry = CollectorRegistry()
    counting.server.use(lambda server: PrometheusMetrics(server, registry))
    url = (await stack.enter_async_context(serve(counting.server))).url
    flooding, neighbour = await join(stack, url, "flooding"), await join(stack, url, "neighbour")
    for n in range(120):
        await flooding.send("N", n)
    await neighbour.send("PING")
    await neighbour.until(t="PONG")
    assert len(counting.handled) < 120
    await until(lambda: len(counting.handled) == 120)
    assert counting.handled == list(range(120))
    metric = r'mesa_messages_over_rate_total{excess="delay"} '
    [line] = [line for line in generate_latest(registry).decode().splitlines() if line.startswith(metric)]
    assert float(line.removeprefix(metric)) == counting.server.rates.exceeded["delay"] > 0


async def test_a_client_that_is_delayed_is_read_no_further_than_any_other(stack: AsyncExitStack) -> None:
    """When it has gone, what was read of it is handled without a delay, and its end."""
    counting = Counting(limits={"max_queued": 8})
    counting.server.use(RateLimit(rate=0.001, burst=1))
    url = (await stack.enter_async_context(serve(counting.server))).url
    async with Peer.connect(url) as peer:
        await peer.authenticate("1")
        for n in range(500):
            await peer.send("N", n)
        [connection] = counting.server.connections
        await until(lambda: connection._flow is not None and connection._flow.is_paused)
        assert counting.handled == [0]
        assert 8 <= len(connection._events or ()) < 8 + 64
        connection.disconnect(4321)
    await until(lambda: counting.left == [4321])
    assert counting.handled == list(range(len(counting.handled)))
    assert 8 < len(counting.handled) < 8 + 64 + 2


@pytest.mark.parametrize("max_queued", [1, 64])
async def test_a_client_that_is_delayed_stays_connected_by_its_heartbeats(
    stack: AsyncExitStack, max_queued: int
) -> None:
    heartbeat = {"enabled": True, "interval": 0.05, "max_attempts": 4}
    counting = Counting(heartbeat=heartbeat, limits={"max_queued": max_queued})
    counting.server.use(RateLimit(rate=20, burst=1))
    url = (await stack.enter_async_context(serve(counting.server))).url
    peer = await join(stack, url, "1")
    for n in range(12):
        await peer.send("N", n)
    answering = asyncio.create_task(_answer_heartbeats(peer))
    await until(lambda: len(counting.handled) == 12)
    answering.cancel()
    assert counting.handled == list(range(12))
    assert counting.left == []


async def _answer_heartbeats(peer: Peer) -> None:
    while True:
        await peer.answer()


async def test_a_guest_whose_requests_are_over_a_rate_keeps_its_places(stack: AsyncExitStack) -> None:
    counting = Counting(limits={"guest_max_requests": 2})
    counting.server.use(RateLimit(rate=0.001, burst=1, excess="error"))
    url = (await stack.enter_async_context(serve(counting.server))).url
    peer = await stack.enter_async_context(Peer.connect(url))
    texts = []
    for n in range(10):
        await peer.raw(json.dumps({"op": 0, "d": None, "t": "R", "x": {"r": str(n)}}))
        texts.append((await peer.until(op=0))["x"]["error"])
    assert [error["code"] for error in texts] == ["unanswered"] + ["busy"] * 9
    assert all(error["message"].startswith("too many messages; try again in ") for error in texts[1:])


async def test_a_flood_of_one_id_over_several_connections_shares_one_rate(stack: AsyncExitStack) -> None:
    counting = Counting()
    counting.server.use(RateLimit(rate=0.001, burst=10, per="id", excess="drop"))
    url = (await stack.enter_async_context(serve(counting.server))).url
    for id in ("1", "1", "1", "2"):
        peer = await join(stack, url, id)
        for n in range(8):
            await peer.send("N", f"{id}.{n}")
        await peer.authenticate(id)
    assert counting.handled == [f"1.{n}" for n in (*range(8), 0, 1)] + [f"2.{n}" for n in range(8)]
    assert counting.server.rates.exceeded == {"drop": 14}


async def test_messages_that_are_dropped_wait_no_longer(stack: AsyncExitStack) -> None:
    counting, gates = Counting(), [asyncio.Event(), asyncio.Event()]
    counting.server.use(RateLimit(rate=0.001, burst=1, excess="drop", types=["N"]))
    reached: list[int] = []

    @counting.server.on_message("GATE")
    async def wait(message: Message, _: Connection) -> None:
        reached.append(message.data)
        await gates[message.data].wait()

    url = (await stack.enter_async_context(serve(counting.server))).url
    peer = await join(stack, url, "1")
    await peer.send("GATE", 0)
    for _ in range(10):
        await peer.send("N", "x" * 1000)
    await peer.send("GATE", 1)
    [connection] = counting.server.connections
    await until(lambda: len(connection._events or ()) == 11)
    assert connection._waiting_size > 10_000
    gates[0].set()
    await until(lambda: reached == [0, 1])
    assert connection._waiting_size == 0
    gates[1].set()
    assert len(counting.handled) == 1

"""More clients than a server can serve at once: they wait, or are refused early, and those it serves stay."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mesa_ws import Connection, Server, User, serve
from mesa_ws.middleware.prometheus import PrometheusMetrics
from mesa_ws.transports import listening, server_socket
from mesa_ws.transports.liveness import seconds_waited
from mesa_ws.transports.run import Endpoint
from tests.certificates import server_side
from tests.security.test_connection_limits import BUSY, refused
from tests.system.server.peer import LIMIT, Peer, RawPeer
from tests.system.waiting import until

GREETING = b"GET / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """No client is accepted out of turn."""
    monkeypatch.setattr(listening, "LONGEST_REST", 2 * LIMIT)


class Slow:
    """A server whose authenticator answers when the test lets it."""

    def __init__(self, timeout: float = LIMIT, **limits: Any) -> None:
        self.server = Server(limits=limits, authentication={"timeout": timeout})
        self.registry = CollectorRegistry()
        self.server.use(lambda server: PrometheusMetrics(server, self.registry))
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.server.authenticator(self.authenticate)

    async def authenticate(self, data: Any, connection: Connection) -> User:
        self.asked.append(data["id"])
        if data["id"] != "neighbour":
            await self.may_answer.wait()
        return User(data["id"])

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"mesa_{name}", labels)


async def test_so_many_logins_are_under_way_and_others_wait_in_order(stack: AsyncExitStack) -> None:
    """Until none waits, no further client is let in; one that leaves costs nothing but its place."""
    slow = Slow(max_logins=2)
    endpoint = await stack.enter_async_context(serve(slow.server))
    neighbour, *peers = [await stack.enter_async_context(Peer.connect(endpoint.url)) for _ in range(7)]
    await neighbour.authenticate("neighbour")
    for number, peer in enumerate(peers):
        await peer.send(data={"id": str(number)}, op=2)
        await until(lambda number=number: len(slow.server.logins.waiting) == max(0, number - 1))  # type: ignore[misc]
    assert slow.asked == ["neighbour", "0", "1"]
    assert (slow.metric("logins"), slow.metric("logins_waiting")) == (2, 4)

    late = await stack.enter_async_context(RawPeer.connect(endpoint.host, endpoint.port))
    coming = asyncio.create_task(late.upgrade())
    for _ in range(20):
        await neighbour.send(data=None, op=0)
        await asyncio.sleep(0.01)
    assert not coming.done()
    assert len(slow.server.connections) == 7
    await peers[3].socket.close()
    await until(lambda: len(slow.server.connections) == 6)

    slow.may_answer.set()
    for peer in (*peers[:3], *peers[4:]):
        await peer.until(op=22)
    assert slow.asked == ["neighbour", "0", "1", "2", "4", "5"]
    assert (slow.metric("logins"), slow.metric("logins_waiting")) == (0, 0)
    assert slow.metric("clients_dropped_total", before="login") == 1
    assert " 101 " in await asyncio.wait_for(coming, LIMIT)


async def test_a_login_that_is_late_is_dropped_before_anything_is_done_for_it(stack: AsyncExitStack) -> None:
    slow = Slow(timeout=1.5, max_logins=1)
    endpoint = await stack.enter_async_context(serve(slow.server))
    first, second = [await stack.enter_async_context(Peer.connect(endpoint.url)) for _ in range(2)]
    await asyncio.sleep(0.7)  # the first is asked for longer than the second has time
    await first.send(data={"id": "1"}, op=2)
    await until(lambda: slow.asked == ["1"])
    await second.send(data={"id": "2"}, op=2)
    assert await second.closed() == 1011
    slow.may_answer.set()
    await until(lambda: slow.server.connection_limits.dropped["login"] == 1)
    assert slow.asked == ["1"]


async def greeted(stack: AsyncExitStack, endpoint: Endpoint) -> RawPeer:
    """Connect, and send half a request."""
    peer = await stack.enter_async_context(RawPeer.connect(endpoint.host, endpoint.port))
    peer.writer.write(GREETING)
    return peer


async def waited(peer: RawPeer, seconds: float) -> None:
    """Wait until the peer has sent nothing for so long, as the server's end of its connection does."""
    connection = peer.writer.get_extra_info("socket")
    await until(lambda: seconds_waited(connection._sock) >= seconds)


@pytest.mark.parametrize("has_tls", [False, True])
async def test_clients_wait_while_the_event_loop_lags_and_are_refused_when_they_waited_too_long(
    stack: AsyncExitStack, has_tls: bool, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_socket, "IMPATIENCE", 0.1)
    slow = Slow(max_wait=0.3)
    server = slow.server
    ssl = server_side(certificate) if has_tls else None
    endpoint = await stack.enter_async_context(serve(server, ssl=ssl))
    await server.loop_lag.stop()
    server.loop_lag.seen(1.0, 0.0)
    assert server.loop_lag.is_high
    late, gone = await greeted(stack, endpoint), await greeted(stack, endpoint)
    gone.writer.close()
    await waited(late, 0.4)
    assert server.connection_limits.handshakes == 0
    server.loop_lag.seen(0.0, 0.0)
    if has_tls:
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(late.reader.read(), LIMIT) == b""
    else:
        assert BUSY.match((await asyncio.wait_for(late.reader.read(), LIMIT)).decode())
    await until(lambda: slow.metric("clients_dropped_total", before="handshake") == 1)
    assert refused(slow.registry) == {"max_wait": 1}
    if not has_tls:
        peer = await stack.enter_async_context(RawPeer.connect(endpoint.host, endpoint.port))
        assert " 101 " in await peer.upgrade()

"""Clients that open more connections than they may: refused early, counted, and no harm to neighbours."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mesa_ws import Client, Connection, ConnectionClosed, Message, Server, User, serve
from mesa_ws.middleware.prometheus import PrometheusMetrics
from mesa_ws.transports.run import Endpoint
from tests.system.server.peer import LIMIT, Peer, RawPeer
from tests.system.waiting import until

BUSY = re.compile(r"HTTP/1.1 503 Service Unavailable\r\n(?s:.*)Retry-After: ([1-9]|10)\r\n")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def limited(trusted_proxies: Sequence[str] | None = None, **limits: Any) -> Server:
    server = Server(limits={"exempt_networks": None} | limits, trusted_proxies=trusted_proxies)

    @server.authenticator
    async def authenticate(data: Any, _: Connection) -> User:
        return User(data["id"])

    return server


REST = (
    "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
)


async def silence(stack: AsyncExitStack, endpoint: Endpoint) -> RawPeer:
    """Send half a request until the test ends; `REST` is the other half."""
    peer = await stack.enter_async_context(RawPeer.connect(endpoint.host, endpoint.port))
    peer.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
    return peer


async def handshake(stack: AsyncExitStack, endpoint: Endpoint, extra: str = "") -> tuple[RawPeer, str]:
    """Connect until the test ends; return the answer, too."""
    peer = await stack.enter_async_context(RawPeer.connect(endpoint.host, endpoint.port))
    return peer, await peer.upgrade(extra=extra)


def refused(registry: CollectorRegistry) -> dict[str, float]:
    lines = generate_latest(registry).decode().splitlines()
    found = (re.fullmatch(r'mesa_connections_refused_total{limit="(\w+)"} (.*)', line) for line in lines)
    return {match[1]: float(match[2]) for match in found if match}


async def test_an_address_holds_so_many_connections_without_login(stack: AsyncExitStack) -> None:
    """An address over the limit is refused until one logs in or leaves; who has logged in is served on."""
    server, registry = limited(max_unauthenticated_per_address=3), CollectorRegistry()
    server.use(lambda server: PrometheusMetrics(server, registry))
    endpoint = await stack.enter_async_context(serve(server))
    neighbour = await stack.enter_async_context(Peer.connect(endpoint.url))
    await neighbour.authenticate("neighbour")
    answers = [await handshake(stack, endpoint) for _ in range(10)]
    assert [" 101 " in answer for _, answer in answers] == [True] * 3 + [False] * 7
    assert all(BUSY.match(answer) for _, answer in answers[3:])
    assert refused(registry) == {"max_unauthenticated_per_address": 7}
    assert len(server.connections) == 4
    await neighbour.authenticate("neighbour")
    first, second = answers[0][0], answers[1][0]
    await first.frame(1, b'{"op":2,"d":{"id":"1"}}')
    await until(lambda: len(server.fanout.by_id) == 2)
    assert " 101 " in (await handshake(stack, endpoint))[1]
    assert BUSY.match((await handshake(stack, endpoint))[1])
    second.writer.close()
    await until(lambda: len(server.connections) == 4)
    assert " 101 " in (await handshake(stack, endpoint))[1]
    assert BUSY.match((await handshake(stack, endpoint))[1])


async def test_a_connection_that_the_server_closes_counts_until_its_socket_ends(
    stack: AsyncExitStack,
) -> None:
    endpoint = await stack.enter_async_context(serve(limited(max_unauthenticated_per_address=1)))
    peer, _ = await handshake(stack, endpoint)
    await peer.frame(1, b"no JSON")
    assert int.from_bytes((await peer.close_frame())[:2]) == 1007
    assert BUSY.match((await handshake(stack, endpoint))[1])
    peer.writer.close()
    async with asyncio.timeout(LIMIT):
        while BUSY.match((await handshake(stack, endpoint))[1]):
            await asyncio.sleep(0.01)


async def test_a_server_has_so_many_connections_logged_in_or_not(stack: AsyncExitStack) -> None:
    server, registry = limited(max_connections=3, max_unauthenticated_per_address=None), CollectorRegistry()
    server.use(lambda server: PrometheusMetrics(server, registry))
    endpoint = await stack.enter_async_context(serve(server))
    neighbour = await stack.enter_async_context(Peer.connect(endpoint.url))
    await neighbour.authenticate("neighbour")
    answers = [await handshake(stack, endpoint) for _ in range(5)]
    assert [" 101 " in answer for _, answer in answers] == [True, True, False, False, False]
    assert all(BUSY.match(answer) for _, answer in answers[2:])
    assert refused(registry) == {"max_connections": 3}
    await neighbour.authenticate("neighbour")
    answers[0][0].writer.close()
    await until(lambda: len(server.connections) == 2)
    assert " 101 " in (await handshake(stack, endpoint))[1]


async def test_guests_of_a_server_without_authenticator_have_no_limit(stack: AsyncExitStack) -> None:
    server = Server(limits={"exempt_networks": None, "max_unauthenticated_per_address": 1})
    endpoint = await stack.enter_async_context(serve(server))
    assert [" 101 " in (await handshake(stack, endpoint))[1] for _ in range(3)] == [True] * 3


async def test_an_address_holds_so_many_handshakes_and_is_cut_off_beyond(stack: AsyncExitStack) -> None:
    """Half a request costs a place for the time of the handshake; neighbours notice nothing."""
    server, registry = limited(max_unauthenticated_per_address=3), CollectorRegistry()
    server.use(lambda server: PrometheusMetrics(server, registry))
    endpoint = await stack.enter_async_context(serve(server))
    neighbour = await stack.enter_async_context(Peer.connect(endpoint.url))
    await neighbour.authenticate("neighbour")
    silent = [await silence(stack, endpoint) for _ in range(3)]
    await until(lambda: server.connection_limits.handshakes == 3)
    for _ in range(4):
        over = await silence(stack, endpoint)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(over.reader.read(), LIMIT) == b""
    assert refused(registry) == {"max_unauthenticated_per_address": 4}
    await neighbour.authenticate("neighbour")
    silent[0].writer.close()
    await until(lambda: server.connection_limits.handshakes == 2)
    assert " 101 " in (await handshake(stack, endpoint))[1]
    assert " 101 " in (await silent[1].request(REST))


@pytest.mark.parametrize("is_ended", [True, False])
async def test_beyond_so_many_handshakes_clients_wait(stack: AsyncExitStack, is_ended: bool) -> None:
    server = limited(max_handshakes=3, max_unauthenticated_per_address=None)
    endpoint = await stack.enter_async_context(serve(server))
    neighbour = await stack.enter_async_context(Peer.connect(endpoint.url))
    silent = [await silence(stack, endpoint) for _ in range(3)]
    await until(lambda: server.connection_limits.handshakes == 3)
    waiting = [asyncio.create_task(handshake(stack, endpoint)) for _ in range(10)]
    for _ in range(20):
        await neighbour.authenticate("neighbour")
    assert [task for task in waiting if task.done()] == []
    assert server.connection_limits.handshakes == 3
    if is_ended:
        silent[0].writer.close()
    else:
        assert " 101 " in await silent[0].request(REST)
    async with asyncio.timeout(LIMIT):
        answers = [answer for _, answer in await asyncio.gather(*waiting)]
    assert [" 101 " in answer for answer in answers] == [True] * 10


async def test_beyond_so_many_handshakes_in_a_second_clients_wait(
    stack: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    server, registry = limited(max_handshakes_per_second=1), CollectorRegistry()
    server.use(lambda server: PrometheusMetrics(server, registry))
    endpoint = await stack.enter_async_context(serve(server))
    assert " 101 " in (await handshake(stack, endpoint))[1]
    assert " 101 " in (await handshake(stack, endpoint))[1]
    assert "new clients wait: 1 came within a second" in caplog.messages
    assert registry.get_sample_value("mesa_handshakes_begun_total") == 2.0


async def test_an_id_has_so_many_connections_and_the_newest_is_refused(stack: AsyncExitStack) -> None:
    server, registry = limited(max_connections_per_id=2), CollectorRegistry()
    server.use(lambda server: PrometheusMetrics(server, registry))
    endpoint = await stack.enter_async_context(serve(server))

    async def log_in(id: str) -> Peer:
        peer = await stack.enter_async_context(Peer.connect(endpoint.url))
        await peer.send(data={"id": id}, op=2)
        return peer

    first, second, third, other = [await log_in(id) for id in ("1", "1", "1", "2")]
    for peer in (first, second, other):
        await peer.until(op=22)
    assert await third.closed() == 4002
    assert third.socket.close_reason == "too many connections"
    assert [frame["op"] for frame in third.frames] == [10]
    assert {id: len(found) for id, found in server.fanout.by_id.items()} == {"1": 2, "2": 1}
    assert refused(registry) == {"max_connections_per_id": 1}
    await first.authenticate("1")  # again, as the same: it has its place
    await other.send(data={"id": "1"}, op=2)
    assert await other.closed() == 4002
    await second.socket.close()
    await until(lambda: len(server.connections) == 1)
    assert await (await log_in("1")).until(op=22)
    await server.send(Message(0, "last", "X"), ["1"])
    assert (await first.until(t="X"))["d"] == "last"


async def test_the_newest_connection_of_an_id_takes_the_place_of_the_oldest_where_it_shall(
    stack: AsyncExitStack,
) -> None:
    """The client that was closed stays away, so two devices do not close each other for ever."""
    server = limited(max_connections_per_id=2, when_id_is_full="replace")
    registry = CollectorRegistry()
    server.use(lambda server: PrometheusMetrics(server, registry))
    ends: list[tuple[str | None, int, str]] = []
    server.on_disconnection(lambda connection, *ended: ends.append((connection.id, *ended)))
    endpoint = await stack.enter_async_context(serve(server))

    async def log_in(id: str) -> Client:
        client = await stack.enter_async_context(Client(endpoint.url))
        await client.authenticate({"id": id})
        return client

    first, second, other = [await log_in(id) for id in ("1", "1", "2")]
    await second.authenticate({"id": "1"})  # again, as the same: none has to go
    assert ends == []
    third = await log_in("1")
    with pytest.raises(ConnectionClosed, match="4003: replaced"):
        await asyncio.wait_for(first.wait_closed(), LIMIT)
    fourth = await log_in("1")
    with pytest.raises(ConnectionClosed, match="4003"):
        await asyncio.wait_for(second.wait_closed(), LIMIT)
    await other.authenticate({"id": "1"})  # with the id of another now: it is its newest connection
    with pytest.raises(ConnectionClosed, match="4003"):
        await asyncio.wait_for(third.wait_closed(), LIMIT)
    await server.send(Message(0, "last", "X"), ["1"])
    for client in (fourth, other):
        async for message in client:
            assert message.data == "last"
            break
    await until(lambda: len(ends) >= 3)
    assert ends == [("1", 4003, "replaced")] * 3
    assert 'mesa_closed_total{code="4003"} 3.0' in generate_latest(registry).decode()
    assert (refused(registry), len(server.connections)) == ({}, 2)


async def test_behind_a_trusted_proxy_the_addresses_that_it_names_have_the_limits(
    stack: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    """What a client wrote itself, further left or into the other field, changes nothing."""
    server = limited(["127.0.0.0/8"], max_unauthenticated_per_address=2)
    endpoint = await stack.enter_async_context(serve(server))

    async def upgraded(extra: str) -> bool:
        return " 101 " in (await handshake(stack, endpoint, extra))[1]

    forwarded = ["203.0.113.7", "6.6.6.6, 203.0.113.7", "6.6.6.7, 203.0.113.7:99, 127.0.0.2"]
    spoofed = [*(f"X-Forwarded-For: {value}" for value in forwarded), "Forwarded: for=6.6.6.6"]
    assert [await upgraded(f"\n{line}") for line in spoofed[:3]] == [True, True, False]
    assert await upgraded("\nX-Forwarded-For: 203.0.113.8:4711\nForwarded: for=6.6.6.6")
    assert [connection.request.remote_address for connection in server.connections] == [
        ("203.0.113.7", 0),
        ("203.0.113.7", 0),
        ("203.0.113.8", 4711),
    ]
    unnamed = ["", "\nX-Forwarded-For: unknown", "\nX-Forwarded-For: 6.6.6.6, x", f"\n{spoofed[3]}"]
    assert [await upgraded(extra) for extra in unnamed] == [True, True, False, False]
    assert server.connections[3].request.remote_address[0] == "127.0.0.1"  # type: ignore[index]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "refused a connection from 203.0.113.7: limits.max_unauthenticated_per_address is 2",
        "a trusted proxy names no address of its client; its own counts",
    ]


async def test_the_handshakes_of_a_proxy_have_no_limit_of_one_address(stack: AsyncExitStack) -> None:
    server = limited(["127.0.0.1/32"], max_unauthenticated_per_address=1)
    endpoint = await stack.enter_async_context(serve(server))
    silent = [await silence(stack, endpoint) for _ in range(3)]
    await until(lambda: server.connection_limits.handshakes == 3)
    for n, peer in enumerate(silent):
        assert " 101 " in await peer.request(f"X-Forwarded-For: 203.0.113.{n}\n{REST}")


async def test_who_is_no_trusted_proxy_has_its_own_address(stack: AsyncExitStack) -> None:
    server = limited(["10.0.0.0/8"], max_unauthenticated_per_address=2)
    endpoint = await stack.enter_async_context(serve(server))
    lines = [f"\nX-Forwarded-For: 203.0.113.{n}\nForwarded: for=203.0.113.{n}" for n in range(3)]
    assert [" 101 " in (await handshake(stack, endpoint, line))[1] for line in lines] == [True, True, False]
    assert {each.request.remote_address[0] for each in server.connections} == {"127.0.0.1"}  # type: ignore[index]


async def test_close_to_the_limit_strangers_are_refused_before_addresses_that_have_logged_in(
    stack: AsyncExitStack,
) -> None:
    """Connections first, then handshakes: strangers have nine tenths, and the user comes back."""
    server, registry = limited(["127.0.0.0/8"], max_connections=10, max_handshakes=10), CollectorRegistry()
    server.use(lambda server: PrometheusMetrics(server, registry))
    endpoint = await stack.enter_async_context(serve(server))

    async def come(address: str) -> tuple[RawPeer, bool]:
        peer, answer = await handshake(stack, endpoint, f"\nX-Forwarded-For: {address}")
        return peer, " 101 " in answer

    user, _ = await come("203.0.113.7")
    await user.frame(1, b'{"op":2,"d":{"id":"1"}}')
    await until(lambda: len(server.fanout.by_id) == 1)
    assert [(await come(f"198.51.100.{n}"))[1] for n in range(10)] == [True] * 8 + [False] * 2
    user.writer.close()
    await until(lambda: len(server.connections) == 8)
    assert [(await come("203.0.113.7"))[1] for _ in range(3)] == [True, True, False]
    assert refused(registry) == {"max_connections": 3}

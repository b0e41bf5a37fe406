"""What clients have waiting is bounded in messages and in bytes, and stays bytes until its turn."""

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from ssl import SSLSocket, create_default_context
from typing import Any

import pytest

from mesa_ws import Connection, MemoryBackend, MemoryHub, Message, Portal, PortalEvent, Server, User, serve
from mesa_ws.protocol.server import ServerProtocol
from mesa_ws.transports.frame_feed import FRAMES_AT_ONCE, READ_AT_ONCE
from mesa_ws.transports.run import Endpoint
from tests.certificates import server_side
from tests.system.server.peer import Peer, RawPeer
from tests.system.waiting import until


class Site:
    """A server whose handler waits until `goes_on` is set, and whose authenticator does until `logs_in` is.

    Attributes:
        handled: the data of the messages that were handled.
        received: the sizes of the frames that the server has received.
    """

    def __init__(self, stack: AsyncExitStack, received: list[int]) -> None:
        self._stack = stack
        self.received = received
        self.handled: list[Any] = []
        self.goes_on, self.logs_in = asyncio.Event(), asyncio.Event()
        self.logs_in.set()
        self.endpoint: Endpoint

    async def serve(self, *place: Any, has_authenticator: bool = True, **options: Any) -> Server:
        server = Server(*place, **options)
        if has_authenticator:
            server.authenticator(self._authenticate)
        server.on_message(self._handle)
        self.endpoint = await self._stack.enter_async_context(serve(server, "127.0.0.1", 0))
        return server

    async def join(self, id: str | None = None) -> Peer:
        peer = await self._stack.enter_async_context(Peer.connect(self.endpoint.url))
        if id is not None:
            await peer.authenticate(id)
        return peer

    async def _authenticate(self, data: Any, _: Connection) -> User | None:
        await self.logs_in.wait()
        return User(data["id"]) if "id" in data else None

    async def _handle(self, message: Message, _: Connection) -> None:
        await self.goes_on.wait()
        self.handled.append(message.data)


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    received: list[int] = []
    receive = ServerProtocol.receive

    def count(protocol: ServerProtocol, payload: bytes, now: float) -> Any:
        received.append(len(payload))
        return receive(protocol, payload, now)

    monkeypatch.setattr(ServerProtocol, "receive", count)
    async with AsyncExitStack() as stack:
        yield Site(stack, received)


async def test_reading_pauses_when_too_many_bytes_wait(site: Site) -> None:
    most, size, count = 100_000, 3000, 400
    server = await site.serve(limits={"max_queued": 10_000, "max_queued_bytes": most})
    peer = await site.join("1")
    site.received.clear()
    sending = asyncio.create_task(send_all(peer, [f"{n:0{size}}" for n in range(count)]))
    [connection] = server.connections
    await until(lambda: connection.protocol.deadline is None)
    assert most < sum(site.received) <= most + 2 * READ_AT_ONCE
    site.goes_on.set()
    await sending
    await until(lambda: len(site.handled) == count)
    assert [int(data) for data in site.handled] == list(range(count))


async def test_one_message_as_large_as_allowed_always_fits(site: Site) -> None:
    await site.serve(limits={"max_message": 300_000, "max_queued_bytes": 1})
    site.goes_on.set()
    peer = await site.join("1")
    for _ in range(3):
        await peer.send(None, "x" * 299_000)
    await until(lambda: len(site.handled) == 3)


async def send_all(peer: Peer, messages: list[Any]) -> None:
    for message in messages:
        await peer.send(None, message)


BAD = ["1e999", "[-1e400]", "1" * 4301]


@pytest.mark.parametrize("number", BAD)
async def test_a_number_that_nothing_can_hold_closes_in_its_turn_and_reaches_nobody(
    site: Site, number: str
) -> None:
    hub, forwarded = MemoryHub(), list[Any]()
    server = await site.serve(MemoryBackend(hub), portals=True)
    portal = Portal(hub)

    @portal.on_message
    async def take(event: PortalEvent) -> None:
        assert event.message is not None
        message = event.message
        forwarded.append((message.opcode, message.data, message.type, message.sequence))

    async with portal:
        peer = await site.join("1")
        site.received.clear()
        await peer.raw('{"op": 7000, "d": {"a": [1.50]}, "t": "T", "s": 5, "unknown": [1e999]}')
        await peer.raw(f'{{"d":{number}}}')
        await peer.send(None, "too late")
        await until(lambda: len(site.received) == 3)
        assert server.connections, "the first is not handled yet"
        site.goes_on.set()
        assert await peer.closed() == 1007
        await until(lambda: bool(forwarded))
    assert site.handled == [{"a": [1.5]}]
    assert forwarded == [(7000, {"a": [1.5]}, "T", None)]


async def test_a_guest_may_send_small_messages_only(site: Site) -> None:
    await site.serve()
    site.goes_on.set()
    small, large = await site.join(), await site.join()
    await small.send(None, "x" * 65_000)
    await until(lambda: len(site.handled) == 1)
    await large.send(None, "x" * 66_000)
    assert await large.closed() == 1009
    await small.authenticate("1")
    await small.send(None, "x" * 900_000)
    await until(lambda: len(site.handled) == 2)


async def test_a_message_of_a_guest_is_refused_before_it_is_complete(site: Site) -> None:
    await site.serve()
    async with RawPeer.connect(site.endpoint.host, site.endpoint.port) as peer:
        await peer.upgrade()
        await peer.frame(0x1, b" " * 60_000, fin=False)
        await peer.frame(0x0, b" " * 10_000, fin=False)
        assert int.from_bytes((await peer.close_frame())[:2]) == 1009


async def test_a_guest_that_logs_in_is_read_as_far_as_a_user(site: Site) -> None:
    server = await site.serve(limits={"guest_max_queued": 2})
    peer = await site.join()
    await send_all(peer, [0, 1, 2])
    [connection] = server.connections
    await until(lambda: connection.protocol.deadline is None)  # the guest is not read
    site.goes_on.set()
    await peer.authenticate("1")
    site.goes_on.clear()
    site.received.clear()
    for n in range(10):
        await peer.send(None, n)
        await until(lambda: len(site.received) > n)  # noqa: B023 - called before the next n


async def test_where_nobody_can_log_in_the_limits_of_users_hold_for_all(site: Site) -> None:
    await site.serve(has_authenticator=False)
    site.goes_on.set()
    peer = await site.join()
    await peer.send(None, "x" * 900_000)
    await until(lambda: len(site.handled) == 1)


async def test_what_follows_a_login_waits_for_it_and_is_read_no_further_than_allowed(site: Site) -> None:
    server = await site.serve()
    site.logs_in.clear()
    site.goes_on.set()
    peer = await site.join()
    await peer.send(data={"id": "1"}, op=2)
    sending = asyncio.create_task(send_all(peer, ["x" * 900_000, "last"]))
    [connection] = server.connections
    await until(lambda: connection.protocol.deadline is None)
    assert site.received == [len(b'{"op": 2, "d": {"id": "1"}, "t": null}')]
    site.logs_in.set()
    await peer.until(op=22)
    await sending
    await until(lambda: len(site.handled) == 2)
    assert [len(data) for data in site.handled] == [900_000, 4]


async def test_a_large_message_behind_a_login_that_is_refused_closes(site: Site) -> None:
    await site.serve(authentication={"disconnect_on_fail": False})
    site.logs_in.clear()
    peer = await site.join()
    await peer.send(data={}, op=2)
    sending = asyncio.create_task(send_all(peer, ["x" * 900_000]))
    await until(lambda: bool(site.received))
    site.logs_in.set()
    assert await peer.closed() == 1009
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert site.handled == []


async def test_a_guest_is_read_less_far_than_a_user(site: Site) -> None:
    server = await site.serve(limits={"max_queued": 10_000, "guest_max_queued": 4})
    peer, count = await site.join(), 400
    sending = asyncio.create_task(send_all(peer, list(range(count))))
    [connection] = server.connections
    await until(lambda: connection.protocol.deadline is None)
    assert 4 <= len(site.received) <= 5 + 2 * FRAMES_AT_ONCE
    site.goes_on.set()
    await sending
    await until(lambda: len(site.handled) == count)
    assert site.handled == list(range(count))


async def test_requests_of_a_guest_beyond_a_few_are_answered_busy(site: Site) -> None:
    await site.serve(limits={"guest_max_requests": 2})
    peer = await site.join()
    for n in range(5):
        await peer.raw(f'{{"d":{n},"x":{{"r":"{n}"}}}}')
    answers = [(await peer.until(op=0))["x"] for _ in range(3)]
    assert [(x["a"], x["error"]["code"]) for x in answers] == [(str(n), "busy") for n in (2, 3, 4)]
    site.goes_on.set()
    assert [(await peer.until(op=0))["x"]["error"]["code"] for _ in range(2)] == ["unanswered"] * 2
    await peer.raw('{"op":2,"d":{"id":"1"}}')
    for n in range(5, 10):
        await peer.raw(f'{{"d":{n},"x":{{"r":"{n}"}}}}')
    answers = [(await peer.until(op=0))["x"] for _ in range(5)]
    assert [(x["a"], x["error"]["code"]) for x in answers] == [(str(n), "unanswered") for n in range(5, 10)]


async def test_all_guests_of_a_server_share_one_bound(site: Site) -> None:
    server = await site.serve(limits={"guests_max_waiting": 150_000})
    address = (site.endpoint.host, site.endpoint.port)
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(RawPeer.connect(*address)) for _ in range(4)]
        for peer in peers:
            await peer.upgrade()
        for n, peer in enumerate(peers):
            await peer.frame(0x1, b" " * 60_000, fin=False)
            if n >= 2:  # it has less than its share when the bound is reached
                assert int.from_bytes((await peers[n - 1].close_frame())[:2]) == 1013
        assert len(server.connections) == 2
        await site.join("1")  # a login is small
        await peers[0].frame(0x0, b'{"d":1}')
        site.goes_on.set()
        await until(lambda: site.handled == [1])


async def test_a_connection_with_tls_takes_little_memory(certificate: Path) -> None:
    trust = create_default_context(cafile=str(certificate))

    def connect(endpoint: Endpoint) -> SSLSocket:
        plain = socket.create_connection((endpoint.host, endpoint.port))
        return trust.wrap_socket(plain, server_hostname="localhost")

    async with serve(Server(), "127.0.0.1", 0, ssl=server_side(certificate)) as endpoint:
        with ExitStack() as clients:
            clients.enter_context(await asyncio.to_thread(connect, endpoint))
            tracemalloc.start()
            clients.callback(tracemalloc.stop)
            for _ in range(10):
                clients.enter_context(await asyncio.to_thread(connect, endpoint))
            assert tracemalloc.get_traced_memory()[0] < 10 * 64 * 1024

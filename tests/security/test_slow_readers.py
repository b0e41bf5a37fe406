"""Clients that never read cost a server bounded memory, others get everything, and nothing stored is lost."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mesa_ws import Connection, Latest, Message, Server, User, serve
from mesa_ws.middleware.prometheus import PrometheusMetrics
from mesa_ws.transports.run import Endpoint
from mesa_ws.transports.server_socket import NativeTransport
from tests.certificates import server_side
from tests.system.server.peer import LIMIT, Peer, RawPeer
from tests.system.waiting import until

MOST = 2 * 1024 * 1024
SLEEPERS = 50
ROUNDS = 60
PAD = "x" * 6000


class Site:
    """A server with sync, and the memory that its sockets and queues really hold.

    Attributes:
        codes: the close codes of connections that have ended.
        told: the types of messages that were sent, as a hook learns it, and to how many connections.
    """

    def __init__(self, stack: AsyncExitStack, certificate: Path | None) -> None:
        self.stack = stack
        self.certificate = certificate
        self.trust = create_default_context(cafile=str(certificate)) if certificate else None
        self.codes: Counter[int] = Counter()
        self.transports: list[NativeTransport] = []
        self.server = Server(sync=True, limits={"max_node_buffer": MOST})
        self.server.authenticator(self._authenticate)
        self.server.on_disconnection(self._ended)
        self.told: list[tuple[str | None, int]] = []
        self.server.use(self)
        self.registry = CollectorRegistry()
        self.server.use(PrometheusMetrics(self.server, self.registry))
        self.endpoint: Endpoint

    async def start(self) -> None:
        tls = server_side(self.certificate) if self.certificate else None
        self.endpoint = await self.stack.enter_async_context(serve(self.server, "127.0.0.1", 0, ssl=tls))

    async def join(self) -> Peer:
        tls = {"ssl": self.trust} if self.trust else {}
        return await self.stack.enter_async_context(Peer.connect(self.endpoint.url, max_queue=None, **tls))

    async def sleeper(self, id: str) -> tuple[RawPeer, dict[str, Any]]:
        """Log in on wire 2 and read no more; return the position."""
        peer = await self.stack.enter_async_context(narrow(self.endpoint, self.trust))
        await peer.upgrade()
        await peer.frame(0x1, json.dumps({"op": 2, "d": {"id": id}, "x": {"v": 2}}).encode())
        while True:
            frame = json.loads((await peer.next_frame())[1])
            if frame["op"] == 22:
                return peer, frame["x"]

    def on_message_sent(self, message: Message, connections: Sequence[Connection], from_here: bool) -> None:
        self.told.append((message.type, len(connections)))

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"mesa_{name}", labels)

    def held(self) -> int:
        """Return the bytes that wait for all clients, also for those that are closing."""
        queues = sum(each.send_queue._size for each in self.server.connections)
        return queues + sum(each.memory for each in self.transports)

    async def _authenticate(self, data: Any, connection: Connection) -> User:
        return User(data["id"])

    async def _ended(self, connection: Connection, code: int, reason: str) -> None:
        self.codes[code] += 1


@asynccontextmanager
async def narrow(endpoint: Endpoint, tls: SSLContext | None) -> AsyncIterator[RawPeer]:
    """A connection for which the system buffers little, so that much waits in the server."""
    plain = socket.socket()
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, (endpoint.host, endpoint.port))
    name = endpoint.host if tls else None
    reader, writer = await asyncio.open_connection(sock=plain, limit=512, ssl=tls, server_hostname=name)
    if tls:
        transport: Any = writer.transport
        transport.set_read_buffer_limits(4096)  # by itself, TLS reads half a megabyte that no one asked for
    try:
        yield RawPeer(reader, writer)
    finally:
        writer.transport.abort()


@pytest.fixture(params=["", "tls"])
async def site(
    request: pytest.FixtureRequest, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        site = Site(stack, certificate if request.param else None)
        connected, ended = NativeTransport.on_ws_connected, NativeTransport.on_ws_disconnected

        def come(transport: NativeTransport, ws: Any) -> None:
            connected(transport, ws)
            site.transports.append(transport)

        def go(transport: NativeTransport, ws: Any) -> None:
            site.transports.remove(transport)
            ended(transport, ws)

        monkeypatch.setattr(NativeTransport, "on_ws_connected", come)
        monkeypatch.setattr(NativeTransport, "on_ws_disconnected", go)
        await site.start()
        yield site


async def test_clients_that_never_read_cost_bounded_memory_and_lose_nothing(site: Site) -> None:
    server = site.server
    reader = await site.join()
    await reader.log_in("reader", wire=2)
    ids = [f"sleeper {n}" for n in range(SLEEPERS)]
    sleepers = [await site.sleeper(id) for id in ids]
    most = 0
    for n in range(ROUNDS):
        await server.send(Message(0, [n, PAD], "ALL"))
        most = max(most, site.held())
        await server.send(Message(0, [n, PAD], "STORED"), ["reader", *ids])
        await server.send(Message(0, [n, PAD], "DIRECT", sync=False), ["reader", *ids])
        most = max(most, site.held())
        while (await reader.receive())["t"] != "DIRECT":
            pass
    assert MOST // 2 < most <= MOST

    got = [(frame["t"], frame["d"][0]) for frame in reader.frames if frame.get("t")]
    assert got == [(type, n) for n in range(ROUNDS) for type in ("ALL", "STORED", "DIRECT")]

    [closed] = server.slow_readers.closed.values()
    await until(lambda: site.codes[4000] == closed)
    assert SLEEPERS // 2 < closed <= SLEEPERS
    assert set(site.codes) == {4000}, "after which a client may come back"
    assert site.metric("slow_readers_closed_total", limit="max_node_buffer") == closed
    assert site.metric("waiting_bytes") == site.held()
    gone = [n for n, id in enumerate(ids) if id not in server.fanout.by_id]
    for n in gone[:3]:
        await resume(await site.join(), ids[n], sleepers[n][1])


async def resume(peer: Peer, id: str, position: dict[str, Any]) -> None:
    """Come back at a position, and get each stored message after it once, in order."""
    where = {"e": position["e"], "s": position["s"], "b": {k: position["b"][k] for k in "es"}}
    answer = await peer.log_in(id, resume=where, wire=2)
    assert (answer["status"], answer["lost"]) == ("resumed", 0)
    assert (answer["b"]["status"], answer["b"]["lost"]) == ("resumed", 0)
    frames = await peer.messages(2 * ROUNDS)
    for type in ("ALL", "STORED"):
        assert [frame["d"][0] for frame in frames if frame["t"] == type] == list(range(ROUNDS))


async def test_a_client_that_reads_again_in_time_stays_and_gets_all(site: Site) -> None:
    peer, _ = await site.sleeper("1")
    count = 0
    while site.held() < MOST // 4:
        await site.server.send(Message(0, [count, PAD], sync=False), ["1"])
        count += 1
        await asyncio.sleep(0)
    assert site.server.slow_readers.waiting == site.held()
    async with asyncio.timeout(LIMIT):
        for n in range(count):
            assert json.loads((await peer.next_frame())[1])["d"][0] == n
    await until(lambda: site.held() == 0 == site.server.slow_readers.waiting)
    assert len(site.server.connections) == 1


async def test_a_slow_client_gets_all_but_what_may_be_dropped_or_replaced(site: Site) -> None:
    """Others get all. A message without a policy is never dropped, and never overtakes another one."""
    server, reader = site.server, await site.join()
    await reader.log_in("reader")
    peer, _ = await site.sleeper("1")
    sent = 0

    async def send(type: str, delivery: Any = None, recipients: Any = ("reader", "1")) -> None:
        nonlocal sent
        await server.send(Message(0, [sent, PAD], type, sync=False), recipients, delivery=delivery)
        sent += 1
        await reader.until(t=type)

    while site.held() < MOST // 4:
        await send("ORDINARY")
    first = sent
    for n in range(20):
        await send("LATEST", Latest(str(n % 2)), "*" if n % 3 else ["reader", "1"])
        await send("ORDINARY")
        await send("VOLATILE", "volatile", ["reader", "1"] if n % 3 else "*")
    assert [frame["d"][0] for frame in reader.frames if frame.get("t")] == list(range(sent))
    latest, ordinary, volatile = (range(first + n, sent, 3) for n in range(3))
    expected = [*range(first), *sorted([*ordinary, *latest[-2:]])]
    async with asyncio.timeout(LIMIT):
        assert [json.loads((await peer.next_frame())[1])["d"][0] for _ in expected] == expected
    assert site.metric("messages_skipped_total", delivery="volatile") == len(volatile)
    assert {count for type, count in site.told if type == "VOLATILE"} == {1}
    assert {count for type, count in site.told if type != "VOLATILE"} == {2}
    assert site.metric("messages_skipped_total", delivery="latest") == len(latest) - 2
    await until(lambda: not site.held())
    await send("VOLATILE", "volatile")
    await send("LATEST", Latest("0"))
    assert [json.loads((await peer.next_frame())[1])["d"][0] for _ in range(2)] == [sent - 2, sent - 1]


async def test_short_messages_count_with_the_memory_of_their_frames(site: Site) -> None:
    peer, _ = await site.sleeper("1")
    [transport] = site.transports
    frame = 60
    while transport.buffered < 100 * frame:
        await site.server.send(Message(0, "x" * (frame - 19), sync=False), ["1"])
        await asyncio.sleep(0)
    frames = transport.buffered // frame
    assert 100 * frames <= transport.memory - transport.buffered <= 200 * frames
    assert site.server.slow_readers.waiting == transport.memory
    peer.writer.transport.abort()
    await until(lambda: site.server.slow_readers.waiting == 0)

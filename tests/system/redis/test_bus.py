"""Both runners of the bus over Redis: the same results, the same errors."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from mesa_ws.backend.redis import AsyncRedisBus, BlockingRedisBus, RedisBackend
from mesa_ws.backend.redis.wire import NativeHandshake
from mesa_ws.backend.redis_client.command import Script
from mesa_ws.errors import BackendRefused, BackendUnavailable, InvalidSettings, MesaError
from mesa_ws.messages.envelope import Envelope, prepare
from mesa_ws.messages.message import Message
from mesa_ws.messages.receipt import Delivery, Receipt
from tests.contract.cluster import LIMIT, Node, heard
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.system.proxy import Proxy

HELLO = Message(0, "hello", "HELLO")


class Bus:
    """One of the runners, always awaited."""

    def __init__(self, bus: AsyncRedisBus | BlockingRedisBus) -> None:
        self._bus = bus

    async def dispatch(self, *envelopes: Envelope) -> list[Receipt]:
        async with asyncio.timeout(LIMIT):
            if isinstance(self._bus, AsyncRedisBus):
                return await self._bus.dispatch(envelopes)
            return await asyncio.to_thread(self._bus.dispatch, envelopes)

    async def fails(self, *envelopes: Envelope) -> MesaError:
        """The error of a dispatch that has to fail."""
        with pytest.raises(MesaError) as caught:
            await self.dispatch(*(envelopes or [prepare(HELLO, ["alice"])]))
        return caught.value

    async def close(self) -> None:
        if isinstance(self._bus, AsyncRedisBus):
            await self._bus.aclose()
        else:
            self._bus.close()


Make = Callable[..., Bus]


@pytest.fixture(params=[AsyncRedisBus, BlockingRedisBus])
async def make(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Make]:
    """Makes buses of one kind, for one namespace."""
    async with AsyncExitStack() as stack:

        def make(address: object, **settings: Any) -> Bus:
            bus = Bus(request.param(address, **{"namespace": namespace, **settings}))
            stack.push_async_callback(bus.close)
            return bus

        yield make


@pytest.fixture
async def node(redis_url: str, namespace: str) -> AsyncIterator[Node]:
    """A node that holds alice."""
    async with AsyncExitStack() as stack:
        node = Node(RedisBackend(redis_url, namespace=namespace))
        await node.backend.open(node.receive)
        stack.push_async_callback(node.backend.aclose)
        await node.backend.attach("alice", 1)
        yield node


async def test_a_batch_is_one_round_trip_with_a_receipt_for_each(
    make: Make, node: Node, redis_url: str
) -> None:
    sent = [prepare(HELLO, ids) for ids in (["alice"], "*", ["away"])]
    receipts = await make(redis_url).dispatch(*sent)
    assert [receipt.message_id for receipt in receipts] == [envelope.message_id for envelope in sent]
    assert [receipt.nodes for receipt in receipts] == [1, 1, 0]
    assert receipts[0].deliveries == {"alice": Delivery(False, 1, None)}
    assert await heard(node) == [sent[:2]]


async def test_messages_to_nobody_need_no_redis(make: Make) -> None:
    (receipt,) = await make(f"redis://127.0.0.1:{free_port()}").dispatch(prepare(HELLO, []))
    assert (receipt.deliveries, receipt.nodes) == ({}, 0)


async def test_redis_away_is_an_error_at_once_and_nothing_was_sent(make: Make) -> None:
    port = free_port()
    error = await make(f"redis://u:secret@127.0.0.1:{port}").fails()
    assert str(error) == f"redis at 127.0.0.1:{port}: no connection (Connection refused); nothing was sent"
    assert isinstance(error, BackendUnavailable)
    assert not error.maybe_sent


async def test_a_redis_that_came_back_is_used_again(make: Make, own_redis: RedisServer) -> None:
    bus = make(own_redis.url)
    await bus.dispatch(prepare(HELLO))
    own_redis.stop()
    assert isinstance(await bus.fails(), BackendUnavailable)
    own_redis.start()
    (receipt,) = await bus.dispatch(prepare(HELLO, ["alice"]))
    assert receipt.deliveries["alice"].dropped == "offline"


async def test_a_lost_reply_may_have_been_sent_and_was_sent_once(
    make: Make, node: Node, proxy: Proxy
) -> None:
    bus = make(proxy.url, timeout=LIMIT)
    first, lost = prepare(HELLO, ["alice"]), prepare(HELLO, ["alice"])
    await bus.dispatch(first)
    proxy.loses_replies = True
    failing = asyncio.create_task(bus.fails(lost))
    await node.until(lost.message_id)
    proxy.cut()
    error = await failing
    assert isinstance(error, BackendUnavailable)
    assert error.maybe_sent
    assert "the connection was lost" in str(error)
    assert await heard(node) == [[first, lost]]


async def test_a_connection_that_broke_is_replaced(make: Make, node: Node, proxy: Proxy) -> None:
    bus = make(proxy.url, timeout=LIMIT)
    await bus.dispatch(prepare(HELLO))
    proxy.cut()
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                await bus.dispatch(prepare(HELLO, ["alice"]))
                break
            except BackendUnavailable:
                await asyncio.sleep(0.01)


async def test_a_hanging_redis_is_an_error_within_the_limit(make: Make, own_redis: RedisServer) -> None:
    bus = make(own_redis.url, timeout=0.3)
    await bus.dispatch(prepare(HELLO))
    own_redis.freeze()
    written = await bus.fails()
    connecting = await bus.fails()
    own_redis.thaw()
    assert isinstance(written, BackendUnavailable)
    assert isinstance(connecting, BackendUnavailable)
    assert (written.maybe_sent, connecting.maybe_sent) == (True, False)
    (receipt,) = await bus.dispatch(prepare(HELLO))
    assert receipt.nodes == 0


async def test_scripts_that_redis_forgot_are_loaded_again(make: Make, own_redis: RedisServer) -> None:
    bus = make(own_redis.url)
    await bus.dispatch(prepare(HELLO))
    with redis.Redis.from_url(own_redis.url) as client:
        client.script_flush()
    receipts = await bus.dispatch(prepare(HELLO, ["alice"]), prepare(HELLO))
    assert [receipt.nodes for receipt in receipts] == [0, 0]


async def test_order_is_kept_when_scripts_are_loaded_again(make: Make, node: Node, redis_url: str) -> None:
    bus = make(redis_url)
    await bus.dispatch(prepare(HELLO, ["away"]))
    with redis.Redis.from_url(redis_url) as client:
        client.script_flush()
    sent = [prepare(Message(0, n), "*" if n % 2 else ["alice"]) for n in range(20)]
    await bus.dispatch(*sent)
    assert await heard(node) == [sent]


@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:wrong@"])
async def test_a_wrong_password_is_refused(
    make: Make, tmp_path: Path, login: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis closes a connection that sends more than 16 KiB in one piece before it has logged in."""
    long = Script("long", b"#!lua\n--" + b"-" * 2**22, "")
    monkeypatch.setattr(NativeHandshake, "scripts", [long, *NativeHandshake.scripts])
    server = RedisServer(tmp_path, "--requirepass", "right")
    server.start()
    error = await make(f"redis://{login}127.0.0.1:{server.port}").fails()
    server.stop()
    assert isinstance(error, BackendRefused)
    assert str(error).startswith(f"redis at 127.0.0.1:{server.port}: refused (")
    assert "check the user name and the password" in str(error)
    assert "wrong@" not in str(error)


async def test_the_right_password_and_database_are_used(make: Make, tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--requirepass", "right")
    server.start()
    await make(f"redis://:right@127.0.0.1:{server.port}/3").dispatch(prepare(HELLO))
    server.stop()


async def test_a_user_without_permission_is_refused(make: Make, own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.acl_setuser("weak", enabled=True, passwords=["+p"], commands=["+ping"], keys=["*"])
    error = await make(f"redis://weak:p@127.0.0.1:{own_redis.port}").fails()
    assert isinstance(error, BackendRefused)
    assert "the 'info' command" in str(error)


async def test_what_is_no_redis_is_refused(make: Make) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    error = await make(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}").fails()
    server.close()
    await server.wait_closed()
    assert isinstance(error, BackendRefused)
    assert "is this a Redis?" in str(error)


async def test_a_replica_is_not_written_to(make: Make, own_redis: RedisServer, namespace: str) -> None:
    node = Node(RedisBackend(own_redis.url, namespace=namespace))
    await node.backend.open(node.receive)
    bus = make(own_redis.url)
    await bus.dispatch(prepare(HELLO))
    with redis.Redis.from_url(own_redis.url) as client:
        client.replicaof("127.0.0.1", free_port())
        error = await bus.fails(prepare(HELLO))
        client.replicaof("NO", "ONE")
    await bus.dispatch(sent := prepare(HELLO))
    await node.until(sent.message_id)
    await node.backend.aclose()
    assert isinstance(error, BackendUnavailable)
    assert not error.maybe_sent


async def test_a_full_redis_still_carries_messages(
    make: Make, own_redis: RedisServer, namespace: str
) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", 1)
    node = Node(RedisBackend(own_redis.url, namespace=namespace))
    await node.backend.open(node.receive)
    await node.backend.attach("alice", 1)
    (receipt,) = await make(own_redis.url).dispatch(prepare(HELLO, ["alice"]))
    await node.backend.aclose()
    assert receipt.nodes == 1


async def test_a_cluster_of_another_layout_is_refused(make: Make, redis_url: str, namespace: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.hset(f"mesa:{{{namespace}}}:meta", "partitions", "64")
        client.expire(f"mesa:{{{namespace}}}:meta", 60)
    error = await make(redis_url).fails()
    assert isinstance(error, BackendRefused)
    assert "with 64 partitions, and this one uses 1" in str(error)


async def test_a_closed_bus_refuses_calls(make: Make, redis_url: str) -> None:
    bus = make(redis_url)
    await bus.dispatch(prepare(HELLO))
    await bus.close()
    assert str(await bus.fails()) == "the dispatcher is closed; nothing was sent"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "5", None])
async def test_a_limit_that_is_none_is_refused(make: Make, timeout: object) -> None:
    with pytest.raises(InvalidSettings, match=r"^timeout: expected a number of seconds"):
        make("redis://localhost", timeout=timeout)


@pytest.mark.parametrize("module", [redis, redis.asyncio])
async def test_a_client_is_not_used_up(make: Make, redis_url: str, node: Node, module: Any) -> None:
    client = module.Redis.from_url(redis_url, decode_responses=True, protocol=3)
    bus = make(client)
    (receipt,) = await bus.dispatch(prepare(HELLO, ["alice"]))
    await bus.close()
    pong = client.ping()
    assert receipt.nodes == 1
    assert pong is True or await pong is True
    await client.aclose() if module is redis.asyncio else client.close()


async def test_a_unix_socket_is_used(make: Make, tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--unixsocket", str(tmp_path / "redis.sock"))
    server.start()
    (receipt,) = await make(f"unix://{tmp_path}/redis.sock").dispatch(prepare(HELLO))
    server.stop()
    assert receipt.nodes == 0


async def test_a_corrupt_key_concerns_its_id_alone(
    make: Make, node: Node, redis_url: str, namespace: str
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set(f"mesa:{{{namespace}.0}}:u:string", "x", ex=60)
        client.hset(f"mesa:{{{namespace}.0}}:u:odd", node.backend.node_id, "many")
        client.expire(f"mesa:{{{namespace}.0}}:u:odd", 60)
    (receipt,) = await make(redis_url).dispatch(prepare(HELLO, ["string", "alice", "odd"]))
    ((envelope,),) = await heard(node)
    assert envelope.recipients.ids == ("alice",)
    assert [delivery.dropped for delivery in receipt.deliveries.values()] == ["corrupt", None, "corrupt"]
    assert receipt.nodes == 1

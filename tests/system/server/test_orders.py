"""Disconnecting and revoking: facts, also for a server that was cut off when they were given."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mesa_ws import AsyncDispatcher, Connection, DispatchEvent, Message, Server, User
from mesa_ws.transports.run import Endpoint
from tests.faults.orders.gate import Cut, Gate
from tests.redis_server import RedisServer
from tests.system.proxy import Proxy
from tests.system.waiting import until

from .conftest import Joining, Serving
from .peer import Peer


def trusting(*place: str, **options: Any) -> Server:
    """A server whose clients say when their login was issued."""
    server = Server(*place, **options)

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"], issued_at=data.get("issued"))

    return server


async def log_in(peer: Peer, id: str, issued: float | None = None) -> None:
    members = f'"id": "{id}"' + ("" if issued is None else f', "issued": {issued}')
    await peer.raw(f'{{"op": 2, "d": {{{members}}}, "x": {{"v": 2}}}}')


async def test_all_connections_of_an_id_end_with_the_code(serving: Serving, join: Joining) -> None:
    server = trusting()
    endpoint = await serving(server)
    peers = [await join(endpoint, id) for id in ("1", "1", "2")]
    receipt = await server.disconnect(["1", "away"], 4100, "out")
    assert (len(receipt.done), receipt.pending) == (1, ())
    assert [await peer.closed() for peer in peers[:2]] == [4100, 4100]
    await server.send(Message(0, 1), ["2"])
    await peers[2].until(d=1)
    again = await join(endpoint, "1")
    await server.send(Message(0, 2), ["1"])
    await again.until(d=2)


async def test_a_revoked_login_ends_and_is_refused_and_a_newer_one_is_not(
    serving: Serving, join: Joining
) -> None:
    server = trusting()
    endpoint = await serving(server)
    now = int(time.time())
    logins = {"older": now - 10, "equal": now, "newer": now + 1, "unknown": None}
    peers = {name: await join(endpoint) for name in logins}
    for name, issued in logins.items():
        await log_in(peers[name], "1", issued)
        await peers[name].until(op=22)
    await server.revoke(["1"], issued_before=now)
    for name in ("older", "equal", "unknown"):
        assert await peers[name].closed() == 1008
        late = await join(endpoint)
        await log_in(late, "1", logins[name])
        assert await late.closed() == 1008
    await log_in(peers["newer"], "1", now + 2)
    await server.send(Message(0, 1), ["1"])
    await peers["newer"].until(d=1)
    await log_in(peers["newer"], "1", now)  # again on the same connection, with an older token
    assert await peers["newer"].closed() == 1008


@pytest.fixture
async def proxy(stack: AsyncExitStack, redis_server: RedisServer) -> Proxy:
    return await stack.enter_async_context(Proxy.to(redis_server.port))  # ends after the servers


@pytest.fixture
async def cut_off(serving: Serving, proxy: Proxy, namespace: str) -> tuple[Server, Endpoint]:
    """A server that a proxy can cut off from Redis."""
    server = trusting(proxy.url, namespace=namespace)
    return server, await serving(server)


@pytest.fixture
async def dispatcher(redis_url: str, namespace: str) -> AsyncIterator[AsyncDispatcher]:
    async with AsyncDispatcher(redis_url, namespace=namespace) as dispatcher:
        yield dispatcher


@pytest.mark.parametrize("sync", [False, True])
async def test_a_server_that_was_cut_off_carries_it_out_before_it_delivers(
    cut_off: tuple[Server, Endpoint],
    proxy: Proxy,
    dispatcher: AsyncDispatcher,
    redis_url: str,
    namespace: str,
    join: Joining,
    sync: bool,
) -> None:
    server, endpoint = cut_off
    gone, revoked, stays = await join(endpoint), await join(endpoint), await join(endpoint)
    for peer, id in ((gone, "1"), (revoked, "2"), (stays, "3")):
        await log_in(peer, id, 1000.0)
        await peer.until(op=22)
    proxy.is_shut = True
    proxy.cut()
    first = await dispatcher.disconnect(["1"], 4100)
    second = await dispatcher.revoke(["2"])
    assert (first.pending, second.pending) == ((server.backend.node_id,),) * 2
    async with AsyncDispatcher(redis_url, namespace=namespace, sync=sync) as later:
        for n in range(3):
            await later.dispatch(Message(0, n), ["1", "2", "3"])
        proxy.is_shut = False
        async with asyncio.timeout(30):
            while not server.backend.is_ready:
                await later.dispatch(Message(0, "MORE"), ["1", "2", "3"])
                await asyncio.sleep(0.01)
        await later.dispatch(Message(0, "LAST"), ["*"])
    assert (await gone.closed(), await revoked.closed()) == (4100, 1008)
    await stays.until(d="LAST")
    for peer in (gone, revoked):
        assert [frame for frame in peer.frames if frame["op"] == 0] == []
    progress = await dispatcher.status(second)
    assert progress.pending == ()


async def test_a_client_that_logged_in_after_the_order_stays(
    cut_off: tuple[Server, Endpoint], proxy: Proxy, dispatcher: AsyncDispatcher, join: Joining
) -> None:
    server, endpoint = cut_off
    before = await join(endpoint)
    await log_in(before, "1")
    await before.until(op=22)
    proxy.mute_subscribers()  # commands work, and so does the login
    await dispatcher.disconnect(["1"], 4100)
    after = await join(endpoint)
    await log_in(after, "1")
    await after.until(op=22)
    proxy.cut()
    assert await before.closed() == 4100
    await until(lambda: server.backend.is_ready)
    await dispatcher.dispatch(Message(0, 1), ["1"])
    await after.until(d=1)


async def test_a_client_that_logged_in_after_the_event_of_1x_stays(
    serving: Serving,
    redis_server: RedisServer,
    stack: AsyncExitStack,
    namespace: str,
    dispatcher: AsyncDispatcher,
    join: Joining,
) -> None:
    gate = await stack.enter_async_context(Gate.to(redis_server.port))
    server = trusting(f"redis://127.0.0.1:{gate.port}", namespace=namespace)
    endpoint = await serving(server)
    before = await join(endpoint)
    await log_in(before, "1")
    await before.until(op=22)
    gate.shut(Cut("held", "subscriber"))
    await dispatcher.dispatch(DispatchEvent("DISCONNECT_CLIENT"), ["1"])
    after = await join(endpoint)
    await log_in(after, "1")
    await after.until(op=22)
    gate.open()
    assert await before.closed() == 1000
    await dispatcher.dispatch(Message(0, 1), ["1"])
    await after.until(d=1)


@pytest.mark.parametrize("recipients", [["1"], ["*"]])
async def test_what_a_server_reads_reaches_no_client_that_an_unheard_order_ends(
    serving: Serving, proxy: Proxy, redis_url: str, namespace: str, join: Joining, recipients: list[str]
) -> None:
    server = trusting(proxy.url, namespace=namespace, sync=True)
    endpoint = await serving(server)
    gone = await join(endpoint)
    await log_in(gone, "1")
    await gone.until(op=22)
    proxy.mute_subscribers()  # commands work, and so do reads
    async with AsyncDispatcher(redis_url, namespace=namespace, sync=True) as dispatcher:
        await dispatcher.disconnect(["1"], 4100)
        await dispatcher.dispatch(Message(0, 1), recipients)
    if recipients == ["*"]:
        await server.fanout.broadcasts.catch_up()
    else:
        [connection] = server.connections
        assert connection.subscription is not None
        connection.subscription.invalidate()
    assert await gone.closed() == 4100
    assert [frame for frame in gone.frames if frame["op"] == 0] == []


@pytest.mark.parametrize("recipients", [["1"], ["*"]])
async def test_the_event_of_1x_reaches_a_server_that_was_cut_off(
    cut_off: tuple[Server, Endpoint],
    proxy: Proxy,
    dispatcher: AsyncDispatcher,
    join: Joining,
    recipients: list[str],
) -> None:
    server, endpoint = cut_off
    gone, stays = await join(endpoint), await join(endpoint)
    for peer, id in ((gone, "1"), (stays, "2")):
        await log_in(peer, id)
        await peer.until(op=22)
    proxy.is_shut = True
    proxy.cut()
    receipt = await dispatcher.dispatch(DispatchEvent("DISCONNECT_CLIENT"), recipients, ["2"])
    assert [(id, each.online) for id, each in receipt.deliveries.items()] == (
        [] if recipients == ["*"] else [("1", 1)]
    )
    await dispatcher.dispatch(Message(0, 1))
    proxy.is_shut = False
    assert await gone.closed() == 1000
    assert [frame for frame in gone.frames if frame["op"] == 0] == []
    await until(lambda: server.backend.is_ready)
    await dispatcher.dispatch(Message(0, 2))
    await stays.until(d=2)

"""Message sync over Redis: dispatchers, several nodes, and what passes them by."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from mesa_ws.dispatcher import AsyncDispatcher
from mesa_ws.messages.message import Message
from mesa_ws.transports.run import Server

from .conftest import Joining, Serving
from .peer import LIMIT
from .sync import data, numbers, storing, until, until_unproven


@pytest.fixture
async def dispatcher(redis_url: str, namespace: str) -> AsyncIterator[AsyncDispatcher]:
    async with AsyncDispatcher(redis_url, namespace=namespace, sync=True) as dispatcher:
        yield dispatcher


def node(redis_url: str, namespace: str, **options: object) -> Server:
    return storing(redis_url, namespace=namespace, **{"sync": False} | options)


async def dispatch(dispatcher: AsyncDispatcher, *ns: int, to: str = "1") -> None:
    for n in ns:
        await dispatcher.dispatch(Message(0, n, "N"), ["*"] if to == "*" else [to])


async def test_what_was_dispatched_while_away_arrives_and_is_proven(
    serving: Serving, join: Joining, dispatcher: AsyncDispatcher, redis_url: str, namespace: str
) -> None:
    server = node(redis_url, namespace)
    endpoint = await serving(server)
    await dispatch(dispatcher, 1, 2, 3)
    peer = await join(endpoint)
    await peer.log_in("1")
    await dispatch(dispatcher, 4)
    frames = await peer.messages(4)
    assert (data(frames), numbers(frames)) == ([1, 2, 3, 4], [1, 2, 3, None])
    await peer.answer()
    await until_unproven(server, 0)
    await peer.socket.close()
    await dispatch(dispatcher, 5)
    again = await join(endpoint)
    await again.log_in("1")
    assert data(await again.messages(1)) == [5]


async def test_a_client_resumes_on_another_node(
    serving: Serving, join: Joining, dispatcher: AsyncDispatcher, redis_url: str, namespace: str
) -> None:
    servers = [node(redis_url, namespace) for _ in range(2)]
    here, there = [await serving(server) for server in servers]
    before = [server.fanout.broadcasts.position for server in servers]
    await dispatch(dispatcher, 0, to="*")
    await until(
        lambda: all(s.fanout.broadcasts.position != was for s, was in zip(servers, before, strict=True))
    )
    peer = await join(here)
    x = await peer.log_in("1", wire=2)
    await dispatch(dispatcher, 1, 2)
    await dispatch(dispatcher, 3, to="*")
    frames = await peer.messages(3)
    assert data(frames) == [1, 2, 3]
    await peer.acknowledge(x["e"], 2)
    await peer.socket.close()
    await dispatch(dispatcher, 4)
    await dispatch(dispatcher, 5, to="*")
    other = await join(there)
    place = {"e": x["e"], "s": 1, "b": {"e": x["b"]["e"], "s": frames[2]["b"]}}
    again = await other.log_in("1", wire=2, resume=place)
    assert [again[member] for member in ("e", "s", "status", "lost")] == [x["e"], 1, "resumed", 0]
    assert again["b"]["status"] == "resumed"
    assert data(await other.messages(3)) == [2, 4, 5]


@pytest.mark.parametrize("wire", [1, 2])
async def test_a_node_whose_subscription_is_cut_misses_nothing(
    serving: Serving,
    join: Joining,
    dispatcher: AsyncDispatcher,
    redis_url: str,
    namespace: str,
    wire: int,
) -> None:
    server = node(redis_url, namespace)
    endpoint = await serving(server)
    peer = await join(endpoint)
    await peer.log_in("1", wire=wire)
    await dispatch(dispatcher, 1)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.client_kill_filter(_type="pubsub")
    await dispatch(dispatcher, 2, 3)
    await dispatch(dispatcher, 4, to="*")
    assert sorted(data(await peer.messages(4))) == [1, 2, 3, 4]
    await until(lambda: server.is_ready)


async def test_a_long_backlog_arrives_whole_over_redis(
    serving: Serving, join: Joining, dispatcher: AsyncDispatcher, redis_url: str, namespace: str
) -> None:
    endpoint = await serving(node(redis_url, namespace))
    await dispatcher.dispatch_many([(Message(0, n, "N"), ["1"]) for n in range(900)])
    peer = await join(endpoint)
    await peer.log_in("1", wire=2)
    assert numbers(await peer.messages(900)) == list(range(1, 901))


async def test_one_of_two_nodes_tells_that_an_id_came_and_went(
    serving: Serving, join: Joining, redis_url: str, namespace: str
) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    endpoints = []
    for _ in range(2):
        server = node(redis_url, namespace, presence={"grace": 0})

        @server.on_online
        async def came(id: str) -> None:
            told.put_nowait(f"{id} came")

        @server.on_offline
        async def gone(id: str) -> None:
            told.put_nowait(f"{id} went")

        endpoints.append(await serving(server))
    first, second = [await join(endpoint, "1") for endpoint in endpoints]
    async with asyncio.timeout(LIMIT):
        assert await told.get() == "1 came"
        await first.socket.close()
        await second.socket.close()
        assert await told.get() == "1 went"
    assert told.empty()

"""Nodes in a cluster of 1.x: the ids that they declare, their counts, and the cleanup after dead nodes."""

import asyncio
import logging
from typing import Any

import pytest
import redis.asyncio

from mesa_ws.backend.mesa1 import Mesa1Backend, commands
from mesa_ws.backend.mesa1.commands import SWAP
from mesa_ws.backend.mesa1.keys import Mesa1Keys
from mesa_ws.backend.mesa1.node import Mesa1Node
from mesa_ws.backend.queries import Online
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import Message
from tests.contract.cluster import LIMIT, Cluster, Node
from tests.contract.storing import KEEP
from tests.system.waiting import until, until_ready

Redis = redis.asyncio.Redis


async def until_members(client: Redis, keys: Mesa1Keys, *ids: str) -> None:
    async def is_so() -> bool:
        return set(await client.smembers(keys.connected)) == set(ids)

    await until(is_so)


async def until_count(client: Redis, keys: Mesa1Keys, count: int) -> None:
    async def is_so() -> bool:
        return int(await client.get(keys.connections) or 0) == count

    await until(is_so)


def backend(node: Node) -> Mesa1Backend:
    assert isinstance(node.backend, Mesa1Backend)
    return node.backend


async def crash(node: Node) -> None:
    """End a node as a kill would: without leaving the cluster."""
    resident: Mesa1Node | None = backend(node)._node
    assert resident is not None
    await resident._tasks.aclose(1.0)
    await resident.subscriber.aclose()
    await resident.pipelines.aclose()
    backend(node)._node = None


async def test_an_id_leaves_with_its_last_device_of_all_nodes(
    cluster: Cluster, client: Redis, keys: Mesa1Keys
) -> None:
    one, two = await cluster.node({"a": 2}), await cluster.node({"a": 1})
    assert await one.backend.query(Online(["a", "b"])) == {"a": 3, "b": 0}
    one.backend.detach("a")
    assert await one.backend.query(Online(["a"])) == {"a": 1}
    assert await client.smembers(keys.connected) == {"a"}
    two.backend.detach("a")
    await until_members(client, keys)


async def test_all_connections_are_counted(cluster: Cluster, client: Redis, keys: Mesa1Keys) -> None:
    await client.set(keys.connections, 5)
    one, two = await cluster.node(), await cluster.node()
    backend(one).connected(3)
    backend(two).connected(1)
    await until_count(client, keys, 9)
    backend(one).connected(2)
    await until_count(client, keys, 8)
    await one.backend.aclose()
    await until_count(client, keys, 6)


@pytest.mark.parametrize("wrong", ["-3", None])
async def test_the_number_is_never_less_than_our_connections(
    cluster: Cluster, client: Redis, keys: Mesa1Keys, wrong: str | None
) -> None:
    one, two = await cluster.node(), await cluster.node()
    backend(one).connected(2)
    backend(two).connected(1)
    await until_count(client, keys, 3)
    await (client.delete(keys.connections) if wrong is None else client.set(keys.connections, wrong))
    await until_count(client, keys, 3)
    await one.backend.aclose()
    await two.backend.aclose()
    assert await client.get(keys.connections) == "0"


async def test_a_node_that_crashed_is_cleaned_up_after(
    cluster: Cluster, client: Redis, keys: Mesa1Keys
) -> None:
    dead, alive = await cluster.node({"ghost": 1, "both": 1}), await cluster.node({"both": 1})
    backend(dead).connected(7)
    backend(alive).connected(1)
    await until_count(client, keys, 8)
    await crash(dead)
    await until_count(client, keys, 1)
    await until_members(client, keys, "both")
    await alive.until_told("offline", "ghost")


async def test_an_id_that_a_peer_took_out_comes_back(
    cluster: Cluster, client: Redis, keys: Mesa1Keys
) -> None:
    node = await cluster.node({"a": 1})
    await client.srem(keys.connected, "a")
    await client.hset(keys.undelivered, "a", '[{"op":0,"d":"meanwhile"}]')
    await until_members(client, keys, "a")
    await until(lambda: bool(node.received))
    [found] = node.received
    assert found.body == b'{"op":0,"d":"meanwhile"}'
    assert [position.sequence for position in found.positions] == [1]


async def test_all_is_declared_anew_when_redis_forgot(
    cluster: Cluster, client: Redis, keys: Mesa1Keys
) -> None:
    node = await cluster.node({"a": 2})
    backend(node).connected(4)
    await until_count(client, keys, 4)
    await client.delete(*[key async for key in client.scan_iter(f"*{keys.namespace}*")])
    await until_count(client, keys, 4)
    await until_members(client, keys, "a")
    await until_ready(node)
    assert await node.backend.query(Online(["a"])) == {"a": 2}


async def test_who_comes_and_goes_is_told_once(cluster: Cluster) -> None:
    nodes = [await cluster.node(grace=0.05) for _ in range(2)]
    for node in nodes:
        await node.backend.attach("a", 1)
    for node in nodes:
        node.backend.detach("a")
    await until(lambda: any(("offline", "a") in node.changes for node in nodes))
    changes = [change for node in nodes for change in node.changes]
    assert changes == [("online", "a"), ("offline", "a")]


@pytest.mark.parametrize("garbage", ["null", "{}", "secret garbage", '{"message":null,"recipients":["*"]}'])
async def test_garbage_is_survived_and_not_logged(
    cluster: Cluster, client: Redis, keys: Mesa1Keys, garbage: str, caplog: pytest.LogCaptureFixture
) -> None:
    node = await cluster.node({"7": 1})
    with caplog.at_level(logging.WARNING, "mesa_ws.backend"):
        await client.publish(keys.messages, garbage)
        await client.publish(keys.messages, '{"message":{"op":0,"d":1},"recipients":[7]}')
        await until(lambda: bool(node.received))
    assert node.received[0].recipients.ids == ("7",)
    assert f"ignored {len(garbage)} bytes" in caplog.text
    assert garbage not in caplog.text


async def test_a_list_that_changed_since_it_was_read_is_not_replaced(client: Redis, keys: Mesa1Keys) -> None:
    async def swap(was: bytes, becomes: bytes) -> Any:
        return await client.execute_command(*commands.swap(keys, "a", was, becomes).command)  # type: ignore[no-untyped-call]

    await client.script_load(SWAP.source)
    await client.hset(keys.undelivered, "a", "[1,2]")
    assert await swap(b"[1]", b"") == 0
    assert await client.hget(keys.undelivered, "a") == "[1,2]"
    assert await swap(b"[1,2]", b"[2]") == 1
    assert await client.hget(keys.undelivered, "a") == "[2]"
    assert await swap(b"[2]", b"") == 1
    assert not await client.hexists(keys.undelivered, "a")


async def test_a_message_arrives_once_on_every_node(cluster: Cluster) -> None:
    nodes = [await cluster.node({"a": 1}), await cluster.node({"a": 1})]
    await nodes[0].backend.dispatch([prepare(Message(0, n), ["a"]) for n in range(3)])
    for node in nodes:
        async with asyncio.timeout(LIMIT):
            while len(node.received) < 3:
                node._news.clear()
                await node._news.wait()
        assert [envelope.body for envelope in node.received] == [b'{"op":0,"d":%d}' % n for n in range(3)]


async def test_a_crashed_nodes_ids_are_stored_for(cluster: Cluster, client: Redis, keys: Mesa1Keys) -> None:
    dead = await cluster.node({"ghost": 1})
    await crash(dead)
    other = await cluster.node()

    async def is_stored() -> bool:
        envelope: Any = prepare(Message(0, 1), ["ghost"], retention=KEEP)
        [receipt] = await other.backend.dispatch([envelope])
        return receipt.deliveries["ghost"].stored

    await until(is_stored)
    assert await client.hexists(keys.undelivered, "ghost")

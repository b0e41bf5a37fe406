"""Nodes are notified of ids that come online or go offline, once per change in the whole cluster."""

import asyncio

from mesa_ws.backend.queries import Online, OnlineCount
from tests.contract.cluster import LIMIT, Cluster, heard
from tests.contract.storing import store

SHORT = 0.05
LONG = 3600.0


async def test_an_id_that_comes_is_online(cluster: Cluster) -> None:
    node = await cluster.node(grace=LONG)
    await node.backend.attach("alice", 1)
    await node.until_told("online", "alice")


async def test_an_id_that_comes_to_a_second_node_is_not_notified_again(cluster: Cluster) -> None:
    first, second = await cluster.node(grace=LONG), await cluster.node(grace=LONG)
    for node in (first, second, first):
        await node.backend.attach("alice", 1)
    await second.backend.attach("bob", 1)
    await second.until_told("online", "bob")
    assert (first.changes, second.changes) == ([("online", "alice")], [("online", "bob")])


async def test_more_connections_are_no_change(cluster: Cluster) -> None:
    node = await cluster.node(grace=LONG)
    for sockets in (1, 2, 1):
        await node.backend.attach("alice", sockets)
    await node.backend.attach("bob", 1)
    await node.until_told("online", "bob")
    assert node.changes == [("online", "alice"), ("online", "bob")]


async def test_an_id_that_stays_away_is_offline(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1}, grace=SHORT)
    node.backend.detach("alice")
    await node.until_told("offline", "alice")
    assert node.changes == [("online", "alice"), ("offline", "alice")]


async def test_an_id_that_comes_back_in_time_was_never_away(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1, "bob": 1}, grace=1.0)
    node.backend.detach("alice")
    await node.backend.attach("alice", 1)
    node.backend.detach("bob")
    await node.until_told("offline", "bob")
    assert node.changes == [("online", "alice"), ("online", "bob"), ("offline", "bob")]


async def test_an_id_may_come_back_to_another_node_in_time(cluster: Cluster) -> None:
    first, second = await cluster.node({"alice": 1, "bob": 1}, grace=1.0), await cluster.node(grace=1.0)
    first.backend.detach("alice")
    await heard(first, second)
    await second.backend.attach("alice", 1)
    first.backend.detach("bob")
    await first.until_told("offline", "bob")
    assert ("offline", "alice") not in first.changes
    assert second.changes == []


async def test_an_id_that_another_node_holds_is_not_offline(cluster: Cluster) -> None:
    first, second = await cluster.node({"alice": 1, "bob": 1}, grace=SHORT), await cluster.node({"alice": 1})
    first.backend.detach("alice")
    first.backend.detach("bob")
    await first.until_told("offline", "bob")
    assert ("offline", "alice") not in first.changes + second.changes


async def test_an_id_that_comes_back_later_is_online_again(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1}, grace=SHORT)
    node.backend.detach("alice")
    await node.until_told("offline", "alice")
    node.changes.clear()
    await node.backend.attach("alice", 1)
    await node.until_told("online", "alice")
    assert node.changes == [("online", "alice")]


async def test_one_node_is_notified_that_an_id_stays_away(cluster: Cluster) -> None:
    nodes = [await cluster.node(grace=SHORT) for _ in range(3)]
    for node in nodes:
        await node.backend.attach("alice", 1)
        await node.backend.attach("bob", 1)
    for id in ("alice", "bob"):
        for node in nodes:
            node.backend.detach(id)
            await node.backend.query(Online([id]))
    async with asyncio.timeout(LIMIT):
        while all(("offline", "bob") not in node.changes for node in nodes):
            await asyncio.sleep(0.01)
    await heard(*nodes)
    told = [change for node in nodes for change in node.changes]
    assert [told.count(("offline", id)) for id in ("alice", "bob")] == [1, 1]


async def test_other_nodes_are_notified_of_the_ids_of_a_closed_node(cluster: Cluster) -> None:
    closed, open = await cluster.node({"alice": 1}, grace=SHORT), await cluster.node(grace=SHORT)
    await closed.backend.aclose()
    await open.until_told("offline", "alice")


async def test_ids_are_counted_once_each(cluster: Cluster) -> None:
    first, second = await cluster.node({"alice": 2, "bob": 1}), await cluster.node({"alice": 1, "carol": 1})
    assert [await node.backend.query(OnlineCount()) for node in (first, second)] == [3, 3]


async def test_an_empty_cluster_counts_no_ids(cluster: Cluster) -> None:
    assert await (await cluster.node()).backend.query(OnlineCount()) == 0


async def test_ids_that_left_are_not_counted(cluster: Cluster) -> None:
    node, closed = await cluster.node({"alice": 1, "bob": 1}), await cluster.node({"carol": 1})
    node.backend.detach("alice")
    await closed.backend.aclose()
    assert await node.backend.query(OnlineCount()) == 1


async def test_stored_messages_do_not_make_an_id_online(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 1)
    assert await node.backend.query(OnlineCount()) == 0

"""Listing of all online ids, and count of all connections, on every wire."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from mesa_ws.backend.base import Backend
from mesa_ws.backend.memory import MemoryBackend, MemoryHub
from mesa_ws.backend.mesa1 import Mesa1Backend
from mesa_ws.backend.presence import ClusterPresence
from mesa_ws.backend.queries import OnlineIds
from mesa_ws.backend.redis import RedisBackend
from mesa_ws.errors import InvalidInput
from tests.contract.cluster import LIMIT, Cluster, Node
from tests.contract.conftest import url_for

LEASE = 3.0
"""Seconds; short enough to wait for a heartbeat, longer than a busy machine stalls."""


@pytest.fixture(params=["memory", "redis", "mesa1", "redis-8", "mesa1-8"])
async def cluster(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Cluster]:
    hub = MemoryHub()

    def make(namespace: str) -> Backend:
        if request.param == "memory":
            return MemoryBackend(hub, namespace=namespace)
        kind = RedisBackend if request.param.startswith("redis") else Mesa1Backend
        return kind(url_for(request, request.param), namespace=namespace, lease=LEASE)

    async with AsyncExitStack() as stack:
        yield Cluster(make, namespace, stack)


def presence(node: Node) -> ClusterPresence:
    return ClusterPresence(node.backend)


async def listed(node: Node) -> list[str]:
    return [id async for id in presence(node).ids()]


async def until(question: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LIMIT):
        while not await question():
            await asyncio.sleep(0.01)


async def until_counted(node: Node, connections: int) -> None:
    async def is_so() -> bool:
        return await presence(node).connections() == connections

    await until(is_so)


async def test_ids_of_all_nodes_are_listed_once(cluster: Cluster) -> None:
    first = await cluster.node({"alice": 2, "bob": 1})
    second = await cluster.node({"alice": 1, "carol": 1, "é": 1})
    for node in (first, second):
        assert sorted(await listed(node)) == ["alice", "bob", "carol", "é"]


async def test_an_empty_cluster_lists_no_ids(cluster: Cluster) -> None:
    assert await listed(await cluster.node()) == []


async def test_ids_that_left_are_not_listed(cluster: Cluster) -> None:
    node, closed = await cluster.node({"alice": 1, "bob": 1}, grace=60.0), await cluster.node({"carol": 1})
    node.backend.detach("alice")
    await closed.backend.aclose()
    assert await listed(node) == ["bob"]


async def test_many_ids_come_in_pages(cluster: Cluster) -> None:
    ids = {f"id {n}" for n in range(1700)}
    node = await cluster.node()
    await asyncio.gather(*(node.backend.attach(id, 1) for id in ids))
    page = await node.backend.query(OnlineIds(""))
    assert 0 < len(page.ids) < 1000
    assert page.cursor is not None
    assert Counter(await listed(node)) == Counter(ids)


async def test_ids_that_stay_are_listed_while_others_come_and_go(cluster: Cluster) -> None:
    stay, go, come = ([f"{word} {n}" for n in range(700)] for word in ("stay", "go", "come"))
    node = await cluster.node()
    await asyncio.gather(*(node.backend.attach(id, 1) for id in (*stay, *go)))
    seen: set[str] = set()
    async for id in presence(node).ids():
        seen.add(id)
        if go:
            node.backend.detach(go.pop())
            await node.backend.attach(come.pop(), 1)
    assert set(stay) <= seen


async def test_leaving_the_loop_early_is_fine(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1, "bob": 1})
    async for id in presence(node).ids():
        assert id in {"alice", "bob"}
        break
    assert len(await listed(node)) == 2


async def test_namespaces_do_not_list_each_others_ids(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    other = await cluster.node({"bob": 1}, namespace=cluster.namespace + ".other")
    assert (await listed(node), await listed(other)) == (["alice"], ["bob"])


async def test_connections_are_counted_whether_they_have_an_id_or_not(cluster: Cluster) -> None:
    first, second = await cluster.node({"alice": 1}), await cluster.node()
    first.backend.connected(3)
    second.backend.connected(4)
    await until_counted(first, 7)
    first.backend.connected(1)
    await until_counted(second, 5)


async def test_connections_of_a_closed_node_do_not_count(cluster: Cluster) -> None:
    closed, open = await cluster.node(), await cluster.node()
    closed.backend.connected(3)
    open.backend.connected(1)
    await until_counted(open, 4)
    await closed.backend.aclose()
    assert await presence(open).connections() == 1


async def test_a_node_that_is_reopened_has_no_connections(cluster: Cluster) -> None:
    node = await cluster.node()
    node.backend.connected(3)
    await until_counted(node, 3)
    await node.backend.aclose()
    await node.backend.open(node.receive, node)
    assert await presence(node).connections() == 0


async def test_a_closed_backend_accepts_a_number_of_connections(cluster: Cluster) -> None:
    cluster.backend().connected(3)


@pytest.mark.parametrize("cluster", ["redis", "mesa1"], indirect=True)
@pytest.mark.parametrize("cursor", ["x", "-1", "²", str(2**64), "1" * 200])
async def test_a_cursor_that_no_page_had_is_refused(cluster: Cluster, cursor: str) -> None:
    node = await cluster.node({"alice": 1})
    with pytest.raises(InvalidInput, match=r"^cursor: expected that of the previous page"):
        await node.backend.query(OnlineIds(cursor))

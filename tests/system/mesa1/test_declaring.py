"""Messages to ids that a node holds, stored while Redis did not have the ids, on the 1.x Redis wire."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from mesa_ws.backend.mesa1 import Mesa1Backend
from mesa_ws.backend.mesa1.keys import Mesa1Keys
from mesa_ws.backend.outbox import Acknowledgement, Start
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import Message
from mesa_ws.messages.receipt import Position
from tests.contract.cluster import Node, heard
from tests.contract.storing import KEEP
from tests.system.waiting import until

Redis = redis.asyncio.Redis

LONG = 60.0
"""Seconds of a lease; the next heartbeat comes after a third of them, longer than a test waits."""


class Doubting(Node):
    """Counts how often the backend asked it to read everything again."""

    def __init__(self, backend: Mesa1Backend) -> None:
        super().__init__(backend)
        self.doubts = 0

    async def catch_up(self) -> None:
        self.doubts += 1


@pytest.fixture
async def node(redis_url: str, namespace: str) -> AsyncIterator[Doubting]:
    node = Doubting(Mesa1Backend(redis_url, namespace=namespace, lease=LONG))
    await node.backend.open(node.receive, node)
    yield node
    await node.backend.aclose()


async def until_kept(client: Redis, keys: Mesa1Keys, id: str, kept: str | None) -> None:
    async def is_so() -> bool:
        return bool(await client.hget(keys.undelivered, id) == kept)

    await until(is_so)


async def test_what_was_stored_while_a_peer_had_taken_an_id_out_comes_when_one_of_its_devices_leaves(
    node: Doubting, client: Redis, keys: Mesa1Keys
) -> None:
    """The id is declared with one device less, and so comes back before a heartbeat would notice."""
    await node.backend.attach("a", 2)
    async with client.pipeline(transaction=True) as pipeline:
        pipeline.srem(keys.connected, "a")
        pipeline.hset(keys.undelivered, "a", '[{"op":0,"d":"meanwhile"}]')
        await pipeline.execute()
    await node.backend.attach("a", 1)
    await until(lambda: [each.body for each in node.received] == [b'{"op":0,"d":"meanwhile"}'])


async def test_a_lease_that_was_lost_is_noticed_by_a_login(
    node: Doubting, client: Redis, keys: Mesa1Keys
) -> None:
    """The node takes a new lease, so no heartbeat notices that messages to others may have been stored."""
    await node.backend.attach("a", 1, Start("fresh"))
    await client.zrem(keys.leases, node.backend.node_id)
    await node.backend.attach("b", 1, Start("fresh"))
    await until(lambda: node.doubts == 1)


async def test_what_is_stored_for_clients_of_a_node_without_a_lease_is_not_published_too(
    node: Doubting, client: Redis, keys: Mesa1Keys
) -> None:
    """The node would hear the message, and read it when it notices that it has lost its lease."""
    await node.backend.attach("a", 1, Start("fresh"))
    await client.zadd(keys.leases, {node.backend.node_id: 1})
    sent: Any = prepare(Message(0, "once"), ["a"], retention=KEEP)
    [receipt] = await node.backend.dispatch([sent])
    assert receipt.deliveries["a"].stored
    assert await heard(node) == [[]]


async def test_a_list_in_which_something_else_appears_is_still_shrunk_by_what_is_proven(
    node: Doubting, client: Redis, keys: Mesa1Keys
) -> None:
    """npm's servers store events, too; an acknowledged message must not come again."""
    await client.hset(keys.undelivered, "a", '[{"op":0,"d":1},{"op":0,"d":2}]')
    page = await node.backend.attach("a", 1, Start("fresh"))
    assert page is not None
    event = '{"op":5,"d":{},"t":"DISCONNECT_CLIENT"}'
    await client.hset(keys.undelivered, "a", f'[{{"op":0,"d":1}},{{"op":0,"d":2}},{event},{{"op":0,"d":3}}]')
    node.backend.acknowledge([Acknowledgement("a", Position(page.epoch, 2), 2)])
    await until_kept(client, keys, "a", '[{"op":0,"d":3}]')
    assert await client.lrange(keys.set_aside("a"), 0, -1)
    await until(lambda: bool(node.received))
    assert [each.body for each in node.received] == [b'{"op":0,"d":3}']

"""Operators look into outboxes, purge them, and query the state of a message."""

import asyncio
import time

from mesa_ws.backend.queries import Heads, Peek
from mesa_ws.messages.receipt import Position, Receipt, judge
from tests.contract.cluster import LIMIT, Cluster, Node
from tests.contract.storing import KEEP, acknowledge, attach, bodies, kept, read, resume, sent_bodies, store


async def state(node: Node, receipt: Receipt) -> str:
    """Return the state of a message to alice."""
    return judge(receipt, await node.backend.query(Heads(["alice"]))).ids["alice"].state


async def test_the_first_messages_are_shown(cluster: Cluster) -> None:
    node = await cluster.node()
    before = time.time()
    sent = await store(node, 5, retention=KEEP._replace(ttl=600.0))
    shown = await node.backend.query(Peek("alice", 3))
    assert [each.sequence for each in shown] == [1, 2, 3]
    assert [each.message_id for each in shown] == [envelope.message_id for envelope in sent[:3]]
    assert [each.body for each in shown] == sent_bodies(sent[:3])
    for each in shown:
        assert before - 1 < each.at < time.time() + 1
        assert round(each.expires - each.at, 3) == 600.0


async def test_looking_changes_nothing(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 5)
    assert await node.backend.query(Peek("alice", 100)) == await node.backend.query(Peek("alice", 100))
    assert len((await attach(node)).entries) == 5


async def test_an_unknown_id_has_no_messages(cluster: Cluster) -> None:
    node = await cluster.node()
    assert await node.backend.query(Peek("unknown", 10)) == []
    assert await node.backend.query(Heads(["unknown"])) == {"unknown": None}


async def test_an_outbox_that_is_purged_is_empty(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 5)
    assert await node.backend.purge("alice") == 5
    assert (await attach(node)).entries == ()
    assert await node.backend.query(Peek("alice", 10)) == []
    assert await node.backend.purge("alice") == 0


async def test_purged_messages_count_as_received_by_a_client_without_a_position(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 5)
    await node.backend.purge("alice")
    page = await attach(node)
    assert (page.status, page.start, page.lost) == ("fresh", 5, 0)


async def test_a_client_with_a_position_learns_how_many_were_purged(cluster: Cluster) -> None:
    node = await cluster.node()
    epoch = (await attach(node)).epoch
    await store(node, 5)
    await node.backend.purge("alice")
    page = await resume(node, Position(epoch, 2))
    assert (page.status, page.lost, page.start) == ("resumed", 3, 5)


async def test_a_connection_that_reads_on_learns_how_many_were_purged(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 300)
    page = await attach(node)
    await node.backend.purge("alice")
    assert (await read(node, page.epoch, page.last)).lost == 44


async def test_messages_after_a_purge_are_kept(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 5)
    await node.backend.purge("alice")
    sent = await store(node, 2)
    page = await attach(node)
    assert (page.start, bodies(page)) == (5, sent_bodies(sent))


async def test_purging_an_unknown_id_drops_nothing(cluster: Cluster) -> None:
    node = await cluster.node()
    assert await node.backend.purge("unknown") == 0
    assert await node.backend.query(Heads(["unknown"])) == {"unknown": None}


async def test_a_head_describes_its_outbox(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 8, retention=KEEP._replace(max_messages=6))
    epoch = (await attach(node)).epoch
    acknowledge(node, epoch, 5)
    [head] = (await node.backend.query(Heads(["alice"]))).values()
    assert head is not None
    assert (head.epoch, head.top, head.acknowledged, head.length) == (epoch, 8, 5, 3)
    assert (head.forks, head.dropped) == ((), ((1, 2),))


async def test_the_heads_of_many_ids_are_read_at_once(cluster: Cluster) -> None:
    node, ids = await cluster.node(), [f"id-{n}" for n in range(450)]
    await node.backend.dispatch([kept(1, ids[::2])])
    heads = await node.backend.query(Heads(iter(ids)))
    assert list(heads) == ids
    assert [head and head.top for head in heads.values()] == [1, None] * 225


async def test_a_message_is_pending_until_it_was_acknowledged(cluster: Cluster) -> None:
    node = await cluster.node()
    [receipt] = await node.backend.dispatch([kept(1)])
    states = [await state(node, receipt)]
    acknowledge(node, (await attach(node)).epoch, 1)
    assert [*states, await state(node, receipt)] == ["pending", "settled"]


async def test_a_message_that_made_room_was_dropped(cluster: Cluster) -> None:
    node, retention = await cluster.node(), KEEP._replace(max_messages=1)
    receipts = await node.backend.dispatch([kept(n, retention=retention) for n in range(2)])
    assert [await state(node, receipt) for receipt in receipts] == ["dropped", "pending"]


async def test_a_message_whose_time_is_over_was_dropped(cluster: Cluster) -> None:
    node = await cluster.node()
    [early] = await node.backend.dispatch([kept(1, retention=KEEP._replace(ttl=0.05))])
    [late] = await node.backend.dispatch([kept(2)])
    async with asyncio.timeout(LIMIT):
        while await state(node, early) == "pending":
            pass
    assert [await state(node, each) for each in (early, late)] == ["dropped", "pending"]
    assert [each.sequence for each in await node.backend.query(Peek("alice", 10))] == [2]


async def test_a_message_that_was_dropped_is_not_settled_by_what_follows(cluster: Cluster) -> None:
    node, retention = await cluster.node(), KEEP._replace(max_messages=1)
    receipts = await node.backend.dispatch([kept(n, retention=retention) for n in range(2)])
    acknowledge(node, (await attach(node)).epoch, 2)
    assert [await state(node, receipt) for receipt in receipts] == ["dropped", "settled"]


async def test_a_purged_message_was_dropped(cluster: Cluster) -> None:
    node = await cluster.node()
    [receipt] = await node.backend.dispatch([kept(1)])
    await node.backend.purge("alice")
    assert await state(node, receipt) == "dropped"


async def test_a_head_has_the_last_ranges_of_dropped_messages(cluster: Cluster) -> None:
    node, retention = await cluster.node(), KEEP._replace(max_messages=1)
    epoch = (await attach(node)).epoch
    for n in range(1, 11):
        await node.backend.dispatch([kept(n, retention=retention), kept(-n, retention=retention)])
        acknowledge(node, epoch, 2 * n)
    [head] = (await node.backend.query(Heads(["alice"]))).values()
    assert head is not None
    assert head.dropped == tuple((2 * n - 1, 2 * n - 1) for n in range(3, 11))

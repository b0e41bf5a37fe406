"""Limits of outboxes: dropped messages are counted, and readers learn how many."""

import asyncio

from mesa_ws.backend.queries import Heads
from mesa_ws.messages.envelope import Retention
from mesa_ws.messages.receipt import Position
from tests.contract.cluster import LIMIT, Cluster
from tests.contract.storing import (
    KEEP,
    WIRE2,
    acknowledge,
    attach,
    bodies,
    kept,
    read,
    resume,
    sent_bodies,
    store,
)


async def test_the_oldest_messages_over_the_number_are_lost(cluster: Cluster) -> None:
    node = await cluster.node()
    sent = await store(node, 8, retention=KEEP._replace(max_messages=5))
    page = await attach(node)
    assert (page.start, page.top, page.lost) == (3, 8, 3)
    assert bodies(page) == sent_bodies(sent[3:])


async def test_the_oldest_messages_over_the_bytes_are_lost(cluster: Cluster) -> None:
    node = await cluster.node()
    retention = KEEP._replace(max_bytes=3000)
    await store(node, 6, retention=retention, size=1000)
    first = await attach(node)
    assert (first.start, first.lost, len(first.entries)) == (3, 3, 3)
    await store(node, 1, retention=retention, size=2500)
    page = await read(node, first.epoch, first.last)
    assert (page.start, page.lost, len(page.entries)) == (6, 0, 1)


async def test_a_message_as_large_as_the_outbox_has_it_alone(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 3, retention=KEEP._replace(max_bytes=1000), size=1000)
    page = await attach(node)
    assert (page.lost, len(page.entries)) == (2, 1)


async def test_a_receipt_has_the_number_of_dropped_messages(cluster: Cluster) -> None:
    node, retention = await cluster.node(), KEEP._replace(max_messages=3, max_bytes=3000)
    await store(node, 3, retention=retention, size=900)
    receipts = await node.backend.dispatch(
        [kept(n, retention=retention, size=size) for n, size in ((1, 100), (2, 2901))]
    )
    assert [receipt.deliveries["alice"].displaced for receipt in receipts] == [1, 3]


async def test_received_messages_make_room_without_being_counted(cluster: Cluster) -> None:
    node, retention = await cluster.node(window=3600.0), KEEP._replace(max_messages=3)
    await store(node, 3, retention=retention)
    page = await attach(node, start=WIRE2)
    acknowledge(node, page.epoch, 2)
    receipts = await node.backend.dispatch([kept(n, retention=retention) for n in range(3)])
    assert [receipt.deliveries["alice"].displaced for receipt in receipts] == [0, 0, 1]
    [head] = (await node.backend.query(Heads(["alice"]))).values()
    assert head is not None
    assert head.dropped == ((3, 3),)


async def test_a_position_before_dropped_messages_learns_how_many(cluster: Cluster) -> None:
    node, retention = await cluster.node(), KEEP._replace(max_messages=5)
    epoch = (await attach(node)).epoch
    await store(node, 20, retention=retention)
    assert [(await resume(node, Position(epoch, at))).lost for at in (0, 7, 15, 16, 20)] == [15, 8, 0, 0, 0]


async def test_only_the_outbox_that_is_full_loses_messages(cluster: Cluster) -> None:
    node, retention = await cluster.node(), KEEP._replace(max_messages=2)
    await store(node, 2, retention=retention)
    await node.backend.dispatch([kept(1, ["alice", "bob"], retention=retention)])
    assert [((await attach(node, id)).lost) for id in ("alice", "bob")] == [1, 0]


async def test_messages_are_lost_when_their_time_is_over(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 3, retention=Retention(10, 1000, ttl=0.05))
    page = await attach(node)
    async with asyncio.timeout(LIMIT):
        while page.entries:
            page = await attach(node)
    assert (page.start, page.top, page.lost) == (3, 3, 3)


async def test_messages_whose_time_is_over_leave_before_others_do(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 2, retention=KEEP._replace(ttl=0.05))
    later = await store(node, 2)
    page = await attach(node)
    async with asyncio.timeout(LIMIT):
        while page.lost < 2:
            page = await attach(node)
    assert (page.start, page.lost) == (2, 2)
    assert bodies(page) == sent_bodies(later)


async def test_messages_whose_time_is_over_wait_behind_others_that_live_longer(cluster: Cluster) -> None:
    node, short = await cluster.node(), KEEP._replace(ttl=0.05)
    sent = [*await store(node, 1), *await store(node, 1, retention=short)]
    await node.backend.dispatch([kept(1, ["bob"], retention=short)])
    async with asyncio.timeout(LIMIT):
        while not (await attach(node, "bob")).lost:
            pass
    page = await attach(node)
    assert (page.lost, bodies(page)) == (0, sent_bodies(sent))


async def test_numbers_go_on_after_all_messages_have_expired(cluster: Cluster) -> None:
    node = await cluster.node()
    epoch = (await attach(node)).epoch
    await store(node, 2, retention=KEEP._replace(ttl=0.05))
    async with asyncio.timeout(LIMIT):
        while (await attach(node)).lost < 2:
            pass
    [receipt] = await node.backend.dispatch([kept(1)])
    assert receipt.deliveries["alice"].position == Position(epoch, 3)

"""Messages that one device has acknowledged are kept for other devices of its id, for a while."""

import asyncio

from mesa_ws.messages.receipt import Position
from tests.contract.cluster import LIMIT, Cluster
from tests.contract.storing import WIRE2, acknowledge, attach, bodies, read, resume, sent_bodies, store


async def test_messages_of_another_device_are_kept_within_the_window(cluster: Cluster) -> None:
    node = await cluster.node(window=3600.0)
    sent = await store(node, 3)
    epoch = (await attach(node, start=WIRE2)).epoch
    acknowledge(node, epoch, 3)
    page = await resume(node, Position(epoch, 1))
    assert (page.status, page.lost) == ("resumed", 0)
    assert bodies(page) == sent_bodies(sent[1:])


async def test_messages_kept_for_other_devices_are_not_read_without_a_position(cluster: Cluster) -> None:
    node = await cluster.node(window=3600.0)
    await store(node, 3)
    acknowledge(node, (await attach(node, start=WIRE2)).epoch, 2)
    page = await attach(node, start=WIRE2)
    assert (page.start, page.lost, len(page.entries)) == (2, 0, 1)


async def test_it_stays_when_all_devices_leave(cluster: Cluster) -> None:
    node = await cluster.node(window=3600.0)
    await store(node, 3)
    epoch = (await attach(node, start=WIRE2)).epoch
    acknowledge(node, epoch, 3)
    node.backend.detach("alice")
    assert len((await resume(node, Position(epoch, 0))).entries) == 3


async def test_it_is_kept_once_a_client_with_positions_has_read_on(cluster: Cluster) -> None:
    node = await cluster.node(window=3600.0)
    await store(node, 3)
    epoch = (await attach(node)).epoch
    assert len((await read(node, epoch, 0, is_wire2=True)).entries) == 3
    acknowledge(node, epoch, 3)
    assert (await resume(node, Position(epoch, 0))).lost == 0


async def test_nothing_is_kept_for_clients_without_positions(cluster: Cluster) -> None:
    node = await cluster.node(window=3600.0)
    await store(node, 3)
    epoch = (await attach(node)).epoch
    acknowledge(node, epoch, 3)
    assert (await resume(node, Position(epoch, 0))).lost == 3


async def test_without_a_window_nothing_is_kept(cluster: Cluster) -> None:
    node = await cluster.node(window=0.0)
    await store(node, 3)
    epoch = (await attach(node, start=WIRE2)).epoch
    acknowledge(node, epoch, 3)
    assert (await resume(node, Position(epoch, 0))).lost == 3


async def test_when_the_window_is_over_they_are_dropped_and_counted(cluster: Cluster) -> None:
    node = await cluster.node(window=0.05)
    await store(node, 3)
    epoch = (await attach(node, start=WIRE2)).epoch
    page = await resume(node, Position(epoch, 0))
    async with asyncio.timeout(LIMIT):
        while page.lost < 3:
            acknowledge(node, epoch, 3)
            page = await resume(node, Position(epoch, 0))
    assert page.entries == ()

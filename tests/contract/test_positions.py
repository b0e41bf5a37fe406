"""Positions: where the messages of a connection begin, and which positions are trusted."""

import pytest

from mesa_ws.backend.outbox import Start
from mesa_ws.messages.receipt import Position
from tests.contract.cluster import Cluster
from tests.contract.storing import (
    acknowledge,
    attach,
    bodies,
    kept,
    read,
    resume,
    sent_bodies,
    store,
)

MADE_UP = "0123456789abcdef"


@pytest.mark.parametrize("sequence", [0, 1, 4, 5])
async def test_messages_go_on_after_a_position(cluster: Cluster, sequence: int) -> None:
    node = await cluster.node()
    sent = await store(node, 5)
    epoch = (await attach(node)).epoch
    page = await resume(node, Position(epoch, sequence))
    assert (page.status, page.epoch, page.start, page.top, page.lost) == ("resumed", epoch, sequence, 5, 0)
    assert bodies(page) == sent_bodies(sent[sequence:])


async def test_a_position_holds_on_every_node(cluster: Cluster) -> None:
    first, second = await cluster.node(), await cluster.node()
    epoch = (await attach(first)).epoch
    first.backend.detach("alice")
    await store(first, 3)
    assert (await resume(second, Position(epoch, 1))).status == "resumed"


async def test_the_position_of_another_id_is_not_trusted(cluster: Cluster) -> None:
    node = await cluster.node()
    await node.backend.dispatch([kept(n, ["alice", "bob"]) for n in range(3)])
    epoch = (await attach(node, "bob")).epoch
    page = await resume(node, Position(epoch, 2))
    assert (page.status, page.start, len(page.entries)) == ("reset", 0, 3)
    assert page.epoch != epoch


async def test_the_position_of_another_namespace_is_not_trusted(cluster: Cluster) -> None:
    node, other = await cluster.node(), await cluster.node(namespace=f"{cluster.namespace}-2")
    await store(other, 3)
    assert (await resume(node, Position((await attach(other)).epoch, 0))).status == "reset"


@pytest.mark.parametrize("epoch", [MADE_UP, "", "x", "*", "é", "a:1,b:2", "0" * 5000, " ", "%s", "\n"])
async def test_a_made_up_epoch_is_not_trusted(cluster: Cluster, epoch: str) -> None:
    node = await cluster.node()
    await store(node, 3)
    page = await resume(node, Position(epoch, 1))
    assert (page.status, page.start, page.lost, len(page.entries)) == ("reset", 0, 0, 3)


@pytest.mark.parametrize("sequence", [4, 5, 2**53, 2**63, 10**400, -1, -(2**63)])
async def test_a_sequence_that_was_never_given_out_is_not_trusted(cluster: Cluster, sequence: int) -> None:
    node = await cluster.node()
    await store(node, 3)
    page = await resume(node, Position((await attach(node)).epoch, sequence))
    assert (page.status, page.start, len(page.entries)) == ("reset", 0, 3)


async def test_a_position_that_cannot_be_read_is_not_trusted(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 3)
    assert (await resume(node, None)).status == "reset"


async def test_a_position_that_is_not_trusted_gives_all_unacknowledged_messages(cluster: Cluster) -> None:
    node = await cluster.node()
    sent = await store(node, 5)
    acknowledge(node, (await attach(node)).epoch, 2)
    page = await resume(node, Position(MADE_UP, 4))
    assert (page.status, page.start, page.lost) == ("reset", 2, 0)
    assert bodies(page) == sent_bodies(sent[2:])


async def test_reading_on_from_a_made_up_position_is_a_reset(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 3)
    await attach(node)
    assert (await read(node, MADE_UP, 1)).status == "reset"


@pytest.mark.parametrize("is_wire2", [True, False])
async def test_a_connection_may_begin_at_the_top(cluster: Cluster, is_wire2: bool) -> None:
    node = await cluster.node()
    await store(node, 3)
    page = await attach(node, start=Start("top", is_wire2=is_wire2))
    assert (page.status, page.start, page.top, page.lost, page.entries) == ("fresh", 3, 3, 0, ())


async def test_beginning_at_the_top_acknowledges_nothing(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 3)
    await attach(node, start=Start("top", is_wire2=True))
    assert len((await attach(node)).entries) == 3


async def test_a_connection_may_acknowledge_everything_and_get_nothing(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 3)
    page = await attach(node, start=Start("acknowledge"))
    assert (page.status, page.start, page.top, page.lost, page.entries) == ("fresh", 3, 3, 0, ())
    assert (await attach(node)).entries == ()


async def test_what_comes_after_everything_was_acknowledged_is_read(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 3)
    await attach(node, start=Start("acknowledge"))
    node.backend.detach("alice")
    sent = await store(node, 2)
    assert bodies(await attach(node)) == sent_bodies(sent)

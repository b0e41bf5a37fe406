"""Acknowledged messages leave the outbox; others stay."""

import pytest

from mesa_ws.backend.outbox import Acknowledgement, Start
from mesa_ws.backend.queries import Heads
from mesa_ws.messages.receipt import Position
from tests.contract.cluster import Cluster
from tests.contract.storing import (
    acknowledge,
    attach,
    bodies,
    kept,
    read,
    sent_bodies,
    store,
)


async def test_an_acknowledged_message_is_not_read_again(cluster: Cluster) -> None:
    node = await cluster.node()
    sent = await store(node, 5)
    acknowledge(node, (await attach(node)).epoch, 3)
    node.backend.detach("alice")
    page = await attach(node)
    assert (page.status, page.start, page.lost) == ("fresh", 3, 0)
    assert bodies(page) == sent_bodies(sent[3:])


async def test_an_unacknowledged_message_is_read_again(cluster: Cluster) -> None:
    node = await cluster.node()
    sent = await store(node, 3)
    for _ in range(3):
        assert bodies(await attach(node)) == sent_bodies(sent)
        node.backend.detach("alice")


async def test_an_acknowledged_message_leaves_the_outbox(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 5)
    epoch = (await attach(node)).epoch
    acknowledge(node, epoch, 3)
    page = await read(node, epoch, 0)
    assert (page.start, page.lost, len(page.entries)) == (3, 3, 2)


async def test_an_acknowledgement_is_not_taken_back(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 5)
    epoch = (await attach(node)).epoch
    acknowledge(node, epoch, 4)
    acknowledge(node, epoch, 2)
    page = await attach(node)
    assert (page.start, page.lost) == (4, 0)


async def test_acknowledging_twice_changes_nothing(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 5)
    epoch = (await attach(node)).epoch
    acknowledge(node, epoch, 4)
    acknowledge(node, epoch, 4)
    page = await attach(node)
    assert (page.start, len(page.entries), page.lost) == (4, 1, 0)


@pytest.mark.parametrize("sequence", [6, 2**53, 10**400, -1])
async def test_a_sequence_that_was_never_stored_cannot_be_acknowledged(
    cluster: Cluster, sequence: int
) -> None:
    node = await cluster.node()
    await store(node, 5)
    acknowledge(node, (await attach(node)).epoch, sequence)
    page = await attach(node)
    assert (page.start, len(page.entries)) == (0, 5)


@pytest.mark.parametrize("epoch", ["0123456789abcdef", "", "x:1,y:2"])
async def test_acknowledging_in_a_made_up_epoch_changes_nothing(cluster: Cluster, epoch: str) -> None:
    node = await cluster.node()
    await store(node, 5)
    await attach(node)
    acknowledge(node, epoch, 3)
    page = await attach(node)
    assert (page.start, len(page.entries)) == (0, 5)


async def test_the_position_of_another_id_acknowledges_nothing(cluster: Cluster) -> None:
    node = await cluster.node()
    await node.backend.dispatch([kept(n, ["alice", "bob"]) for n in range(3)])
    await attach(node)
    acknowledge(node, (await attach(node, "bob")).epoch, 3)
    assert [len((await attach(node, id)).entries) for id in ("alice", "bob")] == [3, 3]


async def test_the_slowest_connection_of_a_node_holds_what_it_lacks(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 5)
    epoch = (await attach(node)).epoch
    acknowledge(node, epoch, 4, floor=2)
    assert [(at, (await read(node, epoch, at)).lost) for at in (0, 2)] == [(0, 2), (2, 0)]
    assert (await attach(node)).start == 4


async def test_a_connection_that_left_messages_to_others_acknowledges_none_of_them(cluster: Cluster) -> None:
    fast, apart = await cluster.node(), await cluster.node()
    await store(fast, 3)
    epoch = (await attach(fast)).epoch
    await attach(apart, start=Start("top"))
    await store(fast, 2)
    acknowledge(apart, epoch, 0, floor=5)
    await apart.backend.query(Heads(["alice"]))
    assert (await read(fast, epoch, 0)).lost == 0
    acknowledge(fast, epoch, 5)
    await fast.backend.query(Heads(["alice"]))
    assert (await read(fast, epoch, 0)).lost == 5


async def test_a_node_that_attaches_several_connections_at_once_has_no_floor(cluster: Cluster) -> None:
    """Its state expired, and it returns with another connection: the first one may need everything."""
    fast, back = await cluster.node(), await cluster.node()
    await store(fast, 3)
    epoch = (await attach(fast)).epoch
    acknowledge(fast, epoch, 2)
    await fast.backend.query(Heads(["alice"]))
    await store(fast, 1)
    assert await back.backend.attach("alice", 2, Start("top")) is not None
    acknowledge(fast, epoch, 4)
    await fast.backend.query(Heads(["alice"]))
    assert (await read(back, epoch, 2)).lost == 0


async def test_messages_leave_with_an_acknowledgement_and_not_because_a_node_left(cluster: Cluster) -> None:
    fast, slow = await cluster.node(), await cluster.node()
    await store(fast, 3)
    epoch = (await attach(fast)).epoch
    await attach(slow)
    acknowledge(fast, epoch, 3)
    await fast.backend.query(Heads(["alice"]))
    slow.backend.detach("alice")
    await slow.backend.query(Heads(["alice"]))
    assert (await read(fast, epoch, 0)).lost == 0
    acknowledge(fast, epoch, 3)
    assert (await read(fast, epoch, 0)).lost == 3


async def test_another_node_holds_what_its_connections_lack(cluster: Cluster) -> None:
    fast, slow = await cluster.node(), await cluster.node()
    sent = await store(fast, 3)
    epoch = (await attach(fast)).epoch
    await attach(slow)
    acknowledge(fast, epoch, 3)
    page = await read(slow, epoch, 0)
    assert (page.lost, bodies(page)) == (0, sent_bodies(sent))


async def test_what_another_node_has_acknowledged_is_not_read_by_a_third(cluster: Cluster) -> None:
    fast, slow, third = [await cluster.node() for _ in range(3)]
    await store(fast, 3)
    epoch = (await attach(fast)).epoch
    await attach(slow)
    acknowledge(fast, epoch, 3)
    await fast.backend.query(Heads(["alice"]))
    page = await attach(third)
    assert (page.start, page.entries, page.lost) == (3, (), 0)


async def test_messages_leave_when_all_nodes_have_them(cluster: Cluster) -> None:
    fast, slow = await cluster.node(), await cluster.node()
    await store(fast, 3)
    epoch = (await attach(fast)).epoch
    await attach(slow)
    acknowledge(fast, epoch, 3)
    await fast.backend.query(Heads(["alice"]))
    acknowledge(slow, epoch, 2)
    assert (await read(slow, epoch, 0)).lost == 2


async def test_a_node_that_left_holds_nothing(cluster: Cluster) -> None:
    fast, slow = await cluster.node(), await cluster.node()
    await store(fast, 3)
    epoch = (await attach(fast)).epoch
    await attach(slow)
    await slow.backend.aclose()
    acknowledge(fast, epoch, 3)
    assert (await read(fast, epoch, 0)).lost == 3


async def test_a_later_connection_lowers_what_its_node_has(cluster: Cluster) -> None:
    node, other = await cluster.node(), await cluster.node()
    await store(node, 3)
    epoch = (await attach(node, start=Start("top"))).epoch
    await node.backend.attach("alice", 2, Start())
    await attach(other)
    acknowledge(other, epoch, 3)
    await other.backend.query(Heads(["alice"]))
    assert (await read(node, epoch, 0)).lost == 0


async def test_a_later_connection_does_not_raise_what_its_node_has(cluster: Cluster) -> None:
    node, other = await cluster.node(), await cluster.node()
    await store(node, 3)
    epoch = (await attach(node)).epoch
    await node.backend.attach("alice", 2, Start("top"))
    await attach(other)
    acknowledge(other, epoch, 3)
    await other.backend.query(Heads(["alice"]))
    assert (await read(node, epoch, 0)).lost == 0


async def test_a_connection_that_begins_at_the_top_holds_nothing_before(cluster: Cluster) -> None:
    node, other = await cluster.node(), await cluster.node()
    await store(node, 3)
    epoch = (await attach(node)).epoch
    await attach(other, start=Start("top"))
    acknowledge(node, epoch, 3)
    assert (await read(node, epoch, 0)).lost == 3


async def test_declaring_the_number_of_connections_does_not_change_the_floor(
    cluster: Cluster,
) -> None:
    node, other = await cluster.node(), await cluster.node()
    await store(node, 3)
    epoch = (await attach(node)).epoch
    acknowledge(node, epoch, 1)
    await node.backend.attach("alice", 2)
    await attach(other)
    acknowledge(other, epoch, 3)
    await other.backend.query(Heads(["alice"]))
    assert [(await read(node, epoch, at)).lost for at in (0, 1)] == [1, 0]


async def test_the_outboxes_of_many_ids_are_acknowledged_at_once(cluster: Cluster) -> None:
    ids = [f"id-{n}" for n in range(450)]
    node = await cluster.node()
    [receipt] = await node.backend.dispatch([kept(1, ids)])
    positions = {id: at.position for id, at in receipt.deliveries.items() if at.position}
    node.backend.acknowledge([Acknowledgement(id, at, at.sequence) for id, at in positions.items()])
    heads = await node.backend.query(Heads(ids))
    assert [head and head.acknowledged for head in heads.values()] == [1] * 450


async def test_acknowledging_to_a_closed_node_changes_nothing(cluster: Cluster) -> None:
    node, closed = await cluster.node(), cluster.backend()
    await store(node, 1)
    epoch = (await attach(node)).epoch
    closed.acknowledge([Acknowledgement("alice", Position(epoch, 1), 1)])
    assert (await read(node, epoch, 0)).lost == 0


async def test_acknowledging_for_an_unknown_id_changes_nothing(cluster: Cluster) -> None:
    node = await cluster.node()
    node.backend.acknowledge([Acknowledgement("unknown", Position("0123456789abcdef", 1), 1)])
    assert await node.backend.query(Heads(["unknown"])) == {"unknown": None}

"""Messages to all are stored for some minutes, in an outbox that all ids share."""

import asyncio

import pytest

from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import Message
from mesa_ws.messages.receipt import Position
from tests.contract.cluster import Cluster, heard
from tests.contract.storing import attach, bodies, kept, sent_bodies


async def test_without_a_position_only_the_end_is_returned(cluster: Cluster) -> None:
    node = await cluster.node()
    before = await node.backend.broadcasts(None)
    await node.backend.dispatch([kept(n, "*") for n in range(3)])
    after = await node.backend.broadcasts(None)
    assert (before.status, before.start, before.top, before.entries) == ("fresh", 0, 0, ())
    assert (after.status, after.start, after.top, after.entries) == ("fresh", 3, 3, ())
    assert (before.lost, after.lost, before.epoch) == (0, 0, after.epoch)


async def test_missed_messages_are_read(cluster: Cluster) -> None:
    node = await cluster.node()
    epoch = (await node.backend.broadcasts(None)).epoch
    await node.backend.dispatch(sent := [kept(n, "*") for n in range(5)])
    page = await node.backend.broadcasts(Position(epoch, 2))
    assert (page.status, page.epoch, page.start, page.top, page.lost) == ("resumed", epoch, 2, 5, 0)
    assert bodies(page) == sent_bodies(sent[2:])
    assert [entry.message_id for entry in page.entries] == [envelope.message_id for envelope in sent[2:]]
    assert [entry.sequence for entry in page.entries] == [3, 4, 5]


async def test_the_excluded_ids_are_stored_with_a_message(cluster: Cluster) -> None:
    node = await cluster.node()
    epoch = (await node.backend.broadcasts(None)).epoch
    excluded = [[], ["alice", "ünï-\U0001f600"], [f"id-{n}" for n in range(500)]]
    sent = [
        prepare(Message(0, n), "*", left_out, retention=kept(0).retention)
        for n, left_out in enumerate(excluded)
    ]
    await node.backend.dispatch(sent)
    page = await node.backend.broadcasts(Position(epoch, 0))
    assert [entry.excluding for entry in page.entries] == [frozenset(left_out) for left_out in excluded]
    assert bodies(page) == sent_bodies(sent)


async def test_every_node_receives_the_position_of_a_message(cluster: Cluster) -> None:
    nodes = [await cluster.node(), await cluster.node({"alice": 1})]
    epoch = (await nodes[0].backend.broadcasts(None)).epoch
    [receipt] = await nodes[0].backend.dispatch([kept(1, "*")])
    assert (receipt.deliveries, receipt.nodes) == ({}, 2)
    for (envelope,) in await heard(*nodes):
        assert (envelope.recipients.everybody, envelope.positions) == (True, (Position(epoch, 1),))


async def test_a_message_that_is_not_stored_takes_no_number(cluster: Cluster) -> None:
    node = await cluster.node()
    unstored = [
        prepare(Message(0, 1), "*"),
        prepare(Message(0, 1, sync=False), "*", retention=kept(0).retention),
    ]
    await node.backend.dispatch(unstored)
    assert (await node.backend.broadcasts(None)).top == 0


async def test_messages_to_ids_are_not_among_them(cluster: Cluster) -> None:
    node = await cluster.node()
    await node.backend.dispatch([kept(1, ["alice"])])
    assert (await node.backend.broadcasts(None)).top == 0


async def test_they_come_in_pages(cluster: Cluster) -> None:
    node = await cluster.node()
    epoch = (await node.backend.broadcasts(None)).epoch
    await node.backend.dispatch(sent := [kept(n, "*") for n in range(300)])
    first = await node.backend.broadcasts(Position(epoch, 0))
    second = await node.backend.broadcasts(Position(epoch, first.last))
    assert [(len(page.entries), page.has_more) for page in (first, second)] == [(256, True), (44, False)]
    assert bodies(first) + bodies(second) == sent_bodies(sent)


@pytest.mark.parametrize(
    "position", [("0123456789abcdef", 1), ("", 0), (None, 4), (None, -1), (None, 10**400)]
)
async def test_a_position_that_was_never_given_out_is_not_trusted(
    cluster: Cluster, position: tuple[str | None, int]
) -> None:
    node = await cluster.node()
    await node.backend.dispatch([kept(n, "*") for n in range(3)])
    here = await node.backend.broadcasts(None)
    epoch, sequence = position
    page = await node.backend.broadcasts(Position(here.epoch if epoch is None else epoch, sequence))
    assert page == here._replace(status="reset")


async def test_the_position_of_an_id_is_not_trusted(cluster: Cluster) -> None:
    node = await cluster.node()
    await node.backend.dispatch([kept(1, "*"), kept(1, ["alice"])])
    epoch = (await attach(node)).epoch
    assert (await node.backend.broadcasts(Position(epoch, 0))).status == "reset"


async def test_ten_thousand_are_kept(cluster: Cluster) -> None:
    node = await cluster.node()
    epoch = (await node.backend.broadcasts(None)).epoch
    for _ in range(21):
        await node.backend.dispatch([kept(n, "*") for n in range(500)])
    page = await node.backend.broadcasts(Position(epoch, 400))
    assert (page.status, page.start, page.top, page.lost) == ("resumed", 500, 10_500, 100)


async def test_their_own_limits_do_not_depend_on_the_message(cluster: Cluster) -> None:
    node = await cluster.node()
    epoch = (await node.backend.broadcasts(None)).epoch
    retention = kept(0).retention
    assert retention is not None
    await node.backend.dispatch(
        [kept(n, "*", retention=retention._replace(max_messages=2)) for n in range(5)]
    )
    assert len((await node.backend.broadcasts(Position(epoch, 0))).entries) == 5


async def test_messages_of_many_callers_arrive_in_the_order_of_their_numbers(cluster: Cluster) -> None:
    nodes = [await cluster.node() for _ in range(3)]
    epoch = (await nodes[0].backend.broadcasts(None)).epoch
    await asyncio.gather(*(node.backend.dispatch([kept(n, "*") for n in range(30)]) for node in nodes))
    page = await nodes[0].backend.broadcasts(Position(epoch, 0))
    for envelopes in await heard(*nodes):
        told = [(position.sequence, each.message_id) for each in envelopes for position in each.positions]
        assert told == [(entry.sequence, entry.message_id) for entry in page.entries]

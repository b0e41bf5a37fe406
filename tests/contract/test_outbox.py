"""Stored messages wait for their recipients, numbered and in order."""

import asyncio

import pytest
from msgspec.structs import replace

from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import DispatchEvent, Message
from mesa_ws.messages.receipt import Delivery, Position
from tests.contract.cluster import Cluster, heard
from tests.contract.storing import KEEP, attach, bodies, kept, sent_bodies, store


async def test_a_message_waits_for_an_id_that_is_away(cluster: Cluster) -> None:
    node = await cluster.node()
    [sent] = await store(node, 1)
    page = await attach(node)
    assert [(entry.message_id, entry.body) for entry in page.entries] == [(sent.message_id, sent.body)]


async def test_messages_wait_in_their_order(cluster: Cluster) -> None:
    node = await cluster.node()
    sent = await store(node, 100)
    page = await attach(node)
    assert bodies(page) == sent_bodies(sent)
    assert [entry.sequence for entry in page.entries] == list(range(1, 101))


async def test_the_first_page_of_a_new_id_is_empty(cluster: Cluster) -> None:
    page = await attach(await cluster.node())
    assert (page.status, page.start, page.top, page.lost, page.entries) == ("fresh", 0, 0, 0, ())
    assert len(page.epoch) == 16


async def test_a_page_says_where_it_stands(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 3)
    page = await attach(node)
    assert (page.status, page.start, page.last, page.top, page.lost, page.has_more) == (
        *("fresh", 0, 3, 3, 0),
        False,
    )


async def test_attaching_without_a_start_reads_nothing(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 1)
    assert await node.backend.attach("alice", 1) is None


async def test_a_receipt_says_where_a_message_is_stored(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 2})
    [receipt] = await node.backend.dispatch([kept(1, ["alice", "away"])])
    epoch = (await attach(node)).epoch
    assert receipt.nodes == 1
    assert receipt.deliveries["alice"] == Delivery(True, 2, None, Position(epoch, 1))
    away = receipt.deliveries["away"]
    assert (away.stored, away.online, away.dropped, away.displaced) == (True, 0, None, 0)


async def test_no_two_ids_share_an_epoch(cluster: Cluster) -> None:
    node = await cluster.node()
    ids = [f"id-{n}" for n in range(50)]
    [receipt] = await node.backend.dispatch([kept(1, ids)])
    positions = [delivery.position for delivery in receipt.deliveries.values()]
    assert len({position.epoch for position in positions if position}) == 50


async def test_a_node_is_told_the_positions_of_its_ids(cluster: Cluster) -> None:
    node, other = await cluster.node({"alice": 1, "bob": 1}), await cluster.node({"carol": 1})
    await store(other, 2)
    [receipt] = await other.backend.dispatch([kept(1, ["bob", "away", "carol", "alice"])])
    (envelopes, _) = await heard(node, other)
    last = envelopes[-1]
    assert last.recipients.ids == ("bob", "alice")
    assert last.positions == tuple(receipt.deliveries[id].position for id in ("bob", "alice"))
    assert [position.sequence for position in last.positions] == [1, 3]


async def test_what_is_not_stored_has_no_position(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    await node.backend.dispatch([prepare(Message(0, 1), ["alice"]), prepare(Message(0, 1))])
    ((to_id, to_all),) = await heard(node)
    assert (to_id.positions, to_all.positions) == ((), ())


async def test_a_message_without_sync_is_only_sent(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    sent = prepare(Message(0, 1, sync=False), ["alice", "away"], retention=KEEP)
    [receipt] = await node.backend.dispatch([sent])
    assert receipt.deliveries == {"alice": Delivery(False, 1, None), "away": Delivery(False, 0, "offline")}
    assert len((await heard(node))[0]) == 1
    assert (await attach(node)).top == 0


async def test_an_event_is_never_stored(cluster: Cluster) -> None:
    node = await cluster.node()
    await node.backend.dispatch([prepare(DispatchEvent("DISCONNECT_CLIENT"), ["alice"], retention=KEEP)])
    assert (await attach(node)).top == 0


async def test_a_message_to_everybody_is_in_no_outbox_of_an_id(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    await node.backend.dispatch([kept(1, "*")])
    assert (await attach(node)).top == 0


async def test_numbers_go_on_after_all_connections_have_left(cluster: Cluster) -> None:
    node = await cluster.node()
    before = await attach(node)
    await store(node, 3)
    node.backend.detach("alice")
    [receipt] = await node.backend.dispatch([kept(3)])
    assert receipt.deliveries["alice"].position == Position(before.epoch, 4)


async def test_the_body_is_stored_as_it_is(cluster: Cluster) -> None:
    node, body = await cluster.node(), bytes(range(256)) * 500
    await node.backend.dispatch([replace(kept(1), body=body)])
    assert bodies(await attach(node)) == [body]


async def test_ids_may_hold_any_text(cluster: Cluster) -> None:
    node = await cluster.node()
    ids = ["a:b", "{x}", "white space", "ünï-\U0001f600", "*a", "%00", "'\"", "é" * 127, "0"]
    await node.backend.dispatch([kept(1, ids)])
    assert [len((await attach(node, id)).entries) for id in ids] == [1] * len(ids)


async def test_outboxes_of_namespaces_never_meet(cluster: Cluster) -> None:
    here, there = await cluster.node(), await cluster.node(namespace=f"{cluster.namespace}-2")
    await store(here, 1)
    assert (await attach(there)).top == 0


@pytest.mark.parametrize("count", [200, 201, 1000])
async def test_any_number_of_recipients_is_one_message(cluster: Cluster, count: int) -> None:
    ids = [f"id-{n}" for n in range(count)]
    node = await cluster.node(dict.fromkeys(ids[::2], 1))
    [receipt] = await node.backend.dispatch([sent := kept(1, ids)])
    (envelopes,) = await heard(node)
    assert {envelope.message_id for envelope in envelopes} == {sent.message_id}
    told = {id: at for each in envelopes for id, at in zip(each.recipients.ids, each.positions, strict=True)}
    positions = {id: delivery.position for id, delivery in receipt.deliveries.items()}
    assert list(positions) == ids
    assert {position.sequence for position in positions.values() if position} == {1}
    assert told == {id: positions[id] for id in ids[::2]}
    assert (await attach(node, ids[-1])).entries[0].message_id == sent.message_id


async def test_messages_of_one_caller_keep_the_order_of_its_calls(cluster: Cluster) -> None:
    node = await cluster.node()
    sent = [kept(n) for n in range(200)]
    await asyncio.gather(*(node.backend.dispatch([envelope]) for envelope in sent))
    assert bodies(await attach(node)) == sent_bodies(sent)


async def test_messages_of_many_callers_are_numbered_without_holes(cluster: Cluster) -> None:
    nodes = [await cluster.node() for _ in range(3)]
    sent = [[kept(f"{n} of {at}") for n in range(50)] for at in range(3)]
    await asyncio.gather(*(node.backend.dispatch(own) for node, own in zip(nodes, sent, strict=True)))
    page = await attach(nodes[0])
    assert [entry.sequence for entry in page.entries] == list(range(1, 151))
    for own in sent:
        ids = [envelope.message_id for envelope in own]
        assert [entry.message_id for entry in page.entries if entry.message_id in ids] == ids


async def test_stored_and_other_messages_arrive_in_the_order_of_their_calls(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    sent = []
    for n in range(60):
        who = "*" if n % 3 == 0 else ["alice"]
        sent.append(kept(n, who) if n % 2 else prepare(Message(0, n), who))
    await asyncio.gather(*(node.backend.dispatch([envelope]) for envelope in sent))
    ((*envelopes,),) = await heard(node)
    assert sent_bodies(envelopes) == sent_bodies(sent)


async def test_a_message_that_races_with_a_login_is_read_or_received(cluster: Cluster) -> None:
    node, sender = await cluster.node(), await cluster.node()
    read = set()

    async def log_in(id: str) -> None:
        if (await attach(node, id)).entries:
            read.add(id)

    async def send(id: str) -> None:
        await sender.backend.dispatch([kept(1, [id])])

    ids = [f"id-{n}" for n in range(200)]
    for n, id in enumerate(ids):
        calls = (log_in, send) if n % 2 else (send, log_in)
        await asyncio.gather(*(call(id) for call in calls))
    (envelopes, _) = await heard(node, sender)
    received = {id for envelope in envelopes for id in envelope.recipients.ids}
    assert read | received == set(ids)


async def test_positions_of_a_page_and_of_envelopes_go_on_without_a_hole(cluster: Cluster) -> None:
    node, sender = await cluster.node(), await cluster.node()
    sent = [kept(n) for n in range(100)]
    sending = asyncio.gather(*(sender.backend.dispatch([envelope]) for envelope in sent))
    page = await attach(node)
    await sending
    (envelopes, _) = await heard(node, sender)
    live = [position.sequence for envelope in envelopes for position in envelope.positions]
    assert live == sorted(set(live))
    assert [*range(page.start + 1, page.last + 1), *(n for n in live if n > page.last)] == list(range(1, 101))

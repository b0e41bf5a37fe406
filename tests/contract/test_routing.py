"""A message reaches every node that holds a recipient, once each."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from mesa_ws.messages.envelope import DeliveryPolicy, Latest, policy_of, prepare
from mesa_ws.messages.message import DispatchEvent, Message
from mesa_ws.messages.order import Order
from mesa_ws.messages.receipt import Delivery
from mesa_ws.messages.recipients import Recipients
from tests.contract.cluster import Cluster, heard

HELLO = Message(0, {"text": "hello"}, "HELLO")


async def test_only_nodes_that_hold_a_recipient_receive_a_message(cluster: Cluster) -> None:
    holder, other = await cluster.node({"alice": 1}), await cluster.node({"bob": 1})
    sent = prepare(HELLO, ["alice", "carol"])
    await other.backend.dispatch([sent])
    to_holder, to_other = await heard(holder, other)
    assert [envelope.message_id for envelope in to_holder] == [sent.message_id]
    assert to_other == []


async def test_a_node_receives_the_recipients_that_it_holds(cluster: Cluster) -> None:
    node, other = await cluster.node({"alice": 1, "bob": 1, "carol": 1}), await cluster.node({"dora": 1})
    await other.backend.dispatch([prepare(HELLO, ["bob", "dora", "alice", "away"])])
    ((envelope,), _) = await heard(node, other)
    assert envelope.recipients == Recipients(False, ("bob", "alice"), frozenset())


async def test_an_id_on_several_nodes_is_reached_on_each_of_them(cluster: Cluster) -> None:
    nodes = [await cluster.node({"alice": 1}) for _ in range(3)]
    await nodes[0].backend.dispatch([prepare(HELLO, ["alice"])])
    assert [len(envelopes) for envelopes in await heard(*nodes)] == [1, 1, 1]


async def test_an_excluded_id_is_not_reached(cluster: Cluster) -> None:
    alice, bob = await cluster.node({"alice": 1}), await cluster.node({"bob": 1})
    await alice.backend.dispatch([prepare(HELLO, ["alice", "bob"], ["bob"])])
    assert [len(envelopes) for envelopes in await heard(alice, bob)] == [1, 0]


async def test_everybody_means_every_node_and_names_the_excluded(cluster: Cluster) -> None:
    nodes = [await cluster.node({"alice": 1}), await cluster.node({"bob": 1}), await cluster.node()]
    (receipt,) = await nodes[1].backend.dispatch([prepare(HELLO, "*", ["bob", "alice"])])
    for (envelope,) in await heard(*nodes):
        assert envelope.recipients == Recipients(True, (), frozenset({"alice", "bob"}))
    assert (receipt.deliveries, receipt.nodes) == ({}, 3)


async def test_namespaces_never_meet(cluster: Cluster) -> None:
    here, there = await cluster.node({"alice": 1}), await cluster.node({"alice": 1}, namespace="elsewhere")
    sent = [prepare(HELLO, ["alice"]), prepare(HELLO)]
    await here.backend.dispatch(sent)
    ((*_, last),) = await heard(here)
    assert last.message_id == sent[1].message_id
    assert await heard(there) == [[]]


async def test_the_body_arrives_unchanged(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    body = bytes(range(256)) * 5000
    await node.backend.dispatch([replace(prepare(HELLO, ["alice"]), body=body)])
    ((envelope,),) = await heard(node)
    assert envelope.body == body


async def test_an_event_arrives_as_an_event(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    sent = prepare(DispatchEvent("DISCONNECT_CLIENT"), ["alice"])
    await node.backend.dispatch([sent])
    [[order, event]] = await heard(node)
    assert event == sent
    assert Order.read(order.body) == Order(("alice",))  # for nodes that are cut off


async def test_ids_may_hold_any_text(cluster: Cluster) -> None:
    ids = ["a:b", "{x}", "white space", "ünï-\U0001f600", "*a", "%00", "'\"", "é" * 127, "0"]
    node = await cluster.node(dict.fromkeys(ids, 1))
    (receipt,) = await node.backend.dispatch([prepare(HELLO, ids)])
    ((envelope,),) = await heard(node)
    assert envelope.recipients.ids == tuple(ids)
    assert set(receipt.deliveries.values()) == {Delivery(False, 1, None)}


async def test_a_receipt_has_the_delivery_of_each_id(cluster: Cluster) -> None:
    first = await cluster.node({"alice": 2})
    await cluster.node({"alice": 1, "bob": 1})
    sent = prepare(HELLO, ["alice", "bob", "away"])
    (receipt,) = await first.backend.dispatch([sent])
    assert receipt.message_id == sent.message_id
    assert receipt.nodes == 2
    assert receipt.deliveries == {
        "alice": Delivery(False, 3, None),
        "bob": Delivery(False, 1, None),
        "away": Delivery(False, 0, "offline"),
    }


async def test_a_message_without_recipients_reaches_no_node(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    (receipt,) = await node.backend.dispatch([prepare(HELLO, [])])
    assert (receipt.deliveries, receipt.nodes) == ({}, 0)
    assert await heard(node) == [[]]


async def test_a_batch_has_a_receipt_for_each_of_its_messages(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    sent = [prepare(HELLO, ids) for ids in (["alice"], [], ["away"], "*", ["alice", "away"])]
    receipts = await node.backend.dispatch(sent)
    assert [receipt.message_id for receipt in receipts] == [envelope.message_id for envelope in sent]
    assert [receipt.nodes for receipt in receipts] == [1, 0, 0, 1, 1]


async def test_an_empty_batch_is_fine(cluster: Cluster) -> None:
    node = await cluster.node()
    assert await node.backend.dispatch([]) == []


async def test_messages_arrive_in_the_order_in_which_calls_started(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    sent = [prepare(Message(0, n), "*" if n % 7 == 0 else ["alice"]) for n in range(500)]
    pairs = [sent[n : n + 2] for n in range(0, 500, 2)]
    await asyncio.gather(*(node.backend.dispatch(pair) for pair in pairs))
    (envelopes,) = await heard(node)
    assert [envelope.body for envelope in envelopes] == [envelope.body for envelope in sent]


@pytest.mark.parametrize("count", [199, 200, 201, 1000])
async def test_any_number_of_recipients_is_one_message(cluster: Cluster, count: int) -> None:
    ids = [f"id-{n}" for n in range(count)]
    node = await cluster.node(dict.fromkeys(ids[::2], 1))
    (receipt,) = await node.backend.dispatch([sent := prepare(HELLO, ids)])
    (envelopes,) = await heard(node)
    assert {envelope.message_id for envelope in envelopes} == {sent.message_id}
    assert [id for envelope in envelopes for id in envelope.recipients.ids] == ids[::2]
    assert [delivery.online for delivery in receipt.deliveries.values()] == [n % 2 ^ 1 for n in range(count)]


async def test_any_number_of_exclusions_is_one_message(cluster: Cluster) -> None:
    node, excluded = await cluster.node(), [f"id-{n}" for n in range(9000)]
    await node.backend.dispatch([prepare(HELLO, "*", excluded)])
    ((envelope,),) = await heard(node)
    assert envelope.recipients.excluding == frozenset(excluded)


@pytest.mark.parametrize("policy", ["volatile", Latest("cursor:\u00e9 :1")])
@pytest.mark.parametrize("recipients", [["alice"], "*"])
async def test_nodes_learn_what_may_happen_to_a_message_for_slow_clients(
    cluster: Cluster, recipients: Any, policy: DeliveryPolicy
) -> None:
    nodes = [await cluster.node({"alice": 1}), await cluster.node({"alice": 1})]
    sent = [prepare(HELLO, recipients, delivery=policy), prepare(HELLO, recipients)]
    await nodes[0].backend.dispatch(sent)
    for envelopes in await heard(*nodes):
        assert [policy_of(each) for each in envelopes] == [policy, None]
        assert [each.recipients for each in envelopes] == [each.recipients for each in sent]
        assert [each.body for each in envelopes] == [each.body for each in sent]

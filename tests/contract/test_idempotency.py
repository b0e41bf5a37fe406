"""A repeated message has the effect of one message."""

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from mesa_ws.backend.outbox import Page
from mesa_ws.backend.queries import Heads
from mesa_ws.messages.envelope import Envelope, prepare
from mesa_ws.messages.message import DispatchEvent, Message
from mesa_ws.messages.order import Order
from mesa_ws.messages.receipt import Position, Receipt
from tests.contract.cluster import LIMIT, Cluster, Node, heard
from tests.contract.storing import KEEP, attach, kept


def positions(receipt: Receipt) -> dict[str, Position | None]:
    return {id: delivery.position for id, delivery in receipt.deliveries.items()}


def named(key: str, *recipients: str, stored: bool = True) -> Envelope:
    """Return a message with an idempotency key."""
    return prepare(Message(0, 1), recipients, retention=KEEP if stored else None, idempotency_key=key)


async def test_a_repeated_message_has_the_receipt_of_the_first(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    sent = kept(1, ["alice", "away"])
    [first] = await node.backend.dispatch([sent])
    [again] = await node.backend.dispatch([sent])
    assert again == first


async def test_a_repeated_message_is_stored_once(cluster: Cluster) -> None:
    node = await cluster.node()
    sent = kept(1)
    await node.backend.dispatch([sent])
    await node.backend.dispatch([sent])
    assert (await attach(node)).top == 1


async def test_a_repeated_message_is_sent_once(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1, "bob": 1})
    sent = kept(1, ["alice", "bob"])
    await node.backend.dispatch([sent])
    await node.backend.dispatch([sent])
    assert len((await heard(node))[0]) == 1


async def test_a_message_that_is_twice_in_one_batch_is_one(cluster: Cluster) -> None:
    node = await cluster.node()
    sent = kept(1)
    first, again = await node.backend.dispatch([sent, sent])
    assert first == again
    assert (await attach(node)).top == 1


async def test_a_message_that_many_send_at_once_is_one(cluster: Cluster) -> None:
    nodes = [await cluster.node() for _ in range(3)]
    sent = kept(1)
    receipts = await asyncio.gather(*(node.backend.dispatch([sent]) for node in nodes * 5))
    assert {receipt.deliveries["alice"].position for (receipt,) in receipts} == {
        Position((await attach(nodes[0])).epoch, 1)
    }


async def test_a_repeat_serves_only_those_who_miss_it(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1, "bob": 1})
    [partial] = await node.backend.dispatch([named("task", "alice")])
    [receipt] = await node.backend.dispatch([named("task", "alice", "bob")])
    assert positions(receipt)["alice"] == positions(partial)["alice"]
    (envelopes,) = await heard(node)
    assert [envelope.recipients.ids for envelope in envelopes] == [("alice",), ("bob",)]
    assert [len((await attach(node, id)).entries) for id in ("alice", "bob")] == [1, 1]


async def test_a_repeat_to_many_serves_only_those_who_miss_it(cluster: Cluster) -> None:
    node, ids = await cluster.node(), [f"id-{n}" for n in range(1000)]
    [partial] = await node.backend.dispatch([named("task", *ids[300:500])])
    [receipt] = await node.backend.dispatch([named("task", *ids)])
    assert {id: positions(receipt)[id] for id in ids[300:500]} == positions(partial)
    assert {head and head.top for head in (await node.backend.query(Heads(ids))).values()} == {1}


async def test_a_repeat_that_is_not_to_be_stored_has_the_positions_of_the_first(cluster: Cluster) -> None:
    node = await cluster.node({"bob": 1})
    [first] = await node.backend.dispatch([named("task", "alice", "bob")])
    [again] = await node.backend.dispatch([named("task", "bob", "carol", "alice", stored=False)])
    assert positions(again) == {**positions(first), "carol": None}
    assert [at.stored for at in again.deliveries.values()] == [True, False, True]
    assert again.deliveries["carol"].dropped == "offline"


async def test_a_repeat_is_known_although_it_was_received(cluster: Cluster) -> None:
    node = await cluster.node()
    [first] = await node.backend.dispatch([named("task", "alice")])
    assert await node.backend.purge("alice") == 1
    [again] = await node.backend.dispatch([named("task", "alice")])
    assert positions(again) == positions(first)
    assert (await attach(node)).top == 1


async def test_another_key_is_another_message(cluster: Cluster) -> None:
    node = await cluster.node()
    await node.backend.dispatch([named("one", "alice"), named("two", "alice")])
    assert (await attach(node)).top == 2


async def test_keys_of_namespaces_never_meet(cluster: Cluster) -> None:
    here, there = await cluster.node(), await cluster.node(namespace=f"{cluster.namespace}-2")
    await here.backend.dispatch([named("task", "alice")])
    await there.backend.dispatch([named("task", "alice")])
    assert (await attach(there)).top == 1


async def test_a_message_with_a_key_that_is_not_stored_is_sent_once(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    for _ in range(2):
        [receipt] = await node.backend.dispatch([named("task", "alice", "away", stored=False)])
    assert [(at.stored, at.online, at.dropped) for at in receipt.deliveries.values()] == [
        (False, 1, None),
        (False, 0, "offline"),
    ]
    assert len((await heard(node))[0]) == 1


def event(*recipients: str, excluding: Sequence[str] = ()) -> Envelope:
    return prepare(DispatchEvent("DISCONNECT_CLIENT"), recipients, excluding, idempotency_key="task")


@pytest.mark.parametrize(
    ("sent", "order"),
    [
        (event("alice", "away"), Order(("alice", "away"))),
        (event("*", excluding=["bob", "carol", "dave"]), Order((), excluding=("bob", "carol", "dave"))),
    ],
    ids=["ids", "everybody"],
)
async def test_an_event_with_a_key_is_sent_and_kept_as_an_order_once(
    cluster: Cluster, sent: Envelope, order: Order
) -> None:
    node = await cluster.node({"alice": 1})
    [first], [again] = [await node.backend.dispatch([sent]) for _ in range(2)]
    assert first == again
    [[kept_order, relayed]] = await heard(node)
    assert Order.read(kept_order.body) == order
    assert [each.message_id for each in (kept_order, relayed)] == [sent.message_id] * 2
    assert relayed.kind == "disconnect"
    assert [Order.read(entry.body) for entry in (await all_orders(node)).entries] == [order]


async def test_a_repeated_event_is_an_order_for_those_who_miss_it(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1, "bob": 1})
    for ids in (["alice"], ["alice", "bob"], ["*"], ["alice"]):
        await node.backend.dispatch([event(*ids)])
    sent = [(each.kind, each.recipients.ids) for each in (await heard(node))[0]]
    assert sent == [
        *(("order", ()), ("disconnect", ("alice",))),
        *(("order", ()), ("disconnect", ("bob",))),
        *(("order", ()), ("disconnect", ())),
    ]
    orders = [Order.read(entry.body) for entry in (await all_orders(node)).entries]
    assert [order and order.ids for order in orders] == [("alice",), ("alice", "bob"), ()]


async def test_an_event_to_no_one_is_no_order(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    for sent in (event(), event("bob", excluding=["bob"])):
        assert await node.backend.dispatch([sent]) == [Receipt(sent.message_id, {}, 0)]
    assert await heard(node) == [[]]
    assert (await node.backend.orders(None)).top == 0


async def all_orders(node: Node) -> Page:
    """Read all orders."""
    epoch = (await node.backend.orders(None)).epoch
    return await node.backend.orders(Position(epoch, 0))


async def test_a_message_to_everybody_with_a_key_is_sent_and_stored_once(cluster: Cluster) -> None:
    node = await cluster.node()
    receipts = [(await node.backend.dispatch([named("task", "*")]))[0] for _ in range(2)]
    assert receipts[0] == receipts[1]
    assert len((await heard(node))[0]) == 1
    assert (await node.backend.broadcasts(None)).top == 1


async def test_a_message_to_everybody_with_a_key_that_is_not_stored_is_sent_once(cluster: Cluster) -> None:
    node = await cluster.node()
    for _ in range(2):
        await node.backend.dispatch([named("task", "*", stored=False)])
    assert len((await heard(node))[0]) == 1


async def test_what_is_not_remembered_is_sent_again(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    sent = prepare(Message(0, 1), ["alice"])
    await node.backend.dispatch([sent])
    await node.backend.dispatch([sent])
    assert len((await heard(node))[0]) == 2


async def test_a_key_expires(cluster: Cluster) -> None:
    node = await cluster.node()
    sent = replace(named("task", "alice"), remember=0.05)
    top = 0
    async with asyncio.timeout(LIMIT):
        while top < 2:
            await node.backend.dispatch([sent])
            top = (await attach(node)).top

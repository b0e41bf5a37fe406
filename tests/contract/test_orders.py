"""Orders to all nodes: kept, numbered, repeated by no retry, and carried out by every living node."""

from mesa_ws.backend.orders import give
from mesa_ws.backend.outbox import Standing, Start
from mesa_ws.backend.queries import CarriedOut
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import DispatchEvent, Message
from mesa_ws.messages.order import Order, OrderStatus, position_of, prepare_order
from mesa_ws.messages.receipt import Position
from tests.contract.cluster import Cluster, Node, heard
from tests.system.waiting import until


async def given(node: Node, order: Order, key: str | None = None) -> Position:
    [receipt] = await node.backend.dispatch([order.envelope(key)])
    return position_of(receipt)


async def test_every_node_receives_an_order_and_one_that_was_away_reads_it(cluster: Cluster) -> None:
    nodes = [await cluster.node(), await cluster.node({"alice": 1})]
    before = await nodes[0].backend.orders(None)
    order = prepare_order(["alice", "bob"], 4100, "out")
    position = await given(nodes[0], order)
    assert position == (before.epoch, 1)
    for (envelope,) in await heard(*nodes):
        assert (envelope.kind, envelope.positions) == ("order", (position,))
        assert Order.read(envelope.body) == order
    page = await nodes[1].backend.orders(Position(before.epoch, 0))
    assert (page.status, page.lost, page.last) == ("resumed", 0, 1)
    assert [Order.read(entry.body) for entry in page.entries] == [order]
    assert (await nodes[0].backend.broadcasts(None)).top == 0


async def test_an_order_with_a_key_is_given_once(cluster: Cluster) -> None:
    node = await cluster.node()
    order = prepare_order(["alice"], 1000, "")
    first, again = [await given(node, order, "key") for _ in range(2)]
    assert first == again
    assert (await node.backend.orders(None)).top == 1


async def test_a_key_names_one_order_for_the_same_ids(cluster: Cluster) -> None:
    node = await cluster.node()
    await node.backend.dispatch([prepare(Message(0, 1), ["*"], idempotency_key="key")])
    for ids, before in ((["alice"], None), (["bob"], None), (["bob"], 100.0), (["bob"], 200.0)):
        await given(node, prepare_order(ids, 1008, "", before), "key")
    await node.backend.dispatch([prepare(DispatchEvent("DISCONNECT_CLIENT"), ["*"], idempotency_key="key")])
    orders = [Order.read(each.body) for each in (await heard(node))[0] if each.kind == "order"]
    assert [each and (each.ids, each.issued_before) for each in orders] == [
        (("alice",), None),
        (("bob",), None),
        (("bob",), 100.0),
        ((), None),
    ]
    assert (await node.backend.standing("bob")).revoked_until == 100.0  # who has logged in since is let in


async def test_living_nodes_say_what_they_have_carried_out(cluster: Cluster) -> None:
    done, pending = await cluster.node(), await cluster.node()
    position = await given(done, prepare_order(["alice"], 1000, ""))
    done.backend.carried_out(position)
    progress = await done.backend.query(CarriedOut(position))
    assert progress == OrderStatus((done.backend.node_id,), (pending.backend.node_id,))
    pending.backend.carried_out(Position(position.epoch, position.sequence + 1))

    async def is_done() -> bool:
        return not (await done.backend.query(CarriedOut(position))).pending

    await until(is_done)
    of_another_life = await done.backend.query(CarriedOut(Position("0123456789abcdef", 9)))
    assert (len(of_another_life.done), of_another_life.pending) == (2, ())
    await done.backend.aclose()
    progress = await pending.backend.query(CarriedOut(position))
    assert progress == OrderStatus((pending.backend.node_id,), ())


async def test_an_order_waits_a_moment_for_the_nodes(cluster: Cluster) -> None:
    node = await cluster.node()
    top = (await node.backend.orders(None)).epoch
    node.backend.carried_out(Position(top, 1))
    receipt = await give(node.backend, prepare_order(["alice"], 1000, "").envelope())
    assert (receipt.position, receipt.done, receipt.pending) == ((top, 1), (node.backend.node_id,), ())


async def test_a_login_learns_of_revocations_and_of_the_orders_before_it(cluster: Cluster) -> None:
    node = await cluster.node()
    await given(node, prepare_order(["alice"], 1000, ""))
    page = await node.backend.attach("alice", 1, Start())
    assert page is not None
    assert (page.standing.revoked_until, page.standing.position and page.standing.position.sequence) == (
        None,
        1,
    )
    for issued_before in (200.5, 100.0):
        position = await given(node, prepare_order(["alice"], 1008, "", issued_before))
    assert await node.backend.standing("alice") == Standing(200.5, position)
    assert await node.backend.standing("bob") == Standing(None, position)
    again = await node.backend.attach("alice", 1, Start())
    assert again is not None
    assert again.standing == Standing(200.5, position)

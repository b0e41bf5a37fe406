"""Ids without stored messages: the backend keeps nothing for them, and yet their positions are valid."""

from mesa_ws.backend.outbox import Start
from mesa_ws.backend.queries import Heads, Peek
from mesa_ws.messages.receipt import Position
from tests.contract.cluster import Cluster
from tests.contract.storing import WIRE2, acknowledge, attach, bodies, resume, sent_bodies, store


async def test_nothing_is_kept_of_an_id_that_has_only_logged_in(cluster: Cluster) -> None:
    node = await cluster.node()
    page = await attach(node, start=WIRE2)
    assert (page.status, page.top, page.start, page.lost, page.entries) == ("fresh", 0, 0, 0, ())
    assert await node.backend.query(Heads(["alice"])) == {"alice": None}
    node.backend.detach("alice")
    assert await node.backend.query(Heads(["alice"])) == {"alice": None}


async def test_its_position_is_the_same_again(cluster: Cluster) -> None:
    node, other = await cluster.node(), await cluster.node()
    epoch = (await attach(node, start=WIRE2)).epoch
    node.backend.detach("alice")
    for each in (node, other):
        page = await resume(each, Position(epoch, 0))
        assert (page.status, page.epoch, page.lost) == ("resumed", epoch, 0)


async def test_what_was_stored_while_it_was_away_follows_its_position(cluster: Cluster) -> None:
    node = await cluster.node()
    epoch = (await attach(node, start=WIRE2)).epoch
    node.backend.detach("alice")
    sent = await store(node, 3)
    page = await resume(node, Position(epoch, 0))
    assert (page.status, page.epoch, page.start, page.lost) == ("resumed", epoch, 0, 0)
    assert bodies(page) == sent_bodies(sent)


async def test_messages_go_on_from_the_position_that_was_given_out(cluster: Cluster) -> None:
    node = await cluster.node()
    epoch = (await attach(node, start=WIRE2)).epoch
    await store(node, 1)
    head = (await node.backend.query(Heads(["alice"])))["alice"]
    assert head is not None
    assert (head.epoch, head.top) == (epoch, 1)


async def test_every_id_has_an_epoch_of_its_own(cluster: Cluster) -> None:
    node = await cluster.node()
    epochs = {(await attach(node, id, start=WIRE2)).epoch for id in ("alice", "bob", "carol")}
    assert len(epochs) == 3


async def test_the_position_of_another_id_is_not_trusted(cluster: Cluster) -> None:
    node = await cluster.node()
    foreign = Position((await attach(node, "bob", start=WIRE2)).epoch, 0)
    assert (await resume(node, foreign)).status == "reset"
    await store(node, 1)
    assert (await resume(node, foreign)).status == "reset"


async def test_a_number_that_was_never_given_out_is_not_trusted(cluster: Cluster) -> None:
    node = await cluster.node()
    epoch = (await attach(node, start=WIRE2)).epoch
    assert (await resume(node, Position(epoch, 50))).status == "reset"
    await store(node, 2)
    assert (await resume(node, Position(epoch, 50))).status == "reset"


async def test_what_is_acknowledged_in_an_empty_outbox_changes_nothing(cluster: Cluster) -> None:
    node = await cluster.node()
    epoch = (await attach(node, start=WIRE2)).epoch
    for sequence in (0, 1):
        acknowledge(node, epoch, sequence)
    assert await node.backend.query(Heads(["alice"])) == {"alice": None}
    [sent] = await store(node, 1)
    assert bodies(await resume(node, Position(epoch, 0))) == sent_bodies([sent])


async def test_a_client_connected_before_the_first_message_has_the_window(cluster: Cluster) -> None:
    """A dispatch does not know which clients speak wire 2, and a login to an empty outbox stores nothing."""
    node = await cluster.node(window=3600.0)
    epoch = (await attach(node, start=WIRE2)).epoch
    sent = await store(node, 2)
    acknowledge(node, epoch, 2)
    page = await resume(node, Position(epoch, 0))
    assert (page.status, page.lost) == ("resumed", 0)
    assert bodies(page) == sent_bodies(sent)


async def test_a_client_that_left_before_the_first_message_has_it_too(cluster: Cluster) -> None:
    node, other = await cluster.node(window=3600.0), await cluster.node(window=3600.0)
    epoch = (await attach(node, start=WIRE2)).epoch
    node.backend.detach("alice")
    await attach(other, start=Start())
    sent = await store(other, 2)
    acknowledge(other, epoch, 2)
    page = await resume(node, Position(epoch, 0))
    assert (page.status, page.lost) == ("resumed", 0)
    assert bodies(page) == sent_bodies(sent)


async def test_clients_without_positions_have_no_window_for_it(cluster: Cluster) -> None:
    node = await cluster.node(window=3600.0)
    epoch = (await attach(node, start=Start())).epoch
    await store(node, 2)
    acknowledge(node, epoch, 2)
    assert (await resume(node, Position(epoch, 0))).lost == 2


async def test_reading_on_in_an_empty_outbox_finds_the_end(cluster: Cluster) -> None:
    node = await cluster.node()
    for start in (Start("top", is_wire2=True), Start("acknowledge"), Start("fresh")):
        page = await attach(node, start=start)
        assert (page.status, page.top, page.has_more) == ("fresh", 0, False)
    assert await node.backend.query(Peek("alice", 10)) == []
    assert await node.backend.purge("alice") == 0
    assert await node.backend.query(Heads(["alice"])) == {"alice": None}

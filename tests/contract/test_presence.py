"""An id is online while a living node holds it."""

from typing import Any

import pytest

from mesa_ws.backend.queries import Online, Peek
from mesa_ws.errors import BackendUnavailable, InvalidRecipients
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import Message
from tests.contract.cluster import Cluster, heard

HELLO = Message(0, {"text": "hello"}, "HELLO")


async def test_connections_are_counted_over_all_nodes(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 2, "bob": 1})
    await cluster.node({"alice": 3})
    assert await node.backend.query(Online(["alice", "bob", "away"])) == {"alice": 5, "bob": 1, "away": 0}


async def test_no_ids_may_be_asked_for(cluster: Cluster) -> None:
    node = await cluster.node()
    assert await node.backend.query(Online([])) == {}


async def test_an_id_that_is_asked_for_twice_is_answered_once(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    assert await node.backend.query(Online(["alice", "alice"])) == {"alice": 1}


async def test_many_ids_are_counted(cluster: Cluster) -> None:
    ids = [f"id-{n}" for n in range(450)]
    node = await cluster.node(dict.fromkeys(ids[::3], 2))
    counts = await node.backend.query(Online(iter(ids)))
    assert list(counts) == ids
    assert [id for id, count in counts.items() if count == 2] == ids[::3]


async def test_attaching_again_replaces_the_number(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    await node.backend.attach("alice", 4)
    assert await node.backend.query(Online(["alice"])) == {"alice": 4}


async def test_a_detached_id_is_offline(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1, "bob": 1})
    node.backend.detach("alice")
    (receipt,) = await node.backend.dispatch([prepare(HELLO, ["alice"])])
    assert receipt.deliveries["alice"].dropped == "offline"
    assert await node.backend.query(Online(["alice", "bob"])) == {"alice": 0, "bob": 1}


async def test_an_id_that_left_one_node_is_still_reached_on_another(cluster: Cluster) -> None:
    left, stayed = await cluster.node({"alice": 1}), await cluster.node({"alice": 1})
    left.backend.detach("alice")
    assert await left.backend.query(Online(["alice"])) == {"alice": 1}
    await left.backend.dispatch([prepare(HELLO, ["alice"])])
    assert [len(envelopes) for envelopes in await heard(left, stayed)] == [0, 1]


async def test_an_id_may_come_back(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    node.backend.detach("alice")
    await node.backend.attach("alice", 1)
    assert await node.backend.query(Online(["alice"])) == {"alice": 1}


async def test_detaching_an_unknown_id_changes_nothing(cluster: Cluster) -> None:
    node, holder = await cluster.node(), await cluster.node({"alice": 1})
    node.backend.detach("alice")
    node.backend.detach("unknown")
    assert await node.backend.query(Online(["alice"])) == {"alice": 1}
    assert await holder.backend.query(Online(["alice"])) == {"alice": 1}


async def test_what_a_closed_node_held_is_offline_at_once(cluster: Cluster) -> None:
    closed, open = await cluster.node({"alice": 1}), await cluster.node({"alice": 1, "bob": 1})
    await closed.backend.aclose()
    assert await open.backend.query(Online(["alice", "bob"])) == {"alice": 1, "bob": 1}
    (receipt,) = await open.backend.dispatch([prepare(HELLO)])
    assert receipt.nodes == 1
    assert closed.received == []


async def test_a_wrong_id_cannot_be_attached(cluster: Cluster) -> None:
    node = await cluster.node()
    with pytest.raises(InvalidRecipients, match="stands for everybody"):
        await node.backend.attach("*", 1)


@pytest.mark.parametrize("id", [7, None, "", "*", ["anna"]])
async def test_the_outbox_of_an_invalid_id_cannot_be_read_or_purged(cluster: Cluster, id: Any) -> None:
    node = await cluster.node()
    with pytest.raises(InvalidRecipients, match=r"^id: expected an id"):
        await node.backend.query(Peek(id, 1))
    with pytest.raises(InvalidRecipients, match=r"^id: expected an id"):
        await node.backend.purge(id)


async def test_a_node_is_ready_while_it_is_open(cluster: Cluster) -> None:
    backend = cluster.backend()
    ready = [backend.is_ready]
    await backend.open(lambda envelope: None)
    ready.append(backend.is_ready)
    await backend.aclose()
    assert [*ready, backend.is_ready] == [False, True, False]


async def test_every_opening_has_a_new_node_id(cluster: Cluster) -> None:
    backend, seen = cluster.backend(), [""]
    assert backend.node_id == ""
    for _ in range(2):
        await backend.open(lambda envelope: None)
        assert backend.node_id not in seen
        seen.append(backend.node_id)
        await backend.aclose()


async def test_a_node_that_is_reopened_holds_no_ids(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    await node.backend.aclose()
    await node.backend.open(node.receive)
    assert await node.backend.query(Online(["alice"])) == {"alice": 0}


async def test_closing_twice_is_fine(cluster: Cluster) -> None:
    node = await cluster.node()
    await node.backend.aclose()
    await node.backend.aclose()


async def test_attaching_to_a_closed_node_is_an_error(cluster: Cluster) -> None:
    with pytest.raises(BackendUnavailable, match="not open"):
        await cluster.backend().attach("alice", 1)


async def test_detaching_from_a_closed_node_changes_nothing(cluster: Cluster) -> None:
    cluster.backend().detach("alice")

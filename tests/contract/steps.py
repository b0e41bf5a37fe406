"""Steps of a random script for a cluster, as hypothesis strategies."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from hypothesis import strategies as st
from msgspec import structs

from mesa_ws.backend.outbox import Acknowledgement, Read, Start
from mesa_ws.backend.queries import Heads, Online, OnlineCount, Peek
from mesa_ws.messages.envelope import Envelope, Kind, Retention
from mesa_ws.messages.order import Order
from mesa_ws.messages.recipients import Recipients
from tests.contract.cluster import Node
from tests.contract.normalized_cluster import IDS, LONG, NODES, NormalizedCluster

Ask = Callable[[NormalizedCluster, Node], Awaitable[object]]


class Step(NamedTuple):
    """One request to one node, whose answer does not depend on the backend.

    Attributes:
        node: which one.
        description: for error messages.
        ask: asks it.
    """

    node: int
    description: str
    ask: Ask

    def __repr__(self) -> str:
        return f"node {self.node}: {self.description}"


Place = tuple[str, int]
"""The id whose epoch it is in, and a sequence."""

ids = st.sampled_from([*[IDS[0]] * 4, *IDS[1:]])
nodes = st.integers(0, NODES - 1)
low = st.sampled_from([*range(7), *range(7), 9, 12])
sequences = st.sampled_from([*range(7), *range(7), 9, -1, 300, 2**53, 10**20])
places = st.tuples(st.sampled_from([*IDS, *IDS, "*", "unknown"]), sequences)
untils = st.sampled_from([None, 0.5, 7.0, 1_800_000_000.25])
keeps = st.sampled_from(
    [
        None,
        *[Retention(1000, 1024 * 1024, LONG)] * 4,
        Retention(3, 1024 * 1024, LONG),
        Retention(1, 1024 * 1024, LONG),
        Retention(1000, 250, LONG),
    ]
)


KINDS: list[Kind] = ["message", "message", "disconnect"]

WHO = [*[["alice"]] * 4, ["bob"], ["alice", "bob"], [*IDS], ["carol", "alice"], [], ["*"], ["*"]]


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    """A message whose id often repeats that of an earlier one."""
    retention = draw(keeps)
    recipients = draw(st.sampled_from(WHO))
    excluding = draw(st.sampled_from([[], [], ["bob"]]))
    number, size = draw(st.integers(0, 40)), draw(st.sampled_from([0, 10, 100, 249, 90_000]))
    kind: Kind = draw(st.sampled_from(KINDS)) if retention is None else "message"
    remember = 120.0 if retention else draw(st.sampled_from([0.0, 86_400.0]))
    who = Recipients.of(recipients, excluding)
    body = bytes([number]) * (size if kind == "message" else 0)
    return Envelope(who, body, kind, f"message {number}", retention, remember)


def dispatch(node: int, some: list[Envelope]) -> Step:
    async def ask(cluster: NormalizedCluster, node: Node) -> object:
        receipts = await node.backend.dispatch(some)
        cluster.remember_all(receipts)
        return receipts

    said = [(e.message_id, e.recipients, len(e.body), e.kind, e.retention, e.remember) for e in some]
    return Step(node, f"dispatch {said}", ask)


def burst(node: int, id: str, how: tuple[int, int]) -> Step:
    """Dispatch enough messages for several pages, by number or by size."""
    count, size = how

    async def ask(cluster: NormalizedCluster, node: Node) -> object:
        who, retention = Recipients.of([id]), Retention(1000, 1024 * 1024, LONG)
        some = [Envelope(who, b"x" * size, "message", f"{n}", retention) for n in range(count)]
        receipts = await node.backend.dispatch(some)
        cluster.remember_all(receipts)
        return receipts

    return Step(node, f"dispatch {count} messages of {size} bytes to {id}", ask)


def attach(node: int, id: str, sockets: int, mode: str | None, place: Place | None, is_wire2: bool) -> Step:
    async def ask(cluster: NormalizedCluster, node: Node) -> object:
        if mode is None:
            return await node.backend.attach(id, sockets)
        position = cluster.position(*place) if place and mode == "resume" else None
        start = Start(mode, position, is_wire2)  # type: ignore[arg-type]
        page = await node.backend.attach(id, sockets, start)
        cluster.remember(id, page)
        return page

    return Step(node, f"attach {sockets} of {id}, {mode} {place}, wire 2: {is_wire2}", ask)


def read(node: int, wanted: list[tuple[str, Place]]) -> Step:
    async def ask(cluster: NormalizedCluster, node: Node) -> object:
        pages = await node.backend.read([Read(id, cluster.position(*place)) for id, place in wanted])
        for (id, _), page in zip(wanted, pages, strict=True):
            cluster.remember(id, page)
        return pages

    return Step(node, f"read {wanted}", ask)


def acknowledge(node: int, some: list[tuple[str, Place, int]]) -> Step:
    async def ask(cluster: NormalizedCluster, node: Node) -> object:
        node.backend.acknowledge(
            [Acknowledgement(id, cluster.position(*place), floor) for id, place, floor in some]
        )
        return None

    return Step(node, f"acknowledge {some}", ask)


def detach(node: int, id: str) -> Step:
    async def ask(_: NormalizedCluster, node: Node) -> object:
        node.backend.detach(id)
        return None

    return Step(node, f"detach {id}", ask)


def broadcasts(node: int, place: Place | None) -> Step:
    async def ask(cluster: NormalizedCluster, node: Node) -> object:
        page = await node.backend.broadcasts(cluster.position(*place) if place else None)
        cluster.remember("*", page)
        return page

    return Step(node, f"read messages to everybody after {place}", ask)


def order(node: int, who: list[str], until: float | None, number: int) -> Step:
    """Order that the connections of ids end, under an id that often repeats an earlier one."""
    given = structs.replace(Order(tuple(who), issued_before=until).envelope(), message_id=f"order {number}")

    async def ask(cluster: NormalizedCluster, node: Node) -> object:
        [receipt] = await node.backend.dispatch([given])
        cluster.remember("orders", receipt.deliveries["*"].position)
        return receipt, await asyncio.gather(*(node.backend.standing(id) for id in IDS))

    return Step(node, f"order an end for {who}, issued before {until}, order {number}", ask)


def orders(node: int, place: Place | None) -> Step:
    async def ask(cluster: NormalizedCluster, node: Node) -> object:
        page = await node.backend.orders(cluster.position(*place) if place else None)
        return page._replace(epoch="") if place is None else page  # before the first it is each backend's own

    return Step(node, f"read orders after {place}", ask)


def look(node: int) -> Step:
    async def ask(cluster: NormalizedCluster, node: Node) -> object:
        backend = node.backend
        found = await asyncio.gather(
            backend.query(Heads(IDS)), backend.query(Online(IDS)), backend.query(OnlineCount())
        )
        for id, head in found[0].items():
            cluster.remember(id, head)
        return found

    return Step(node, "heads, online and count", ask)


def peek(node: int, id: str, limit: int) -> Step:
    async def ask(_: NormalizedCluster, node: Node) -> object:
        return await node.backend.query(Peek(id, limit))

    return Step(node, f"peek at {limit} of {id}", ask)


def purge(node: int, id: str) -> Step:
    async def ask(_: NormalizedCluster, node: Node) -> object:
        return await node.backend.purge(id)

    return Step(node, f"purge {id}", ask)


def replace(node: int) -> Step:
    async def ask(cluster: NormalizedCluster, _: Node) -> object:
        await cluster.replace(node)
        return None

    return Step(node, "is closed, and another one opened", ask)


modes = st.sampled_from([None, "fresh", "fresh", "resume", "resume", "top", "acknowledge"])
own = st.tuples(ids, low).map(lambda place: (place[0], place))
foreign = st.tuples(ids, places)
proven = st.tuples(st.sampled_from([own, own, own, foreign]).flatmap(lambda of: of), low).map(
    lambda each: (*each[0], each[1])
)

WEIGHTS = {
    st.builds(dispatch, nodes, st.lists(envelopes(), min_size=1, max_size=3)): 8,
    st.builds(attach, nodes, ids, st.sampled_from([1, 1, 1, 2, 3]), modes, places, st.booleans()): 8,
    st.builds(acknowledge, nodes, st.lists(proven, min_size=1, max_size=3, unique_by=lambda p: p[0])): 8,
    st.builds(read, nodes, st.lists(st.one_of(own, foreign), min_size=1, max_size=3)): 4,
    st.builds(broadcasts, nodes, st.one_of(st.none(), st.tuples(st.just("*"), sequences), places)): 2,
    st.builds(order, nodes, st.lists(ids, min_size=1), untils, st.integers(0, 9)): 2,
    st.builds(orders, nodes, st.one_of(st.none(), st.tuples(st.just("orders"), sequences), places)): 2,
    st.builds(detach, nodes, ids): 3,
    st.builds(purge, nodes, ids): 1,
    st.builds(peek, nodes, ids, st.integers(1, 5)): 1,
    st.builds(replace, nodes): 1,
    st.builds(burst, nodes, ids, st.sampled_from([(10, 1), (300, 1), (4, 90_000)])): 1,
}

steps = st.sampled_from([kind for kind, weight in WEIGHTS.items() for _ in range(weight)]).flatmap(
    lambda kind: kind
)


@st.composite
def scripts(draw: st.DrawFn) -> list[Step]:
    """Steps in a row."""
    return [draw(steps) for _ in range(draw(st.integers(1, 60)))]

"""Helpers to store messages, and to read them as nodes do."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from mesa_ws.backend.outbox import Acknowledgement, Page, Read, Start
from mesa_ws.messages.envelope import Envelope, Retention, prepare
from mesa_ws.messages.message import Message
from mesa_ws.messages.receipt import Position
from tests.contract.cluster import Node

KEEP = Retention(max_messages=10_000, max_bytes=64 * 1024 * 1024, ttl=3600.0)

FRESH = Start()
WIRE2 = Start(is_wire2=True)


def kept(
    data: object, recipients: Iterable[str] = ("alice",), *, retention: Retention = KEEP, size: int = 0
) -> Envelope:
    """Return an envelope to be stored; with `size`, its body has exactly that many bytes."""
    envelope = prepare(Message(0, data), recipients, retention=retention)
    return replace(envelope, body=bytes(size)) if size else envelope


async def store(node: Node, count: int, *, retention: Retention = KEEP, size: int = 0) -> list[Envelope]:
    """Store messages for alice."""
    sent = [kept(n, retention=retention, size=size) for n in range(count)]
    await node.backend.dispatch(sent)
    return sent


async def attach(node: Node, id: str = "alice", start: Start = FRESH) -> Page:
    """Attach one connection, and read its first page."""
    page = await node.backend.attach(id, 1, start)
    assert page is not None
    return page


async def resume(node: Node, position: Position | None, id: str = "alice") -> Page:
    """Attach one connection that has a position."""
    return await attach(node, id, Start("resume", position, is_wire2=True))


async def read(node: Node, epoch: str, sequence: int, id: str = "alice", *, is_wire2: bool = False) -> Page:
    """Read the page after a sequence."""
    [page] = await node.backend.read([Read(id, Position(epoch, sequence), is_wire2)])
    return page


def acknowledge(node: Node, epoch: str, sequence: int, floor: int | None = None) -> None:
    """Acknowledge everything up to a sequence for all of alice's connections on a node."""
    position = Position(epoch, sequence)
    node.backend.acknowledge([Acknowledgement("alice", position, sequence if floor is None else floor)])


def bodies(page: Page) -> list[bytes]:
    """Return the bodies of a page."""
    return [entry.body for entry in page.entries]


def sent_bodies(envelopes: Sequence[Envelope]) -> list[bytes]:
    """Return the bodies of envelopes."""
    return [envelope.body for envelope in envelopes]

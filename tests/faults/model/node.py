"""A server node: its ids, its received frames, and its unsent commands."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from mesa_ws.messages.receipt import Position

from .calls import Page
from .device import Began, Connection, Sent
from .masters import Process
from .truth import Message


class Hint:
    """A frame on a node's channel."""

    def __init__(self, frame: bytes) -> None:
        start = 4 + int.from_bytes(frame[:4], "big")
        head: list[Any] = msgspec.msgpack.decode(frame[4:start])
        self.counter: int = head[0]
        self.is_marker = head[1] == "marker"
        self.message = Message(head[2], frame[start:])
        flat = head[5]
        places = [Position(flat[at], flat[at + 1]) for at in range(0, len(flat), 2)]
        self.places: dict[str, Position] = dict(zip(head[3], places, strict=True))


class Node:
    """One process.

    Args:
        name: unique name.
        process: its connections to the master.

    Attributes:
        members: version of each id that it holds.
        outgoing: posted commands, in the order of the pipeline.
        pending: pages under way from Redis.
        is_in_doubt: whether it has to register and read everything again.
    """

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.process = process
        self.members: dict[str, int] = {}
        self.version = 0
        self.connections: list[Connection] = []
        self.hints: deque[Hint] = deque()
        self.outgoing: deque[Callable[[], None]] = deque()
        self.pending: deque[tuple[Connection, Page]] = deque()
        self.is_in_doubt = False
        self.counter: int | None = None

    def of(self, id: str) -> list[Connection]:
        """Return the connections of an id."""
        return [each for each in self.connections if each.id == id]

    def next_version(self) -> int:
        """Return the version of the next change."""
        self.version += 1
        return self.version

    def doubt(self) -> None:
        """Note that the node may have missed messages."""
        self.is_in_doubt = True
        self.counter = None

    def fall_behind(self) -> None:
        """Mark every connection as behind, so that the node reads everything again."""
        for connection in self.connections:
            connection.is_behind = True

    def hear(self, hint: Hint) -> None:
        """Process a frame of the channel."""
        before = hint.counter - (not hint.is_marker)
        if self.counter is not None and before > self.counter:
            self.fall_behind()
        self.counter = hint.counter
        for id, position in hint.places.items():
            for connection in self.of(id):
                self._offer(connection, position, hint.message)

    def _offer(self, connection: Connection, position: Position, message: Message) -> None:
        at = connection.at
        if at is None or connection.is_reading or connection.is_behind:
            connection.is_behind = True
        elif position == (at.epoch, at.sequence + 1):
            connection.at = position
            connection.frames.append(Sent(position, message.message_id))
        elif position.epoch != at.epoch or position.sequence > at.sequence:
            connection.is_behind = True

    def take_page(self) -> Page | None:
        """Process a page: its messages go to the device. Return None if the device has left."""
        connection, page = self.pending.popleft()
        if connection not in self.connections:
            return None
        connection.is_reading = False
        start = Position(page.epoch, page.start)
        if connection.at is None or page.status != "resumed" or page.lost:
            connection.frames.append(Began(page.status, start, page.lost))
        self._carry_proof(connection, page)
        connection.at = start
        for stored in page.entries:
            connection.at = Position(page.epoch, connection.at.sequence + 1)
            connection.frames.append(Sent(connection.at, stored.message.message_id))
        if connection.at.sequence < page.top:
            connection.is_behind = True
        return page

    def _carry_proof(self, connection: Connection, page: Page) -> None:
        proven = connection.proven
        assert proven is not None
        if page.status == "reset":
            connection.proven = Position(page.epoch, page.start)
        elif proven.epoch != page.epoch:
            connection.proven = Position(page.epoch, min(proven.sequence, page.start - page.lost))

    def take_answer(self, connection: Connection) -> None:
        """Process an acknowledgement; one of messages not sent on this connection is not trusted."""
        position, at, proven = connection.answers.popleft(), connection.at, connection.proven
        if at is None or proven is None or position.epoch != at.epoch:
            return
        if proven.sequence < position.sequence <= at.sequence:
            connection.proven = position

    def proofs(self, id: str) -> Iterator[tuple[Position, int]]:
        """Return the acknowledgements of an id, for each epoch of its connections: the highest of those
        that began at the acknowledged position, and the lowest of all.
        """
        connections = self.of(id)
        for epoch in dict.fromkeys(each.at.epoch for each in connections if each.at is not None):
            present = [each for each in connections if each.at and each.at.epoch == epoch]
            highest = max((each.has for each in present if not each.device.skips_stored), default=0)
            floor = min(each.has for each in present) if len(present) == len(connections) else 0
            yield Position(epoch, highest), floor

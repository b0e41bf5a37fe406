"""Deliveries to very many connections, in slices that leave the event loop to others in between.

A delivery begins in the next turn of the loop, as far as a slice goes, and goes on in later turns, one
delivery after another. Each connection gets everything in the order of the bus all the same: whatever else is
about to be written to a connection, or changes what it may get, calls `settle` first, which writes what still
waits for that connection. So nothing is copied for each connection when a delivery begins, and a message to
one client waits for no other client.

Messages to everybody that come in one turn, or while others are written, join one delivery: their frames are
put together once, and leave in one write for each connection that gets all of them and for which nothing
waits. The other connections get them one after another.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..messages.receipt import Position
from .connection import Connection
from .send_queue import HEAD_SIZE, JOINED_BYTES, joined

AT_ONCE = 100
"""Writes that are made at once; a delivery with more is made in slices."""

TURN = 0.004
"""Seconds of a slice."""

BLOCK = 16
"""Connections that are written to between two looks at the clock."""

MOST = 64
"""Deliveries that wait; beyond, the oldest is finished at once, so that the bus is read no faster."""

MOST_JOINED = 64
"""Messages that join one delivery."""

DONE = 2**62
"""Number of a connection that gets no large delivery any more, not even one that waits."""

Write = Callable[[Connection], None]
"""Writes one message to a connection."""

_Connections = dict[Connection, None]
"""Connections in order, for a fast look-up."""


class Shared(NamedTuple):
    """A message to everybody, whose frames are the same for many connections.

    Attributes:
        plain: its body for clients of 1.x.
        numbered: its body for others.
        position: where it is stored; None if it is not.
        excluding: ids that do not get it.
    """

    plain: bytes
    numbered: bytes
    position: Position | None
    excluding: frozenset[str]


class _Joined:
    """The frames of messages to everybody, put together.

    Args:
        messages: in their order; positions follow each other.
        last: number of the last one.
        has_anonymous: whether connections without an id get them.
    """

    __slots__ = ("_count", "_excluding", "_first", "_has_anonymous", "_last", "_numbered", "_plain")

    def __init__(self, messages: Sequence[Shared], last: int, *, has_anonymous: bool) -> None:
        positions = [each.position for each in messages if each.position is not None]
        self._first = positions[0] if positions else None
        self._count = len(positions)
        self._excluding = frozenset().union(*(each.excluding for each in messages))
        self._last = last
        self._has_anonymous = has_anonymous
        self._numbered = self._plain = joined(each.plain for each in messages)
        if positions:
            self._numbered = joined(each.numbered for each in messages)

    def write(self, connection: Connection) -> bool:
        """Write all of them to a connection in one write; return False if they have to go one by one."""
        write, subscription = connection.send_queue.write_joined, connection.subscription
        if write is None:
            return False
        frames = self._numbered
        if subscription is None:
            if not self._has_anonymous:
                return False
        elif self._excluding and subscription.id in self._excluding:
            return False
        elif not subscription.is_wire2:
            frames = self._plain
        elif self._first is not None and not subscription.announce_all(self._first, self._count):
            return False
        connection.large_delivery = self._last
        write(frames)
        return True


class _Message(NamedTuple):
    """A message of a delivery; a later one has a higher number.

    Attributes:
        write: writes it to one connection.
        finished: called after the last write.
        shared: what it has in common with others, if it may join them.
    """

    number: int
    write: Write
    finished: Callable[[], None]
    shared: Shared | None


@dataclass(slots=True, eq=False)
class _Delivery:
    """Messages to the same connections that are not written to all of them yet.

    Attributes:
        messages: one, or several that are shared.
        among: its connections; None for all that were open when it began.
        room: bytes of frames that may join it; 0 for a message that is not shared.
        stored: position of the last one that is stored.
        joined: the frames of its messages, from the first write on.
        rest: connections that may still lack it, and no others, which may have ended and are freed; None
            before the first of them.
    """

    messages: list[_Message]
    among: _Connections | None
    room: int = JOINED_BYTES
    stored: Position | None = None
    joined: _Joined | None = None
    rest: deque[Connection] | None = None

    def takes(self, shared: Shared | None) -> bool:
        """Whether a message can leave in one write with the others; it is counted as one of them then."""
        if shared is None or self.rest is not None or len(self.messages) == MOST_JOINED:
            return False
        size, here, position = len(shared.numbered) + HEAD_SIZE, self.stored, shared.position
        follows = here is None or position is None or position == (here.epoch, here.sequence + 1)
        if not follows or size > self.room:
            return False
        self.room -= size
        self.stored = position or here
        return True


class LargeDeliveries:
    """The deliveries of a node that are made in slices. For the event loop only.

    Args:
        everyone: the connections of the node.
        failed: called with a connection that could not be written to, and the error.
        has_anonymous: whether connections without an id get messages to everybody.
    """

    def __init__(
        self,
        everyone: Collection[Connection],
        failed: Callable[[Connection, Exception], None],
        *,
        has_anonymous: bool,
    ) -> None:
        self._everyone = everyone
        self._failed = failed
        self._has_anonymous = has_anonymous
        self._waiting: deque[_Delivery] = deque()
        self._number = 0
        self._turn: asyncio.Handle | None = None

    def join(self, connection: Connection) -> None:
        """Give a new connection only what begins from now on."""
        connection.large_delivery = self._number

    def deliver(
        self,
        write: Write,
        among: Collection[Connection] | None,
        finished: Callable[[], None],
        shared: Shared | None = None,
    ) -> None:
        """Write to connections: at once if they are few and nothing is shared, or else in slices.

        Args:
            write: called once with each connection, unless that has ended before, or gets `shared`.
            among: these connections; None for all of the node.
            finished: called after the last one.
            shared: what may leave in one write with messages before and after it; to all of the node.
        """
        connections = self._everyone if among is None else among
        if (shared is None or not connections) and self.write_to_few(write, connections):
            finished()
            return
        self._number += 1
        message = _Message(self._number, write, finished, shared)
        if self._waiting and self._waiting[-1].takes(shared):
            self._waiting[-1].messages.append(message)
        else:
            self._begin(message, None if among is None else dict.fromkeys(among))

    def write_to_few(self, write: Write, connections: Collection[Connection]) -> bool:
        """Write to connections at once, if they are few; return whether they are."""
        if len(connections) * (1 + len(self._waiting)) > AT_ONCE:
            return False
        for connection in tuple(connections):
            try:
                if self._waiting:
                    self.settle(connection)
                write(connection)
            except Exception as error:  # noqa: BLE001 - it is logged there
                self._failed(connection, error)
        return True

    def settle(self, connection: Connection) -> None:
        """Write what waits for a connection, because something else follows; this may end it."""
        if self._waiting:
            for delivery in tuple(self._waiting):
                is_due = connection.large_delivery < delivery.messages[-1].number
                if is_due and (delivery.among is None or connection in delivery.among):
                    self._write(delivery, connection)

    def close(self) -> None:
        """Drop what waits: all connections have ended."""
        self._waiting.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _begin(self, message: _Message, among: _Connections | None) -> None:
        if len(self._waiting) >= MOST:
            self._write_on(None)
        delivery = _Delivery([message], among)
        if not delivery.takes(message.shared):
            delivery.room = 0
        self._waiting.append(delivery)
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._go_on)

    def _write(self, delivery: _Delivery, connection: Connection) -> None:
        """Write what a connection lacks of a delivery, one message after another."""
        for number, write, _, _ in delivery.messages:
            if connection.large_delivery < number:
                connection.large_delivery = number
                try:
                    write(connection)
                except Exception as error:  # noqa: BLE001 - it is logged there
                    self._failed(connection, error)

    def _go_on(self) -> None:
        """Make a slice; a further delivery of this turn of the loop waits for the next turn."""
        loop = asyncio.get_running_loop()
        self._turn = None
        until = loop.time() + TURN
        while self._waiting:
            self._write_on(BLOCK)
            if loop.time() >= until:
                break
        if self._waiting and self._turn is None:
            self._turn = loop.call_soon(self._go_on)

    def _write_on(self, most: int | None) -> None:
        """Write to the next connections of the oldest delivery; None for all of them."""
        delivery = self._waiting[0]
        messages = delivery.messages
        first, last = messages[0].number, messages[-1].number
        if delivery.rest is None:
            delivery.rest = deque(self._everyone if delivery.among is None else delivery.among)
            shared = [each.shared for each in messages if each.shared is not None]
            if shared:
                delivery.joined = _Joined(shared, last, has_anonymous=self._has_anonymous)
        rest, joined = delivery.rest, delivery.joined
        for _ in range(len(rest) if most is None else min(most, len(rest))):
            connection = rest.popleft()
            try:
                if joined is None or connection.large_delivery >= first or not joined.write(connection):
                    self._write(delivery, connection)
            except Exception as error:  # noqa: BLE001 - it is logged there
                self._failed(connection, error)
        if not rest:
            self._waiting.popleft()
            for message in messages:
                message.finished()

"""Deliveries to very many connections, in slices that leave the event loop to others in between.

A delivery begins in the next turn of the loop, as far as a slice goes, and goes on in later turns, one
delivery after another. Each connection gets everything in the order of the bus all the same: whatever else is
about to be written to a connection, or changes what it may get, calls `settle` first, which writes what still
waits for that connection. So nothing is copied for each connection when a delivery begins, and a message to
one client waits for no other client.

Messages to everybody that come in one turn, or while others are written, join one delivery: their frames are
put together once, and leave in one write for each connection that gets all of them and for which nothing
waits. The other connections get them one after another. Of a burst to the same ids, what comes after the
second message of a turn waits for the next turn, and leaves in one write likewise.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..messages.frames import HEAD_SIZE, joined
from ..messages.receipt import Position
from .connection import Connection
from .send_queue import JOINED_BYTES

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
    """A message to everybody, whose frame is the same for many connections.

    Attributes:
        plain: its body for clients of 1.x.
        numbered: its body for others.
        position: where it is stored; None if it is not.
        excluding: ids that do not get it; None for connections without an id.
    """

    plain: bytes
    numbered: bytes
    position: Position | None = None
    excluding: frozenset[str | None] = frozenset()


@dataclass(slots=True, eq=False)
class _Delivery:
    """A message that is not written to all of its connections yet, or several that are shared.

    Attributes:
        first: number of the first message; a later one has a higher number.
        last: number of the last one.
        among: its connections; None for all that were open when it began.
        writes: for each message, writes it to one connection.
        finished: for each message, called after the last write.
        shared: those that leave in one write.
        is_burst: whether they are a burst to few connections, whose frames are gathered.
        room: bytes of frames that may join them.
        positions: of those that are stored.
        plain: their frames for clients of 1.x, from the first write on.
        numbered: their frames for others, likewise.
        excluding: ids that do not get all of them, likewise.
        rest: connections that may still lack it, and no others, which may have ended and are freed; None
            before the first of them.
    """

    first: int
    last: int
    among: _Connections | None
    is_burst: bool = False
    writes: list[Write] = field(default_factory=list)
    finished: list[Callable[[], None]] = field(default_factory=list)
    shared: list[Shared] = field(default_factory=list)
    room: int = JOINED_BYTES
    positions: list[Position] = field(default_factory=list)
    plain: bytes = b""
    numbered: bytes = b""
    excluding: frozenset[str | None] = frozenset()
    rest: deque[Connection] | None = None

    def takes(self, size: int) -> bool:
        """Whether a message of some bytes can leave in one write with the others."""
        is_joined = self.is_burst or bool(self.shared)
        return is_joined and size <= self.room and len(self.writes) < MOST_JOINED and self.rest is None

    def follows(self, position: Position | None) -> bool:
        """Whether a message to everybody comes next: all of its frames are the same for many connections."""
        here = self.positions[-1] if self.positions else None
        is_next = here is None or position is None or position == (here.epoch, here.sequence + 1)
        return self.among is None and is_next

    def add(
        self, write: Write, finished: Callable[[], None], size: int, shared: Shared | None = None
    ) -> None:
        """Add a message."""
        self.last = self.first + len(self.writes)
        self.writes.append(write)
        self.finished.append(finished)
        self.room -= size
        if shared is not None:
            self.shared.append(shared)
            if shared.position is not None:
                self.positions.append(shared.position)

    def begin(self, everyone: Collection[Connection]) -> deque[Connection]:
        """Put the frames together, and return the connections; nothing is added any more."""
        self.plain = self.numbered = joined(each.plain for each in self.shared)
        if self.positions:
            self.numbered = joined(each.numbered for each in self.shared)
        self.excluding = frozenset().union(*(each.excluding for each in self.shared))
        return deque(everyone if self.among is None else self.among)

    def write_joined(self, connection: Connection) -> bool:
        """Write all messages in one write; return False, without one, if each has to be written by itself."""
        write, frames = connection.send_queue.write_joined, self.numbered
        if write is None or not frames or connection.large_delivery >= self.first:
            return False
        if self.excluding or self.positions:
            subscription = connection.subscription
            if self.excluding and (None if subscription is None else subscription.id) in self.excluding:
                return False
            if subscription is not None and not subscription.is_wire2:
                frames = self.plain
            elif (
                subscription is not None and self.positions and not subscription.announce_all(self.positions)
            ):
                return False
        connection.large_delivery = self.last
        write(frames)
        return True


class LargeDeliveries:
    """The deliveries of a node that are made in slices. For the event loop only.

    Args:
        everyone: the connections of the node.
        failed: called with a connection that could not be written to, and the error.
    """

    def __init__(
        self, everyone: Collection[Connection], failed: Callable[[Connection, Exception], None]
    ) -> None:
        self._everyone = everyone
        self._failed = failed
        self._waiting: deque[_Delivery] = deque()
        self._number = 0
        self._turn: asyncio.Handle | None = None
        self._recent: Sequence[str] | None = None  # the ids of the last message to few
        self._is_in_turn = False  # whether this turn of the loop has repeated ids already

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
        """Write to connections: at once if they are few, or else in slices.

        What is shared is written in slices, to few as well, and what goes to all of the node after it.

        Args:
            write: called once with each connection, unless that has ended before, or gets `shared`.
            among: these connections; None for all of the node.
            finished: called after the last one.
            shared: what may leave in one write with messages before and after it; to all of the node.
        """
        connections = self._everyone if among is None else among
        may_wait = shared is not None or (among is None and self._waiting)
        if not (may_wait and connections) and self.write_to_few(write, connections):
            finished()
            return
        self._number += 1
        size = len(shared.numbered) + HEAD_SIZE if shared is not None else 0
        last = self._waiting[-1] if self._waiting and shared is not None else None
        if last is None or shared is None or not (last.takes(size) and last.follows(shared.position)):
            self._begin(None if among is None else dict.fromkeys(among))
        self._waiting[-1].add(write, finished, size, shared)

    def is_burst(self, ids: Sequence[str]) -> bool:
        """Whether a message is the third in a row to the same ids, and not the first two of a turn."""
        if ids != self._recent:
            self._recent = ids
            return False
        was_in_turn, self._is_in_turn = self._is_in_turn, True
        if not was_in_turn:
            asyncio.get_running_loop().call_soon(self._end_turn)
        return was_in_turn

    def hold(
        self, write: Write, connections: Collection[Connection], finished: Callable[[], None], size: int
    ) -> bool:
        """Let a message of a burst wait for the next turn; return whether it does: behind no others."""
        among = dict.fromkeys(connections)
        if self._waiting and not (self._waiting[-1].among == among and self._waiting[-1].takes(size)):
            if len(self._waiting) > 1 or not self._waiting[0].is_burst:
                return False
            self._write_on(None)
        self._number += 1
        if not self._waiting:
            self._begin(among, is_burst=True)
        self._waiting[-1].add(write, finished, size)
        return True

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
                is_due = connection.large_delivery < delivery.last
                if is_due and (delivery.among is None or connection in delivery.among):
                    self._write(delivery, connection)

    def close(self) -> None:
        """Drop what waits: all connections have ended."""
        self._waiting.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _end_turn(self) -> None:
        self._is_in_turn, self._recent = False, None

    def _begin(self, among: _Connections | None, *, is_burst: bool = False) -> None:
        if len(self._waiting) >= MOST:
            self._write_on(None)
        self._waiting.append(_Delivery(self._number, self._number, among, is_burst))
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._go_on)

    def _write(self, delivery: _Delivery, connection: Connection) -> None:
        """Write what a connection lacks of a delivery, one message after another."""
        if delivery.is_burst:
            connection.send_queue.gather()
        for number, write in enumerate(delivery.writes, delivery.first):
            if connection.large_delivery < number:
                connection.large_delivery = number
                try:
                    write(connection)
                except Exception as error:  # noqa: BLE001 - it is logged there
                    self._failed(connection, error)
        if delivery.is_burst:
            try:
                connection.send_queue.write_gathered()
            except Exception as error:  # noqa: BLE001 - it is logged there
                self._failed(connection, error)

    def _go_on(self) -> None:
        """Make a slice; a further delivery of this turn of the loop waits for the next turn."""
        loop = asyncio.get_running_loop()
        self._turn = None
        until = loop.time() + TURN
        self._write_on(BLOCK)
        while self._waiting and loop.time() < until:
            self._write_on(BLOCK)
        if self._waiting and self._turn is None:
            self._turn = loop.call_soon(self._go_on)

    def _write_on(self, most: int | None) -> None:
        """Write to the next connections of the oldest delivery; None for all of them."""
        delivery = self._waiting[0]
        if delivery.rest is None:
            delivery.rest = delivery.begin(self._everyone)
        rest = delivery.rest
        for _ in range(len(rest) if most is None else min(most, len(rest))):
            connection = rest.popleft()
            try:
                if not delivery.write_joined(connection):
                    self._write(delivery, connection)
            except Exception as error:  # noqa: BLE001 - it is logged there
                self._failed(connection, error)
        if not rest:
            self._waiting.popleft()
            for finished in delivery.finished:
                finished()

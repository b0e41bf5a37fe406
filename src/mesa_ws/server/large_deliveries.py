"""Deliveries to very many connections, in slices that leave the event loop to others in between.

A delivery begins at once, as far as a slice goes, and goes on in later turns of the loop, one delivery after
another. Each connection gets everything in the order of the bus all the same: whatever else is about to be
written to a connection, or changes what it may get, calls `settle` first, which writes what still waits for
that connection. So nothing is copied for each connection when a delivery begins, and a message to one client
waits for no other client.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from .connection import Connection

AT_ONCE = 100
"""Writes that are made at once; a delivery with more is made in slices."""

TURN = 0.004
"""Seconds of a slice."""

BLOCK = 16
"""Connections that are written to between two looks at the clock."""

MOST = 64
"""Deliveries that wait; beyond, the oldest is finished at once, so that the bus is read no faster."""

DONE = 2**62
"""Number of a connection that gets no large delivery any more, not even one that waits."""

Write = Callable[[Connection], None]
"""Writes one message to a connection."""

_Connections = dict[Connection, None]
"""Connections in order, for a fast look-up."""


@dataclass(slots=True, eq=False)
class _Delivery:
    """A delivery that is not finished.

    Attributes:
        number: a later one has a higher number.
        write: writes to one of its connections.
        among: its connections; None for all that were open when it began.
        finished: called after the last write.
        rest: connections that may still lack it, and no others, which may have ended and are freed; None
            before the first of them.
    """

    number: int
    write: Write
    among: _Connections | None
    finished: Callable[[], None]
    rest: deque[Connection] | None = None


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

    def join(self, connection: Connection) -> None:
        """Give a new connection only what begins from now on."""
        connection.large_delivery = self._number

    def deliver(
        self, write: Write, among: Collection[Connection] | None, finished: Callable[[], None]
    ) -> None:
        """Write to connections: at once if they are few, or else in slices.

        Args:
            write: called once with each connection, unless that has ended before.
            among: these connections; None for all of the node.
            finished: called after the last one.
        """
        connections = self._everyone if among is None else among
        if self.write_to_few(write, connections):
            finished()
        else:
            self._begin(write, None if among is None else dict.fromkeys(among), finished)

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
                is_due = connection.large_delivery < delivery.number
                if is_due and (delivery.among is None or connection in delivery.among):
                    self._write(delivery, connection)

    def close(self) -> None:
        """Drop what waits: all connections have ended."""
        self._waiting.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _begin(self, write: Write, among: _Connections | None, finished: Callable[[], None]) -> None:
        if len(self._waiting) >= MOST:
            self._write_on(None)
        self._number += 1
        self._waiting.append(_Delivery(self._number, write, among, finished))
        if self._turn is None:
            self._go_on()

    def _write(self, delivery: _Delivery, connection: Connection) -> None:
        connection.large_delivery = delivery.number
        try:
            delivery.write(connection)
        except Exception as error:  # noqa: BLE001 - it is logged there
            self._failed(connection, error)

    def _go_on(self) -> None:
        """Make a slice; a further delivery of this turn of the loop waits for the next turn."""
        loop = asyncio.get_running_loop()
        self._turn = None
        if not self._waiting:
            return
        self._turn = loop.call_soon(self._go_on)
        until = loop.time() + TURN
        self._write_on(BLOCK)
        while self._waiting and loop.time() < until:
            self._write_on(BLOCK)

    def _write_on(self, most: int | None) -> None:
        """Write to the next connections of the oldest delivery; None for all of them."""
        delivery = self._waiting[0]
        if delivery.rest is None:
            among = self._everyone if delivery.among is None else delivery.among
            delivery.rest = deque(among)
        number, rest, write = delivery.number, delivery.rest, delivery.write
        for _ in range(len(rest) if most is None else min(most, len(rest))):
            connection = rest.popleft()
            if connection.large_delivery < number:
                connection.large_delivery = number  # as `_write` does, without the cost of a call
                try:
                    write(connection)
                except Exception as error:  # noqa: BLE001 - it is logged there
                    self._failed(connection, error)
        if not rest:
            self._waiting.popleft()
            delivery.finished()

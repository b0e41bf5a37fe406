"""Guests: clients that have not logged in, where the server has an authenticator.

A guest has a small allowance, so that strangers cost little. All guests of a node share one bound of bytes
that wait: messages in their receive queues, the one being handled, and messages that have not arrived
completely. Beyond the bound, the newest guest that has at least an average share is closed; it may come back.
So guests whose logins are small are not closed because of others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from ..close import CloseCode
from ..protocol.events import Close
from ..protocol.server import ServerProtocol, State
from ..settings import Limits
from .flow_control import Load

READ_AHEAD = 64 * 1024
"""Bytes that may have been read from a client before its reading was paused, and count nowhere else."""


class Guests:
    """What the guests of one node have waiting. For the event loop only.

    Attributes:
        most: events and bytes of one guest that may wait.
        max_message: bytes of one message of a guest.
        max_requests: requests of one guest that wait for answers.
        waiting: bytes of all guests that wait.
    """

    def __init__(self, limits: Limits) -> None:
        self.most = Load(
            min(limits.guest_max_queued, limits.max_queued),
            min(limits.guest_max_queued_bytes, limits.most_queued_bytes),
        )
        self.max_message = min(limits.guest_max_message, limits.max_message)
        self.max_requests = limits.guest_max_requests
        self.waiting = 0
        self._max_waiting = limits.guests_max_waiting
        self._numbers = count()
        self._holders: dict[int, Guest] = {}

    def join(self, protocol: ServerProtocol, close: Callable[[Close], None]) -> "Guest":
        """Add a guest.

        Args:
            protocol: of its connection.
            close: drops what it has waiting, and closes its connection.
        """
        return Guest(self, next(self._numbers), protocol, close)

    def hold(self, guest: "Guest", size: int) -> None:
        """Count `size` bytes as waiting for a guest, and close guests while too much waits."""
        self._count(guest, size)
        while self.waiting > self._max_waiting:
            share = self.waiting // len(self._holders)
            newest = self._holders[max(n for n, each in self._holders.items() if each.size >= share)]
            self._count(newest, 0)
            newest.close(
                Close(CloseCode.TRY_AGAIN_LATER, "too much waits of clients that have not logged in")
            )

    def _count(self, guest: "Guest", size: int) -> None:
        self.waiting += size - guest.size
        guest.size = size
        if size:
            self._holders[guest.number] = guest
        else:
            self._holders.pop(guest.number, None)


@dataclass(slots=True, eq=False)
class Guest:
    """One client before its login. For the event loop only.

    Attributes:
        guests: all guests of the node.
        number: a later guest has a higher one.
        protocol: of its connection.
        close: as for `Guests.join`.
        size: bytes that count as waiting.
        partial: bytes of the message that is arriving.
        in_turn: bytes of the message that is being handled.
        requests: requests that wait for answers.
    """

    guests: Guests
    number: int
    protocol: ServerProtocol
    close: Callable[[Close], None]
    size: int = 0
    partial: int = 0
    in_turn: int = 0
    requests: int = 0

    @property
    def is_logging_in(self) -> bool:
        """Whether a login waits for its answer; then what follows it waits as well, whatever its size."""
        return self.protocol.state is State.AUTHENTICATING

    def objection(self, size: int) -> Close | None:
        """Return why the guest must not send a message of so many bytes."""
        if size <= self.guests.max_message or self.is_logging_in:
            return None
        why = f"message of more than {self.guests.max_message} bytes before login"
        return Close(CloseCode.TOO_BIG, why)

    def may_request(self) -> bool:
        """Count a request; return False for one to be answered `busy`."""
        if self.requests >= self.guests.max_requests and not self.is_logging_in:
            return False
        self.requests += 1
        return True

    def answered(self) -> None:
        """Count a request as answered."""
        self.requests -= 1

    def hold(self, queued: int, *, is_paused: bool) -> None:
        """Count what waits, with `queued` bytes in the receive queue; this may close the guest."""
        self.guests.hold(self, queued + self.partial + self.in_turn + (READ_AHEAD if is_paused else 0))

    def leave(self) -> None:
        """Count nothing any more: the client has logged in, or its connection has ended."""
        self.guests.hold(self, 0)

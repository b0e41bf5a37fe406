"""One client that reads what it is sent."""

import json
import re

from .. import wire
from ..errors import Failed
from .arrival import Arrival

ACKNOWLEDGE_MESSAGES = 64
"""Messages after which a client of wire 2 proves them at once (spec section 17.6)."""

_MESSAGE, _HEARTBEAT = b'{"op":0,', b'{"op":1,'
_sequence = re.compile(rb'"s":(\d+)}$')


class Listener:
    """Counts messages, and proves to have them.

    Args:
        arrival: the client, which is in.
        is_wire2: what it speaks.

    Attributes:
        count: messages that have come.
        is_unproven: whether some of them wait for a proof.
    """

    def __init__(self, arrival: Arrival, *, is_wire2: bool) -> None:
        self.socket = arrival.socket
        self.number = arrival.number
        self.is_wire2 = is_wire2
        self.count = 0
        self.is_unproven = False
        self._rest = arrival.rest
        self._epoch = json.loads(arrival.acknowledgement)["x"]["e"] if is_wire2 else ""
        self._last = b""
        self._unacknowledged = 0

    def take(self, received: bytes) -> int:
        """Take what came; return how many messages that were."""
        before = self.count
        payloads, self._rest = wire.split(self._rest + received)
        for payload in payloads:
            if payload.startswith(_MESSAGE):
                self._message(payload)
            elif payload.startswith(_HEARTBEAT):
                self.socket.send(wire.answer())
                self.is_unproven = False
            else:
                raise Failed(f"client {self.number}: expected messages, got {payload!r}")
        return self.count - before

    def acknowledge(self) -> None:
        """Prove, on wire 2, all that has come; a message without a number has no proof."""
        found = _sequence.search(self._last)
        if self._unacknowledged and found:
            self.socket.send(wire.proof(self._epoch, int(found[1])))
        self._unacknowledged, self.is_unproven = 0, False

    def _message(self, payload: bytes) -> None:
        self.count += 1
        self._last, self.is_unproven = payload, True
        if self.is_wire2:
            self._unacknowledged += 1
            if self._unacknowledged >= ACKNOWLEDGE_MESSAGES:
                self.acknowledge()

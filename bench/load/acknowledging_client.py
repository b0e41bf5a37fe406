"""A client that counts and acknowledges messages."""

import json
import re

from .. import wire
from ..errors import Failed
from .handshake import Handshake

ACKNOWLEDGE_MESSAGES = 64
"""Messages after which a client of wire 2 acknowledges at once (spec section 17.6)."""

_MESSAGE, _HEARTBEAT = b'{"op":0,', b'{"op":1,'
_sequence = re.compile(rb'"s":(\d+)}$')


class AcknowledgingClient:
    """Counts messages, and acknowledges them.

    Args:
        handshake: that of the client, completed.
        is_wire2: whether the client speaks wire 2.

    Attributes:
        count: messages received.
        is_unacknowledged: whether some of them are not acknowledged yet.
    """

    def __init__(self, handshake: Handshake, *, is_wire2: bool) -> None:
        self.socket = handshake.socket
        self.number = handshake.number
        self.is_wire2 = is_wire2
        self.count = 0
        self.is_unacknowledged = False
        self._rest = handshake.rest
        self._epoch = json.loads(handshake.acknowledgement)["x"]["e"] if is_wire2 else ""
        self._last = b""
        self._unacknowledged = 0

    def take(self, received: bytes) -> int:
        """Process received bytes; return the number of messages in them."""
        before = self.count
        payloads, self._rest = wire.split(self._rest + received)
        for payload in payloads:
            if payload.startswith(_MESSAGE):
                self._message(payload)
            elif payload.startswith(_HEARTBEAT):
                self.socket.send(wire.answer())
                self.is_unacknowledged = False
            else:
                raise Failed(f"client {self.number}: expected messages, got {payload!r}")
        return self.count - before

    def acknowledge(self) -> None:
        """Acknowledge all numbered messages, on wire 2."""
        found = _sequence.search(self._last)
        if self._unacknowledged and found:
            self.socket.send(wire.acknowledge_position(self._epoch, int(found[1])))
        self._unacknowledged, self.is_unacknowledged = 0, False

    def _message(self, payload: bytes) -> None:
        self.count += 1
        self._last, self.is_unacknowledged = payload, True
        if self.is_wire2:
            self._unacknowledged += 1
            if self._unacknowledged >= ACKNOWLEDGE_MESSAGES:
                self.acknowledge()

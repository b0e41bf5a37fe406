"""A client of any server, which counts messages by the end of their data."""

import json
from typing import Any

from .. import wire
from .dialects import PERSONAL
from .handshake import Handshake

_OVERLAP = len(wire.MARK) - 1


class CountingClient:
    """Counts messages, and does not acknowledge them.

    Args:
        handshake: that of the client, completed.

    Attributes:
        count: messages received.
    """

    is_unacknowledged = is_wire2 = False

    def __init__(self, handshake: Handshake) -> None:
        self.socket = handshake.socket
        self.number = handshake.number
        self.count = 0
        self._tail = b""

    def take(self, received: bytes) -> int:
        """Count the messages that end in these bytes."""
        received = self._tail + received
        found = received.count(wire.MARK)
        self._tail = received[-_OVERLAP:]
        self.count += found
        return found

    def acknowledge(self) -> None:
        """Do nothing."""


def position(handshake: Handshake) -> dict[str, Any]:
    """Return how far a client of Centrifugo is in its own channel, as of its login."""
    [reply] = [json.loads(line) for line in handshake.acknowledgement.split(b"\n") if b'"connect"' in line]
    own = reply["connect"]["subs"][f"{PERSONAL}:#{handshake.number}"]
    recovered = [publication["offset"] for publication in own.get("publications", ())]
    return {"epoch": own.get("epoch", ""), "offset": max([own.get("offset", 0), *recovered])}

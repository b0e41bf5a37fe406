"""Main program: obeys the orders of a benchmark on standard input."""

import json
import sys
from collections.abc import Callable
from typing import Any

from ..errors import Failed
from .acknowledging_clients import AcknowledgingClients
from .clients import Clients
from .connecting import AT_ONCE
from .pacer import Pacer

Answer = dict[str, Any]


class Load:
    """The orders: each method is one, with its details as arguments."""

    def __init__(self) -> None:
        self._clients = Clients()
        self._acknowledging = AcknowledgingClients()

    def connect(self, port: int, connections: int, at_once: int = AT_ONCE) -> Answer:
        """Connect clients that do not acknowledge, some of them at a time."""
        self._clients.connect(port, connections, at_once)
        return {}

    def read(self, count: int) -> Answer:
        """Read `count` bytes."""
        self._clients.read(count)
        return {}

    def drain(self, seconds: float) -> Answer:
        """Read for some time."""
        self._clients.drain(seconds)
        return {}

    def leave(self) -> Answer:
        """Wait until the server has closed all clients."""
        self._clients.leave()
        return {}

    def send(self, messages: int) -> Answer:
        """Send messages, each client in turn."""
        self._clients.send(messages)
        return {}

    def forget(self) -> Answer:
        """Reset the counts."""
        self._clients.forget_counts()
        return {}

    def counts(self) -> Answer:
        """Return the fewest and the most bytes that a client has received."""
        fewest, most = self._clients.counts()
        return {"fewest": fewest, "most": most}

    def pace(self, port: int, number: int, rate: int, messages: int) -> Answer:
        """Measure latencies."""
        return {"latencies": Pacer(self._clients.client(number), port).run(rate, messages)}

    def drop(self) -> Answer:
        """Reset all connections."""
        self._clients.drop()
        self._acknowledging.drop()
        return {}

    def listen(self, port: int, first: int, count: int, is_wire2: bool) -> Answer:
        """Connect clients that acknowledge."""
        self._acknowledging.connect(port, first, count, is_wire2=is_wire2)
        return {}

    def receive(self, count: int) -> Answer:
        """Read `count` messages with clients that acknowledge."""
        self._acknowledging.receive(count)
        return {}

    def acknowledge(self) -> Answer:
        """Wait until these clients have acknowledged everything."""
        self._acknowledging.acknowledge()
        return {}

    def log_in(self, port: int, first: int, count: int, messages: int, is_wire2: bool) -> Answer:
        """Connect clients that have stored messages."""
        seconds = self._acknowledging.log_in(port, first, count, messages, is_wire2=is_wire2)
        return {"seconds": seconds}

    def received(self) -> Answer:
        """Return the fewest and the most messages that one of these clients has received."""
        fewest, most = self._acknowledging.counts()
        return {"fewest": fewest, "most": most}


def main() -> None:
    """Obey orders until standard input ends."""
    load = Load()
    for line in sys.stdin:
        details = json.loads(line)
        obey: Callable[..., Answer] = getattr(load, details.pop("order"))
        try:
            answer = obey(**details)
        except (Failed, OSError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


main()

"""Main program: obeys the orders of a benchmark on standard input."""

import json
import sys
from collections.abc import Callable
from typing import Any

from ..errors import Failed
from .clients import Clients
from .connecting import AT_ONCE
from .message_clients import MessageClients
from .pacer import Pacer

Answer = dict[str, Any]


class Load:
    """The orders: each method is one, with its details as arguments."""

    def __init__(self) -> None:
        self._clients = Clients()
        self._messages = MessageClients()

    def connect(self, port: int, connections: int, at_once: int = AT_ONCE) -> Answer:
        """Connect clients of Mesa whose bytes are counted, some of them at a time."""
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

    def pace(self, port: int, number: int, rate: int, messages: int) -> Answer:
        """Measure latencies."""
        client = self._messages.client(number)
        return {"latencies": Pacer(client.socket, port, client.take).run(rate, messages)}

    def drop(self) -> Answer:
        """Reset all connections."""
        self._clients.drop()
        self._messages.drop()
        return {}

    def listen(self, port: int, first: int, count: int, dialect: str) -> Answer:
        """Connect clients whose messages are counted; see `bench.load.dialects`."""
        self._messages.connect(port, first, count, dialect)
        return {}

    def receive(self, count: int) -> Answer:
        """Read `count` messages."""
        self._messages.receive(count)
        return {}

    def acknowledge(self) -> Answer:
        """Wait until the clients have acknowledged everything."""
        self._messages.acknowledge()
        return {}

    def log_in(self, port: int, first: int, count: int, messages: int, dialect: str) -> Answer:
        """Connect clients that have stored messages."""
        seconds = self._messages.log_in(port, first, count, messages, dialect)
        return {"seconds": seconds}

    def received(self) -> Answer:
        """Return the fewest and the most messages that a client has received since the last call."""
        fewest, most = self._messages.counts()
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

"""Takes the orders of a benchmark on standard input."""

import json
import sys
from collections.abc import Callable
from typing import Any

from ..errors import Failed
from .audience import Audience
from .crowd import Crowd
from .pacer import Pacer

Answer = dict[str, Any]


class Load:
    """What can be ordered; each method is an order, its arguments are the details."""

    def __init__(self) -> None:
        self._crowd = Crowd()
        self._audience = Audience()

    def connect(self, port: int, connections: int) -> Answer:
        """Let clients in."""
        self._crowd.connect(port, connections)
        return {}

    def read(self, count: int) -> Answer:
        """Read so many bytes."""
        self._crowd.read(count)
        return {}

    def send(self, messages: int) -> Answer:
        """Send messages, each client in turn."""
        self._crowd.send(messages)
        return {}

    def forget(self) -> Answer:
        """Count from nothing again."""
        self._crowd.forget_counts()
        return {}

    def counts(self) -> Answer:
        """Say what each client has received at least and at most."""
        fewest, most = self._crowd.counts()
        return {"fewest": fewest, "most": most}

    def pace(self, port: int, number: int, rate: int, messages: int) -> Answer:
        """Measure latencies."""
        return {"latencies": Pacer(self._crowd.client(number), port).run(rate, messages)}

    def drop(self) -> Answer:
        """Cut all clients off."""
        self._crowd.drop()
        self._audience.drop()
        return {}

    def listen(self, port: int, first: int, count: int, is_wire2: bool) -> Answer:
        """Let clients in that prove what they have."""
        self._audience.connect(port, first, count, is_wire2=is_wire2)
        return {}

    def hear(self, count: int) -> Answer:
        """Have them read so many messages."""
        self._audience.hear(count)
        return {}

    def prove(self) -> Answer:
        """Wait until they have proven what they have."""
        self._audience.prove()
        return {}

    def log_in(self, port: int, first: int, count: int, messages: int, is_wire2: bool) -> Answer:
        """Let clients in for whom messages wait."""
        seconds = self._audience.log_in(port, first, count, messages, is_wire2=is_wire2)
        return {"seconds": seconds}

    def heard(self) -> Answer:
        """Say how many messages each of them has received at least and at most."""
        fewest, most = self._audience.counts()
        return {"fewest": fewest, "most": most}


def main() -> None:
    """Obey until standard input ends."""
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

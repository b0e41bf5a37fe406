"""Takes the orders of a benchmark on standard input."""

import json
import sys
from collections.abc import Callable
from typing import Any

from ..errors import Failed
from .crowd import Crowd
from .pacer import Pacer

Answer = dict[str, Any]


class Load:
    """What can be ordered; each method is an order, its arguments are the details."""

    def __init__(self) -> None:
        self._crowd = Crowd()

    def connect(self, port: int, connections: int) -> Answer:
        """Let clients in."""
        self._crowd.connect(port, connections)
        return {}

    def read(self, count: int) -> Answer:
        """Read so many bytes."""
        self._crowd.read(count)
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
        return {}


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

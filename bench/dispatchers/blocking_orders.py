"""Orders to a dispatcher that waits for each message."""

import json
import sys
from collections.abc import Callable
from typing import Any


def obey_blocking(dispatch: Callable[..., None]) -> None:
    """Obey the order `dispatch` until standard input ends; see `bench.dispatchers`."""
    _answer({"port": 0})
    for line in sys.stdin:
        details: dict[str, Any] = json.loads(line)
        del details["order"]
        dispatch(**details)
        _answer({})


def _answer(answer: dict[str, int]) -> None:
    print(json.dumps(answer), flush=True)

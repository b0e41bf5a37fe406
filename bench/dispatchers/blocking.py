"""Our blocking dispatcher, to many ids in turn; it waits for the receipt of every message."""

import json
import sys
from typing import Any

from mesa_ws import Dispatcher, Message

from . import recipients

url, namespace, sync = sys.argv[1:]


def main() -> None:
    with Dispatcher(url, namespace=namespace, sync=sync == "sync", timeout=30) as dispatcher:

        def dispatch(messages: int, data: Any, type: str, **whom: int) -> None:
            for number in range(messages):
                dispatcher.dispatch(Message(0, data, type), recipients(number, **whom))

        _answer({"port": 0})
        for line in sys.stdin:
            details = json.loads(line)
            {"dispatch": dispatch}[details.pop("order")](**details)
            _answer({})


def _answer(answer: dict[str, int]) -> None:
    print(json.dumps(answer), flush=True)


main()

"""Our blocking dispatcher, to one id."""

import sys
from typing import Any

from mesa_ws import Dispatcher, Message

from .blocking_orders import obey_blocking

url, target, *sync = sys.argv[1:]

with Dispatcher(url, namespace="bench", sync=bool(sync), timeout=30) as dispatcher:

    def dispatch(messages: int, data: Any, type: str) -> None:
        for _ in range(messages):
            dispatcher.dispatch(Message(0, data, type), [target])

    obey_blocking(dispatch)

"""Our blocking dispatcher, to many ids in turn; it waits for the receipt of every message."""

import sys
from typing import Any

from mesa_ws import Dispatcher, Message

from . import recipients
from .blocking_orders import obey_blocking

url, namespace, sync = sys.argv[1:]

with Dispatcher(url, namespace=namespace, sync=sync == "sync", timeout=30) as dispatcher:

    def dispatch(messages: int, data: Any, type: str, **whom: int) -> None:
        for number in range(messages):
            dispatcher.dispatch(Message(0, data, type), recipients(number, **whom))

    obey_blocking(dispatch)

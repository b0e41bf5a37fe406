"""Test code that uses Mesa: without Redis, without sockets, and with a time that the test moves.

`RecordingDispatcher` and `AsyncRecordingDispatcher` stand in for dispatchers. `TestClient` and
`AsyncTestClient` run a server in memory, and connect clients to it. The fixtures of
`mesa_ws.testing.plugin` are for pytest.
"""

from ..messages.order import Order
from .client import AsyncTestClient, AsyncTestConnection, TestClient, TestConnection
from .recording import Asked, AsyncRecordingDispatcher, Recording, RecordingDispatcher

__all__ = [
    "Asked",
    "AsyncRecordingDispatcher",
    "AsyncTestClient",
    "AsyncTestConnection",
    "Order",
    "Recording",
    "RecordingDispatcher",
    "TestClient",
    "TestConnection",
]

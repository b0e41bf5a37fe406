"""Test code that uses Mesa: without Redis, without sockets, with a clock that the test moves.

`RecordingDispatcher` and `AsyncRecordingDispatcher` stand in for dispatchers. The fixtures of
`mesa_ws.testing.plugin` hand them to tests of pytest.
"""

from ..messages.order import Order
from .recording import Asked, AsyncRecordingDispatcher, Recording, RecordingDispatcher

__all__ = ["Asked", "AsyncRecordingDispatcher", "Order", "Recording", "RecordingDispatcher"]

"""The last messages of one connection in both directions, for `connection.messages`."""

from collections import deque
from collections.abc import Callable

from ..messages.frames import RawFrame, decode_frame
from ..messages.message import Message
from .send_queue import Transport

MAX_STORED = 100
"""Messages stored in each direction; older ones are dropped, so that memory stays bounded."""


class History:
    """The last messages that a connection sent and received, oldest first."""

    __slots__ = ("_received", "_sent")

    def __init__(self) -> None:
        self._sent: deque[bytes] = deque(maxlen=MAX_STORED)
        self._received: deque[RawFrame] = deque(maxlen=MAX_STORED)

    @property
    def sent(self) -> list[Message]:
        """Messages to the client."""
        return [decode_frame(body).message() for body in tuple(self._sent)]

    @property
    def received(self) -> list[Message]:
        """Messages from the client whose turn has come."""
        return [frame.message() for frame in tuple(self._received)]

    def add_sent(self, body: bytes) -> None:
        """Add a message to the client."""
        self._sent.append(body)

    def recording(self, transport: Transport) -> Callable[[bytes], None]:
        """Return a function that writes to `transport`, and adds each message."""

        def put(payload: bytes) -> None:
            self.add_sent(payload)
            transport.write(payload)

        return put

    def add_received(self, frame: RawFrame) -> None:
        """Add a message from the client, which has been decoded without an error."""
        self._received.append(frame)

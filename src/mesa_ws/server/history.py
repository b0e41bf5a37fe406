"""The last messages of a connection, for servers whose rules keep them."""

from collections import deque
from collections.abc import Callable

from ..messages.frames import decode_frame
from ..messages.message import Message

KEPT = 100
"""Messages kept in each direction; older ones are forgotten, so that memory stays bounded."""


class History:
    """What a connection sent and received last, oldest first."""

    __slots__ = ("_received", "_sent")

    def __init__(self) -> None:
        self._sent: deque[bytes] = deque(maxlen=KEPT)
        self._received: deque[Message] = deque(maxlen=KEPT)

    @property
    def sent(self) -> list[Message]:
        """Messages to the client."""
        return [decode_frame(body).message() for body in tuple(self._sent)]

    @property
    def received(self) -> list[Message]:
        """Messages from the client."""
        return list(self._received)

    def add_sent(self, body: bytes) -> None:
        """Keep what is written."""
        self._sent.append(body)

    def recording(self, write: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """A way to write that keeps what is written."""

        def put(payload: bytes) -> None:
            self.add_sent(payload)
            write(payload)

        return put

    def add_received(self, message: Message) -> None:
        """Keep what came."""
        self._received.append(message)

"""A WebSocket client with raw frames, to compare them with those of 1.x."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

LIMIT = 30.0
"""Seconds to wait for a frame before the test fails."""


class Closing(NamedTuple):
    """The close frame of a server; 1005 if it was empty."""

    code: int | None
    reason: str | None


class Wire:
    """Sends and receives text frames unchanged."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    def send(self, *frames: str | bytes) -> None:
        """Send frames: text as text, bytes as binary."""
        for frame in frames:
            self._socket.send(frame)

    def frame(self) -> str:
        """Receive one frame, which must be text."""
        frame = self._socket.recv(LIMIT)
        assert isinstance(frame, str)
        return frame

    def frames(self, count: int) -> list[str]:
        """Receive `count` text frames."""
        return [self.frame() for _ in range(count)]

    def rest(self) -> tuple[list[str], Closing]:
        """Receive until the server closes; return the frames and the close frame."""
        frames: list[str] = []
        try:
            while True:
                frames.append(self.frame())
        except ConnectionClosed:
            return frames, Closing(self._socket.close_code, self._socket.close_reason)

    def close(self, code: int, reason: str) -> None:
        """Close the connection."""
        self._socket.close(code, reason)


@contextmanager
def opened(url: str) -> Iterator[Wire]:
    """Connect to `url` until the end of the context."""
    with connect(url, compression=None, proxy=None, ping_interval=None) as socket:
        yield Wire(socket)

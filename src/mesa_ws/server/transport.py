"""What a connection needs of a WebSocket."""

from enum import Enum, auto
from typing import Protocol


class PeerState(Enum):
    """What is known of a client whose socket is not read."""

    PRESENT = auto()
    FINISHED = auto()
    """It has closed its end; what it sent before may still have to be read."""
    GONE = auto()
    """The connection was reset, or TCP has given it up."""


class Transport(Protocol):
    """One client's WebSocket. Called in the event loop; nothing here waits.

    It tells its connection when more is buffered than the client reads in time (`congested`), and
    when that has been read (`relieved`).
    """

    @property
    def buffered(self) -> int:
        """Bytes that wait for the client, outside of the system's own buffers."""

    def is_cut(self) -> bool:
        """Whether the client has gone or said that it sends no more: what is written may not arrive."""

    def write(self, payload: bytes, /) -> None:
        """Send a text frame, or buffer it."""

    def ping(self, payload: bytes = b"") -> None:
        """Send a Ping frame."""

    def close(self, code: int, reason: str) -> None:
        """Send a close frame, empty for 1005, and cut the connection if no answer comes."""

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`."""

    def resume_reading(self) -> None:
        """Receive again."""

    def peer_state(self) -> PeerState:
        """Say whether the client is there, without reading."""

    def cut(self) -> None:
        """End the connection at once; the connection is told as of any other end."""

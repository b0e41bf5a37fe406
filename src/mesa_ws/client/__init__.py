"""The asyncio client: stays connected, authenticates, sends and receives."""

from ..protocol.client import Hello
from ..settings import ClientLimits, Reconnection
from .acknowledging import FilePositions, PositionStore
from .client import Client
from .event_queue import ConnectionInfo

__all__ = [
    "Client",
    "ClientLimits",
    "ConnectionInfo",
    "FilePositions",
    "Hello",
    "PositionStore",
    "Reconnection",
]

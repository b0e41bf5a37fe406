"""The asyncio client: stays connected, authenticates, sends and receives."""

from ..client_settings import ClientLimits, Reconnection
from ..session import Hello
from .client import Client
from .events import ConnectionInfo
from .positions import FilePositions, PositionStore

__all__ = [
    "Client",
    "ClientLimits",
    "ConnectionInfo",
    "FilePositions",
    "Hello",
    "PositionStore",
    "Reconnection",
]

"""Realtime messages from any Python process to users over WebSockets.

Clients connect to a `Server`; `Dispatcher` and `AsyncDispatcher` send to users from any process; a
`Portal` handles what clients send, apart from the servers; and `Client` is the other end in Python.
"""

from .backend.memory import MemoryBackend, MemoryHub
from .backend.mesa1 import Mesa1Backend
from .backend.redis import RedisBackend
from .client import Client, ConnectionInfo, FilePositions, PositionStore
from .close import CloseCode
from .dispatcher import AsyncDispatcher, Dispatch, Dispatcher, Latest
from .errors import (
    AuthenticationFailed,
    BackendError,
    BackendRefused,
    BackendUnavailable,
    ConnectFailed,
    ConnectionClosed,
    InvalidInput,
    InvalidMessage,
    InvalidRecipients,
    InvalidSettings,
    ListenFailed,
    MesaError,
    NotAuthenticated,
    NotConnected,
    QueueFull,
    Refused,
    Reject,
    RequestError,
    RequestFailed,
    TimedOut,
    TooManyRequests,
    Unanswered,
    Unsupported,
)
from .messages.message import DispatchEvent, Message
from .messages.order import OrderReceipt, OrderStatus
from .messages.receipt import Delivery, IdStatus, Position, Receipt, Status
from .messages.recipients import User
from .portal.event import PortalEvent
from .server.connection import Connection
from .server.middleware import Middleware
from .server.request import Request
from .settings import (
    Authentication,
    ClientLimits,
    Heartbeat,
    Keepalive,
    Limits,
    Portals,
    Presence,
    Rates,
    Reconnect,
    Reconnection,
    Rules,
    Sync,
)
from .transports.run import Endpoint, Portal, Server, serve
from .version import __version__

__all__ = [
    "AsyncDispatcher",
    "Authentication",
    "AuthenticationFailed",
    "BackendError",
    "BackendRefused",
    "BackendUnavailable",
    "Client",
    "ClientLimits",
    "CloseCode",
    "ConnectFailed",
    "Connection",
    "ConnectionClosed",
    "ConnectionInfo",
    "Delivery",
    "Dispatch",
    "DispatchEvent",
    "Dispatcher",
    "Endpoint",
    "FilePositions",
    "Heartbeat",
    "IdStatus",
    "InvalidInput",
    "InvalidMessage",
    "InvalidRecipients",
    "InvalidSettings",
    "Keepalive",
    "Latest",
    "Limits",
    "ListenFailed",
    "MemoryBackend",
    "MemoryHub",
    "Mesa1Backend",
    "MesaError",
    "Message",
    "Middleware",
    "NotAuthenticated",
    "NotConnected",
    "OrderReceipt",
    "OrderStatus",
    "Portal",
    "PortalEvent",
    "Portals",
    "Position",
    "PositionStore",
    "Presence",
    "QueueFull",
    "Rates",
    "Receipt",
    "Reconnect",
    "Reconnection",
    "RedisBackend",
    "Refused",
    "Reject",
    "Request",
    "RequestError",
    "RequestFailed",
    "Rules",
    "Server",
    "Status",
    "Sync",
    "TimedOut",
    "TooManyRequests",
    "Unanswered",
    "Unsupported",
    "User",
    "__version__",
    "serve",
]

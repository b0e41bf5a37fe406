"""What a session tells its owner, and what it asks its owner to do."""

from typing import Any, NamedTuple

from ..close import CloseCode
from ..message import Message


class Authenticate(NamedTuple):
    """The client asks to be somebody; answer with `accept`, `refuse` or `fail`."""

    data: Any


class Received(NamedTuple):
    """The peer sent an ordinary message."""

    message: Message


class Authenticated(NamedTuple):
    """The server acknowledged this client; `user` is the object it sent, or an empty one."""

    user: Any


class SendText(NamedTuple):
    """Send `payload` as one text frame."""

    payload: bytes


class SendPing(NamedTuple):
    """Send a WebSocket Ping (RFC 6455 section 5.5.2)."""


class Close(NamedTuple):
    """End the connection with this code; nothing more comes out of this session.

    Attributes:
        code: what to put into the close frame; 1005 stands for an empty frame.
        why: for logs. Never put on the wire: 1.x peers expect empty reasons.
    """

    code: CloseCode
    why: str


ServerEvent = Authenticate | Received | Close
Output = SendText | SendPing | Close

"""What a session tells its owner, and what it asks its owner to do."""

from typing import Any, NamedTuple

from ..close import CloseCode
from ..messages.message import Message
from ..messages.receipt import Position
from .correlation import Asked, Replied
from .login import Wish


class Authenticate(NamedTuple):
    """The client asks to be somebody; answer with `accept`, `refuse` or `fail`.

    Attributes:
        data: what it says of itself, for the authenticator.
        wish: the messages it wants once it is somebody.
    """

    data: Any
    wish: Wish = Wish()


class Acknowledged(NamedTuple):
    """A client on wire 2 has handled everything up to `position`, or says so: `Replay.proved`."""

    position: Position


class Answered(NamedTuple):
    """The client answered the question `token`, so it has what was written before: `Replay.answered`."""

    token: int


class Strayed(NamedTuple):
    """An answer came to a question that nobody asked. From here on answers prove nothing:
    `Replay.distrust`."""


class Received(NamedTuple):
    """The peer sent an ordinary message."""

    message: Message


class Authenticated(NamedTuple):
    """The server acknowledged this client; `user` is the object it sent, or an empty one."""

    user: Any


class SendText(NamedTuple):
    """Send `payload` as one text frame.

    Attributes:
        payload: the frame.
        token: names the question that this is, for `Replay.asked`; None if it is none.
    """

    payload: bytes
    token: int | None = None


class SendPing(NamedTuple):
    """Send a WebSocket Ping (RFC 6455 section 5.5.2).

    Attributes:
        payload: what the Ping carries, and the Pong back.
        token: as in `SendText`.
    """

    payload: bytes = b""
    token: int | None = None


class Close(NamedTuple):
    """End the connection with this code; nothing more comes out of this session.

    Attributes:
        code: what to put into the close frame; 1005 stands for an empty frame.
        why: for logs. Never put on the wire: 1.x peers expect empty reasons.
    """

    code: CloseCode
    why: str


ServerEvent = Authenticate | Received | Asked | Replied | Acknowledged | Answered | Strayed | SendText | Close
Output = SendText | SendPing | Close

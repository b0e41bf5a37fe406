"""Events and outputs of the protocol: what happened on a connection, and what its owner has to do."""

from typing import Any, NamedTuple

import msgspec

from ..close import CloseCode
from ..messages.frames import RawFrame
from ..messages.message import Message
from ..messages.receipt import Position
from .correlation import ReplyReceived, RequestReceived
from .resume import SyncOptions


class Authenticate(NamedTuple):
    """The client requests authentication; answer with `accept`, `refuse` or `fail`.

    Attributes:
        data: the client's credentials, for the authenticator.
        sync: the messages that the client wants once it has authenticated.
    """

    data: Any
    sync: SyncOptions = SyncOptions()


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A frame that has to wait for its turn; then `ServerProtocol.read` says what it is.

    Attributes:
        frame: without its extension.
        size: bytes that it keeps in memory.
        request: id of the request that it is; empty if it is none.
        sync: of an authentication; None if it is none.
    """

    frame: RawFrame
    size: int
    request: str = ""
    sync: SyncOptions | None = None


class Acknowledged(NamedTuple):
    """A client on wire 2 says that it has handled everything up to `position`: `OutboxCursor.on_ack`."""

    position: Position


class ProbeAnswered(NamedTuple):
    """The client answered the probe `token`, so it has what was sent before: `OutboxCursor.on_answer`."""

    token: int


class UnexpectedAnswer(NamedTuple):
    """The client answered a probe that was not sent. From now on its answers acknowledge nothing:
    `OutboxCursor.distrust`."""


class Received(msgspec.Struct, frozen=True):
    """The peer sent an ordinary message."""

    message: Message


class Authenticated(NamedTuple):
    """The server accepted this client.

    Attributes:
        user: the object that it sent, or an empty one.
        expires: seconds until the login ends; None for never, and from servers that do not say.
    """

    user: Any
    expires: float | None = None


class SendText(NamedTuple):
    """Send `payload` as one text frame.

    Attributes:
        payload: the frame.
        token: names the probe that this is, for `OutboxCursor.on_probe`; None if it is none.
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
    """End the connection with this code; the protocol gives no further output.

    Attributes:
        code: what to put into the close frame; 1005 stands for an empty frame.
        why: for logs. Never put on the wire: 1.x peers expect empty reasons.
    """

    code: CloseCode
    why: str


ServerEvent = Waiting | ReplyReceived | Acknowledged | ProbeAnswered | UnexpectedAnswer | SendText | Close
QueuedEvent = Authenticate | Received | RequestReceived | Close
Output = SendText | SendPing | Close

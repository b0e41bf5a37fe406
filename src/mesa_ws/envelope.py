"""What nodes and dispatchers exchange: a finished body, its recipients and what to do with it."""

import os
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from .codec import encode_message
from .errors import InvalidRecipients
from .message import DispatchEvent, Message
from .recipients import EVERYBODY, Recipients

Kind = Literal["message", "disconnect"]


class Envelope(NamedTuple):
    """One dispatched message on its way.

    Attributes:
        recipients: who it is for.
        body: the encoded frame, written to sockets as it is; empty for a disconnection.
        kind: `message` to deliver the body, `disconnect` to close the recipients' connections.
        message_id: names this dispatch in receipts and logs.
    """

    recipients: Recipients
    body: bytes
    kind: Kind
    message_id: str


class Delivery(NamedTuple):
    """What became of a message for one id.

    Attributes:
        stored: whether it is in the id's outbox. False without sync.
        online: connections of that id which it was routed to; routed is not yet received.
        dropped: why it went nowhere, such as `"offline"`, or None.
    """

    stored: bool
    online: int
    dropped: str | None


class Receipt(NamedTuple):
    """What a dispatch did.

    Attributes:
        message_id: names the dispatch.
        deliveries: by id; empty for a message to everybody.
        nodes: server nodes it was handed to.
    """

    message_id: str
    deliveries: Mapping[str, Delivery]
    nodes: int

    @classmethod
    def of(cls, message_id: str, online: Mapping[str, int], nodes: int) -> "Receipt":
        """A receipt for a message that was not stored, from the connections found per id."""
        return cls(
            message_id, {id: _UNSTORED.get(n) or Delivery(False, n, None) for id, n in online.items()}, nodes
        )


_UNSTORED = {0: Delivery(False, 0, "offline"), 1: Delivery(False, 1, None)}


def new_message_id() -> str:
    """A random name of 128 bits for one dispatch."""
    return os.urandom(16).hex()


def prepare(
    message: Message | DispatchEvent,
    recipients: Iterable[str] = EVERYBODY,
    excluding: Iterable[str] = (),
) -> Envelope:
    """Check a dispatch and encode its message, once for all who receive it.

    Raises:
        InvalidMessage: the message cannot go on the wire.
        InvalidRecipients: recipients or exclusions are not ids, or an event has no recipients.
    """
    if not isinstance(message, DispatchEvent):
        return Envelope(
            Recipients.of(recipients, excluding), encode_message(message), "message", new_message_id()
        )
    if recipients is EVERYBODY:
        raise InvalidRecipients(
            f"recipients: {message.type} needs them, got none; name ids, or write ['*'] to mean everybody"
        )
    return Envelope(Recipients.of(recipients, excluding), b"", "disconnect", new_message_id())

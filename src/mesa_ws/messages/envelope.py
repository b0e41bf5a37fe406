"""One dispatched message on its way between nodes and dispatchers: its body, its recipients, what to do.

`prepare` makes an envelope of what a caller gave. Every sender passes through it: both dispatchers,
a server's own code, and the HTTP API.
"""

import os
from collections.abc import Container, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, NamedTuple, get_args

import msgspec

from ..errors import InvalidInput, InvalidMessage, InvalidRecipients
from ..settings import Durability, Sync
from ..text import plain
from .frames import encode_message
from .message import PROTOCOL_OPCODES, DispatchEvent, Message
from .receipt import Position, Receipt
from .recipients import EVERYBODY, Recipients, as_text

Kind = Literal["message", "disconnect", "request", "connection", "order"]

REMEMBERED = 120.0
"""Seconds for which the backend knows a stored message by its id, and recognizes a repetition."""

REMEMBERED_KEY = 86_400.0
"""The same where the caller gives the message an idempotency key."""

MAX_KEY_BYTES = 255

VOLATILE = "volatile"
_LATEST = "latest:"


class Latest(NamedTuple):
    """Of the messages with the same key, only the newest waits for a client that reads slowly.

    Attributes:
        key: names what the messages are about, such as `"cursor:anna"`: 1 to 255 bytes of UTF-8.
    """

    key: str


DeliveryPolicy = Literal["volatile"] | Latest
"""What may happen to a message for a client that reads slowly: it is dropped, or a newer one replaces it."""


class Retention(NamedTuple):
    """How a message is kept for recipients who are away.

    Attributes:
        max_messages: messages in one outbox; beyond, the oldest are dropped.
        max_bytes: bytes of messages in one outbox; beyond, the oldest are dropped.
        ttl: seconds after which this message is dropped.
    """

    max_messages: int
    max_bytes: int
    ttl: float

    @classmethod
    def of(cls, sync: Sync) -> "Retention | None":
        """Return the retention that `sync` gives to messages; None if they are not kept."""
        return cls(sync.max_messages, sync.max_bytes, sync.ttl) if sync.enabled else None


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """One dispatched message on its way.

    Attributes:
        recipients: who receives it.
        body: the encoded frame, written to sockets unchanged; empty for a disconnection; what
            `request.Question` writes for a request.
        kind: `message` to deliver the body, `disconnect` to close the recipients' connections,
            `request` to ask the connections of one id, `connection` to deliver the body to the
            connection that the recipient names, `order` to carry out the `Order` in the body.
        message_id: names this dispatch in receipts and logs.
        retention: how it is stored; None if it is not.
        remember: seconds for which the backend knows it by its id, so that sending the same
            envelope again makes no second message; 0 if it is not remembered.
        durability: what it has to reach before it counts as dispatched.
        positions: filled in for the node that receives it: its position in the outbox of each of
            `recipients.ids`, or the one position among the messages to everybody; empty if it is
            not stored.
        sync: the message's own `sync`, for the wire of 1.x, which carries it.
        delivery: its `DeliveryPolicy`: `volatile`, or `latest:` and the key; empty if it has none.
        idempotency_key: as the caller gave it, for records in this process; only the id made of it travels.
    """

    recipients: Recipients
    body: bytes
    kind: Kind
    message_id: str
    retention: Retention | None = None
    remember: float = 0.0
    durability: Durability = "memory"
    positions: tuple[Position, ...] = ()
    sync: bool | None = None
    delivery: str = ""
    idempotency_key: str | None = None

    @property
    def is_addressed(self) -> bool:
        """Whether it has recipients; without, no backend has to see it."""
        return self.recipients.everybody or bool(self.recipients.ids)


class Dispatch(NamedTuple):
    """One of the dispatches of `dispatch_many`; a plain tuple of the same members will do.

    Attributes:
        message: what to send.
        recipients: ids, or `"*"` for every connected client.
        excluding: ids that shall not receive.
        idempotency_key: a name for this message, by which a repetition is known.
        durability: what it has to reach before it counts as dispatched.
        delivery: what may happen to it for a client that reads slowly.
    """

    message: Message | DispatchEvent
    recipients: Iterable[str] = EVERYBODY
    excluding: Iterable[str] = ()
    idempotency_key: str | None = None
    durability: Durability = "memory"
    delivery: DeliveryPolicy | None = None


@dataclass(slots=True)
class IdempotencyScope:
    """One handling of one event, which names what is sent in it. Used from one thread at a time.

    A portal may handle an event more than once. Each dispatch of the handler is named after the
    event and the dispatch's number in that handling, so that the second time it is a repetition.

    Tasks that the handler leaves behind are no part of the handling: the same names made in two
    handlings would stand for different things, and one of them would count as a repetition.

    Attributes:
        key: names the event, however often it is handled.
        message_ids: what was sent under names made here.
        is_over: whether the handling has ended, so that no names are made any more.
    """

    key: str
    message_ids: list[str] = field(default_factory=list)
    is_over: bool = False
    _count: int = 0

    def next_key(self) -> str:
        """Return the idempotency key of the next dispatch."""
        self._count += 1
        return f"{self.key}/{self._count}"


current_scope: ContextVar[IdempotencyScope | None] = ContextVar("mesa_current_scope", default=None)
"""The handling that the running code is part of, if a portal called it."""


def prepare(
    message: Message | DispatchEvent,
    recipients: Iterable[str] = EVERYBODY,
    excluding: Iterable[str] = (),
    *,
    retention: Retention | None = None,
    idempotency_key: str | None = None,
    durability: Durability = "memory",
    delivery: DeliveryPolicy | None = None,
    reserved: Container[int] = PROTOCOL_OPCODES,
) -> Envelope:
    """Check a dispatch, then encode its message, once for all recipients.

    Args:
        message: what to send; stored only if its own `sync` allows it.
        recipients: ids, or everybody.
        excluding: ids that shall not receive.
        retention: how it is stored; None if it is not.
        idempotency_key: the caller's name for this message, 1 to 255 bytes of UTF-8. Without one,
            what a portal's handler sends is named after the event.
        durability: what it has to reach.
        delivery: what may happen to it for a client that reads slowly; nothing if it is stored.
        reserved: opcodes that belong to the protocol of the wire.

    Raises:
        InvalidMessage: the message cannot go on the wire, or is larger than an outbox.
        InvalidRecipients: recipients or exclusions are not ids, or an event has no recipients.
        InvalidInput: the key, the durability or the delivery cannot be used.
    """
    if not isinstance(message, Message) or message.sync is False:
        retention = None
    message_id, remember = name_dispatch(idempotency_key)
    if durability != "memory":
        _check_durability(durability, is_stored=retention is not None)
    policy = _policy(delivery, message, is_stored=retention is not None) if delivery is not None else ""
    if isinstance(message, DispatchEvent):
        if recipients is EVERYBODY:
            raise InvalidRecipients(
                f"recipients: {message.type} needs them, got none; name ids, or write ['*'] to mean everybody"
            )
        whom, key = Recipients.of(recipients, excluding), idempotency_key
        return Envelope(whom, b"", "disconnect", message_id, remember=remember, idempotency_key=key)
    checked = Recipients.of(recipients, excluding)
    body = encode_message(message, reserved)
    if retention is not None:
        _check_size(body, retention)
        remember = remember or REMEMBERED
    how = durability, (), message.sync, policy, idempotency_key
    return Envelope(checked, body, "message", message_id, retention, remember, *how)


def prepare_all(
    dispatches: Iterable[object], retention: Retention | None, reserved: Container[int] = PROTOCOL_OPCODES
) -> list[Envelope]:
    """Check several dispatches, and encode their messages.

    Raises:
        InvalidInput: one of them cannot be used; a note says which.
    """
    envelopes = []
    for number, dispatch in enumerate(dispatches):
        if not isinstance(dispatch, tuple) or not 1 <= len(dispatch) <= len(Dispatch._fields):
            raise InvalidInput(
                f"dispatches[{number}]: expected (message, recipients) or "
                f"(message, recipients, excluding), got {type(dispatch).__name__}"
            )
        message, recipients, excluding, key, durability, delivery = Dispatch(*dispatch)
        try:
            envelope = prepare(
                message,
                recipients,
                excluding,
                retention=retention,
                idempotency_key=key,
                durability=durability,
                delivery=delivery,
                reserved=reserved,
            )
        except InvalidInput as error:
            error.add_note(f"in dispatches[{number}]; nothing was sent")
            raise
        envelopes.append(envelope)
    return envelopes


def name_dispatch(idempotency_key: str | None) -> tuple[str, float]:
    """Return the message id of a dispatch, and for how long the backend remembers it at least.

    Without a key, what a portal's handler sends is named after the event that it handles.

    Raises:
        InvalidInput: the key cannot be used.
    """
    if idempotency_key is not None:
        return _id_of_key(idempotency_key), REMEMBERED_KEY
    scope = current_scope.get()
    if scope is None or scope.is_over:
        return new_message_id(), 0.0
    message_id = _id_of_key(scope.next_key())
    scope.message_ids.append(message_id)
    return message_id, REMEMBERED_KEY


def new_message_id() -> str:
    """Return a random name of 128 bits for one dispatch."""
    return os.urandom(16).hex()


def with_unaddressed(envelopes: Iterable[Envelope], receipts: Iterable[Receipt]) -> list[Receipt]:
    """Add the receipts of envelopes without recipients to those that the backend gave for the others."""
    rest = iter(receipts)
    return [next(rest) if each.is_addressed else Receipt(each.message_id, {}, 0) for each in envelopes]


def _id_of_key(key: object) -> str:
    """Return the id of the message that the caller names `key`; raise `InvalidInput` if it cannot be used."""
    return "k" + sha256(_checked_key("idempotency_key", key)).hexdigest()[:31]


def _checked_key(where: str, key: object) -> bytes:
    expected = f"{where}: expected text of 1 to {MAX_KEY_BYTES} bytes of UTF-8"
    if not isinstance(key, str):
        mend = as_text(key)
        raise InvalidInput(f"{expected}, got {type(key).__name__}" + (f"; write {mend}" if mend else ""))
    try:
        name = plain(key).encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{expected}, got a lone surrogate") from None
    if not 0 < len(name) <= MAX_KEY_BYTES:
        raise InvalidInput(f"{expected}, got {len(name)} bytes")
    return name


def read_policy(text: object) -> str:
    """Return the text of a policy that another process wrote; empty for one that is not known here."""
    return text if isinstance(text, str) and (text == VOLATILE or text.startswith(_LATEST)) else ""


def policy_of(envelope: Envelope) -> DeliveryPolicy | None:
    """Return the policy that the envelope's text stands for."""
    if envelope.delivery.startswith(_LATEST):
        return Latest(envelope.delivery.removeprefix(_LATEST))
    return "volatile" if envelope.delivery else None


def _policy(delivery: object, message: Message | DispatchEvent, *, is_stored: bool) -> str:
    """Return the text of a delivery policy, as envelopes have it.

    Raises:
        InvalidInput: there is no such policy, or the message can have none.
    """
    if isinstance(delivery, Latest):
        text = f"{_LATEST}{_checked_key('delivery: Latest(key)', delivery.key).decode()}"
    elif delivery == VOLATILE:
        text = VOLATILE
    else:
        raise InvalidInput(f"delivery: expected 'volatile', Latest(key) or None, got {delivery!r}")
    if not isinstance(message, Message):
        raise InvalidInput(f"delivery: expected None for {message.type}, got {delivery!r}")
    if is_stored:
        raise InvalidInput(
            f"delivery: expected None for a message that is stored, got {delivery!r}; "
            "what is stored is never dropped or replaced, send it with Message(..., sync=False)"
        )
    return text


def _check_size(body: bytes, retention: Retention) -> None:
    size, most = len(body), retention.max_bytes
    if size > most:
        raise InvalidMessage(
            f"message: expected at most {most} bytes, which an outbox holds, got {size}; "
            "raise Sync(max_bytes=...), or send it with sync=False"
        )


_DURABILITIES = get_args(Durability)


def _check_durability(durability: object, *, is_stored: bool) -> None:
    """Check a durability other than `memory`."""
    if durability not in _DURABILITIES:
        raise InvalidInput(f"durability: expected one of {', '.join(_DURABILITIES)}, got {durability!r}")
    if not is_stored:
        raise InvalidInput(
            f"durability: expected 'memory' for what is not stored, got {durability!r}; "
            "turn sync on, for the dispatcher and for the message"
        )

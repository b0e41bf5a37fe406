"""What nodes and dispatchers exchange: a finished body, its recipients and what to do with it.

What a handler of a portal works on, so that what it sends has a name that stays the same.

An event may be handled more than once. What its handler sends each time is named after the event
and the place of the call among the calls of that handler: the second time it is a repetition.
"""

import os
from collections.abc import Container, Iterable
from contextvars import ContextVar
from hashlib import sha256
from typing import Literal, NamedTuple, get_args

from ..errors import InvalidInput, InvalidMessage, InvalidRecipients
from ..settings import Durability, Sync
from ..text import plain
from .frames import encode_message
from .message import PROTOCOL_OPCODES, DispatchEvent, Message
from .receipt import Position, Receipt
from .recipients import EVERYBODY, Recipients, as_text


class IdempotencyScope:
    """One handling of one event. Used from one thread at a time.

    Tasks that the handler leaves behind are no part of the handling: the same names made in two
    handlings would stand for different things, and one of them would count as a repetition.

    Args:
        key: names the event, however often it is handled.

    Attributes:
        message_ids: what was sent under names made here.
        is_over: whether the handling has ended, so that no names are made any more.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._count = 0
        self.message_ids: list[str] = []
        self.is_over = False

    def next_key(self) -> str:
        """The idempotency key of the next thing that is sent."""
        self._count += 1
        return f"{self._key}/{self._count}"


current_scope: ContextVar[IdempotencyScope | None] = ContextVar("mesa_current_scope", default=None)
"""What the running code was called for, if a portal called it."""


Kind = Literal["message", "disconnect", "request", "connection"]

REMEMBERED = 120.0
"""Seconds for which a stored message is known by its id, so that the same again is no other one."""

REMEMBERED_KEY = 86_400.0
"""The same where the caller names the message by a key of its own."""

MAX_KEY_BYTES = 255


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
        """What `sync` says about messages; None if they are not kept."""
        return cls(sync.max_messages, sync.max_bytes, sync.ttl) if sync.enabled else None


class Envelope(NamedTuple):
    """One dispatched message on its way.

    Attributes:
        recipients: who it is for.
        body: the encoded frame, written to sockets as it is; empty for a disconnection; what
            `inquiry.Question` writes for a request.
        kind: `message` to deliver the body, `disconnect` to close the recipients' connections,
            `request` to ask the connections of one id, `connection` to deliver the body to the
            connection that the recipient names.
        message_id: names this dispatch in receipts and logs.
        keep: how it is stored; None for what is not.
        remember: seconds for which the backend knows it by its id, so that the same envelope once
            more is no second message; 0 for what is not remembered.
        durability: what it has to reach before it counts as dispatched.
        positions: filled in for the node that receives it: where the outbox of each of
            `recipients.ids` holds it, or for everybody the one place among such messages; empty
            for what is not stored.
        sync: what the message itself says of being stored, for the wire of 1.x, which carries it.
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


def new_message_id() -> str:
    """A random name of 128 bits for one dispatch."""
    return os.urandom(16).hex()


def prepare(
    message: Message | DispatchEvent,
    recipients: Iterable[str] = EVERYBODY,
    excluding: Iterable[str] = (),
    *,
    retention: Retention | None = None,
    idempotency_key: str | None = None,
    durability: Durability = "memory",
    reserved: Container[int] = PROTOCOL_OPCODES,
) -> Envelope:
    """Check a dispatch and encode its message, once for all who receive it.

    Args:
        message: what to send; stored only if its own `sync` allows it.
        recipients: ids, or everybody.
        excluding: ids that shall not receive.
        keep: how it is stored; None if it is not.
        idempotency_key: a name of the caller's for this message, 1 to 255 bytes of UTF-8. Without
            one, what a portal's handler sends is named after the event.
        durability: what it has to reach.
        reserved: opcodes that belong to the protocol of the wire.

    Raises:
        InvalidMessage: the message cannot go on the wire, or is larger than an outbox.
        InvalidRecipients: recipients or exclusions are not ids, or an event has no recipients.
        InvalidInput: the key or the durability cannot be used.
    """
    message_id, remember = name_dispatch(idempotency_key)
    if isinstance(message, DispatchEvent):
        if recipients is EVERYBODY:
            raise InvalidRecipients(
                f"recipients: {message.type} needs them, got none; name ids, or write ['*'] to mean everybody"
            )
        _check_durability(durability, None)
        who = Recipients.of(recipients, excluding)
        return Envelope(who, b"", "disconnect", message_id, remember=remember)
    who, body = Recipients.of(recipients, excluding), encode_message(message, reserved)
    retention = None if message.sync is False else retention
    _check_durability(durability, retention)
    if retention is not None:
        _check_fits(body, retention)
        remember = remember or REMEMBERED
    return Envelope(who, body, "message", message_id, retention, remember, durability, sync=message.sync)


def name_dispatch(idempotency_key: str | None) -> tuple[str, float]:
    """The message id of a dispatch, and for how long it is remembered at least.

    Without a key, what is sent on account of an event is named after that.

    Raises:
        InvalidInput: the key cannot be used.
    """
    scope = current_scope.get()
    if idempotency_key is not None:
        return _named(idempotency_key), REMEMBERED_KEY
    if scope is None or scope.is_over:
        return new_message_id(), 0.0
    message_id = _named(scope.next_key())
    scope.message_ids.append(message_id)
    return message_id, REMEMBERED_KEY


def _named(key: object) -> str:
    """The id of the message that the caller names `key`.

    Raises:
        InvalidInput: it is no name.
    """
    expected = f"idempotency_key: expected text of 1 to {MAX_KEY_BYTES} bytes of UTF-8"
    if not isinstance(key, str):
        mend = as_text(key)
        raise InvalidInput(f"{expected}, got {type(key).__name__}" + (f"; write {mend}" if mend else ""))
    try:
        name = plain(key).encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{expected}, got a lone surrogate") from None
    if not 0 < len(name) <= MAX_KEY_BYTES:
        raise InvalidInput(f"{expected}, got {len(name)} bytes")
    return "k" + sha256(name).hexdigest()[:31]


def _check_durability(durability: object, retention: Retention | None) -> None:
    levels = get_args(Durability)
    if durability not in levels:
        raise InvalidInput(f"durability: expected one of {', '.join(levels)}, got {durability!r}")
    if durability != "memory" and retention is None:
        raise InvalidInput(
            f"durability: expected 'memory' for what is not stored, got {durability!r}; "
            "turn sync on, for the dispatcher and for the message"
        )


def _check_fits(body: bytes, retention: Retention) -> None:
    if len(body) > retention.max_bytes:
        raise InvalidMessage(
            f"message: expected at most {retention.max_bytes} bytes, which an outbox holds, got {len(body)}; "
            "raise Sync(max_bytes=...), or send it with sync=False"
        )


CLOSED = "the dispatcher is closed"


class Dispatch(NamedTuple):
    """One of the dispatches of `dispatch_many`; a plain tuple of the same members will do.

    Attributes:
        message: what to send.
        recipients: ids, or `"*"` for every connected client.
        excluding: ids that shall not receive.
        idempotency_key: a name for this message, by which a repetition is known.
        durability: what it has to reach before it counts as dispatched.
    """

    message: Message | DispatchEvent
    recipients: Iterable[str] = EVERYBODY
    excluding: Iterable[str] = ()
    idempotency_key: str | None = None
    durability: Durability = "memory"


def checked(receipt: object) -> Receipt:
    """Return `receipt` if it is one.

    Raises:
        InvalidInput: it is none.
    """
    if not isinstance(receipt, Receipt):
        raise InvalidInput(f"receipt: expected what dispatch returned, got {type(receipt).__name__}")
    return receipt


def prepare_all(
    dispatches: Iterable[object], retention: Retention | None, reserved: Container[int] = PROTOCOL_OPCODES
) -> list[Envelope]:
    """Check all of them and encode their messages.

    Raises:
        InvalidInput: one of them cannot be used; a note says which.
    """
    envelopes = []
    for position, dispatch in enumerate(dispatches):
        if not isinstance(dispatch, tuple) or not 1 <= len(dispatch) <= len(Dispatch._fields):
            raise InvalidInput(
                f"dispatches[{position}]: expected (message, recipients) or "
                f"(message, recipients, excluding), got {type(dispatch).__name__}"
            )
        message, recipients, excluding, key, durability = Dispatch(*dispatch)
        try:
            envelopes.append(
                prepare(
                    message,
                    recipients,
                    excluding,
                    retention=retention,
                    idempotency_key=key,
                    durability=durability,
                    reserved=reserved,
                )
            )
        except InvalidInput as error:
            error.add_note(f"in dispatches[{position}]; nothing was sent")
            raise
    return envelopes


def is_meant(envelope: Envelope) -> bool:
    """Whether anybody is named; if not, there is nothing to ask for."""
    return envelope.recipients.everybody or bool(envelope.recipients.ids)


def with_unmeant(envelopes: Iterable[Envelope], receipts: Iterable[Receipt]) -> list[Receipt]:
    """Put receipts for those who are meant for nobody where they belong."""
    rest = iter(receipts)
    return [next(rest) if is_meant(each) else Receipt(each.message_id, {}, 0) for each in envelopes]

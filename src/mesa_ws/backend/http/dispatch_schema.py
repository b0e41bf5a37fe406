"""Body of a dispatch over HTTP, and its receipts; `docs/reference/http-api.md` shows both.

A server refuses unknown members, so that a typing error never widens the recipients. A reader of receipts
ignores members that it does not know.
"""

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Self

import msgspec

from ...errors import InvalidInput, InvalidMessage, InvalidRecipients
from ...messages.envelope import REMEMBERED_KEY, VOLATILE, Envelope, Latest, Retention, policy_of, prepare
from ...messages.message import DISCONNECT_CLIENT, PROTOCOL_OPCODES, DispatchEvent, Message, Op
from ...messages.receipt import Delivery, Position, Receipt
from ...messages.recipients import EVERYBODY
from ...settings import Sync
from .problems import UNREADABLE

MAX_BATCH = 1000
"""Messages that one request may carry."""

NO_MESSAGE = msgspec.Raw()

_FRAME_FORM = 'an object such as {"op": 0, "d": {"any": "data"}, "t": "TYPE"}'
_DISCONNECT = msgspec.Raw(f'{{"op":{Op.EVENT},"t":"{DISCONNECT_CLIENT}"}}')
MessageId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fk][0-9a-f]{31}\Z")]


class DispatchBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One message on its way to a server; the reference says what its members mean.

    `message` is the encoded frame. A dispatcher that got an idempotency key sends the `id` that it made from
    the key, which begins with a k.
    """

    message: msgspec.Raw = NO_MESSAGE
    recipients: Any = msgspec.UNSET
    excluding: Any = msgspec.UNSET
    sync: Any = False
    idempotency_key: str | None = None
    durability: Any = "memory"
    delivery: Any = None
    id: MessageId | None = None

    @classmethod
    def of(cls, envelope: Envelope) -> Self:
        """Return the dispatch that makes a server send `envelope`; the message is not encoded again."""
        recipients, excluding = envelope.recipients, envelope.recipients.excluding
        message = _DISCONNECT if envelope.kind == "disconnect" else msgspec.Raw(envelope.body)
        without = tuple(excluding) if excluding else msgspec.UNSET
        return cls(
            message,
            EVERYBODY if recipients.everybody else recipients.ids,
            without,
            envelope.retention._asdict() if envelope.retention else False,
            durability=envelope.durability,
            delivery={"latest": policy.key} if isinstance(policy := policy_of(envelope), Latest) else policy,
            id=envelope.message_id,
        )

    def envelope(self, reserved: Container[int] = PROTOCOL_OPCODES) -> Envelope:
        """Check all members, and return the envelope to send; `reserved` are the opcodes of the protocol.

        Raises:
            InvalidMessage: the message is absent, or is none.
            InvalidRecipients: an id cannot be used, or an event has no recipients.
            InvalidInput: `sync` cannot be used, or the message has two names.
        """
        envelope = prepare(
            read_message(self.message),
            given_ids("recipients", self.recipients, EVERYBODY),
            given_ids("excluding", self.excluding, ()),
            retention=_retention(self.sync),
            idempotency_key=self.idempotency_key,
            durability=self.durability,
            delivery=_delivery(self.delivery),
            reserved=reserved,
        )
        return named(envelope, self.id, self.idempotency_key)


class DispatchRequest(DispatchBody, forbid_unknown_fields=True, omit_defaults=True):
    """Body of a request: one dispatch, or a batch of dispatches in order."""

    batch: list[DispatchBody] | None = None
    namespace: str | None = None

    @classmethod
    def of_all(cls, envelopes: Sequence[Envelope], namespace: str | None = None) -> Self:
        """Return the body that sends `envelopes`; raise `InvalidInput` if there are more than `MAX_BATCH`."""
        if len(envelopes) > MAX_BATCH:
            raise InvalidInput(
                f"messages: expected at most {MAX_BATCH} at once over HTTP, got {len(envelopes)}; "
                "send them in parts"
            )
        return cls(batch=[DispatchBody.of(envelope) for envelope in envelopes], namespace=namespace)

    def envelopes(self, reserved: Container[int] = PROTOCOL_OPCODES) -> list[Envelope]:
        """Check all dispatches, and return their envelopes in order; `reserved` as in `envelope`.

        Raises:
            InvalidInput: the first error; in a batch it names the index of the dispatch.
        """
        envelopes = []
        for index, dispatch in enumerate(self.dispatches()):
            with in_batch(None if self.batch is None else index):
                envelopes.append(dispatch.envelope(reserved))
        return envelopes

    def dispatches(self) -> Sequence[DispatchBody]:
        """Return the dispatches, unchecked; raise `InvalidInput` if their number is wrong."""
        if self.batch is None:
            return [self]
        if self != DispatchRequest(batch=self.batch, namespace=self.namespace):
            raise InvalidInput(
                "batch: pass either 'message' or 'batch', not both; move the message into the batch"
            )
        if not 0 < len(self.batch) <= MAX_BATCH:
            raise InvalidInput(f"batch: expected 1 to {MAX_BATCH} dispatches, got {len(self.batch)}")
        return self.batch


class ReceiptForm(msgspec.Struct):
    """Receipt in JSON."""

    message_id: str
    deliveries: dict[str, "DeliveryForm"]
    nodes: int

    @classmethod
    def of(cls, receipt: Receipt) -> "ReceiptForm":
        """Return the form of a receipt."""
        deliveries = {id: DeliveryForm(*delivery) for id, delivery in receipt.deliveries.items()}
        return cls(receipt.message_id, deliveries, receipt.nodes)

    def receipt(self) -> Receipt:
        """Return the receipt of this form."""
        deliveries = {id: Delivery(*msgspec.structs.astuple(d)) for id, d in self.deliveries.items()}
        return Receipt(self.message_id, deliveries, self.nodes)


class DeliveryForm(msgspec.Struct):
    """Delivery in JSON."""

    stored: bool
    online: int
    dropped: str | None
    position: Position | None = None
    displaced: int = 0


class _FrameBody(msgspec.Struct, forbid_unknown_fields=True):
    op: int = Op.DISPATCH.value
    d: Any = None
    t: str | None = None


def read_message(raw: msgspec.Raw) -> Message | DispatchEvent:
    """Decode the message of a body, or the event in its place; raise `InvalidMessage` if it is neither."""
    if raw == NO_MESSAGE:
        raise InvalidMessage(f"message: expected {_FRAME_FORM}, got none")
    try:
        frame = _FRAME.decode(raw)
    except UNREADABLE as error:
        raise InvalidMessage(f"message: expected {_FRAME_FORM}, but: {error}") from None
    if frame.op != Op.EVENT:
        return Message(frame.op, frame.d, frame.t)
    if frame.d not in (None, {}):
        raise InvalidMessage("message: expected no d in an event, got one; leave it out")
    return DispatchEvent(frame.t)  # type: ignore[arg-type]  # None is refused like any other


_FRAME = msgspec.json.Decoder(_FrameBody)


def _retention(given: object) -> Retention | None:
    if isinstance(given, bool):
        return Retention.of(Sync(enabled=given))
    if not isinstance(given, dict) or not set(given) <= set(Retention._fields):
        raise InvalidInput(
            f"sync: expected true, false or an object of {', '.join(Retention._fields)}, "
            f"got {'another object' if isinstance(given, dict) else type(given).__name__}"
        )
    return Retention.of(Sync.of({"enabled": True, **given}))


def _delivery(given: object) -> Any:
    """Return the delivery policy of a body; `prepare` checks the key."""
    if isinstance(given, dict) and set(given) == {"latest"}:
        return Latest(given["latest"])
    if given not in (None, VOLATILE):
        raise InvalidInput(f'delivery: expected "volatile" or {{"latest": "a key"}}, got {given!r:.100}')
    return given


def given_ids(where: str, given: Any, default: Sequence[str]) -> Any:
    """Return the ids of a body, or the default; raise `InvalidRecipients` if they are no list of scalars."""
    if given is msgspec.UNSET:
        return default
    if given is None or isinstance(given, dict):
        raise InvalidRecipients(
            f"{where}: expected a list of ids, got {'null' if given is None else 'an object'}"
        )
    if isinstance(given, list) and any(isinstance(id, list | dict) for id in given):
        raise InvalidRecipients(f"{where}: expected a list of ids as text, got lists or objects in it")
    return given


def named(envelope: Envelope, id: str | None, idempotency_key: str | None) -> Envelope:
    """Give an envelope the id that its dispatcher has made, if it sent one.

    Raises:
        InvalidInput: it has two names.
    """
    if id is None:
        return envelope
    if idempotency_key is not None:
        raise InvalidInput("id: pass either 'id' or 'idempotency_key', not both; leave out the id")
    remember = REMEMBERED_KEY if id.startswith("k") else envelope.remember
    return msgspec.structs.replace(envelope, message_id=id, remember=remember)


@contextmanager
def in_batch(index: int | None) -> Iterator[None]:
    """Name the index of a dispatch in its errors, if it is one of a batch."""
    try:
        yield
    except InvalidInput as error:
        if index is None:
            raise
        raise type(error)(f"batch[{index}]: {error}") from None

"""What both dispatchers do with the dispatches they are given, before and after these travel."""

from collections.abc import Container, Iterable
from typing import NamedTuple

from ..envelope import Envelope, Keep, Receipt, prepare
from ..errors import InvalidInput
from ..message import PROTOCOL_OPCODES, DispatchEvent, Message
from ..recipients import EVERYBODY
from ..settings import Durability

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
    dispatches: Iterable[object], keep: Keep | None, reserved: Container[int] = PROTOCOL_OPCODES
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
                    keep=keep,
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

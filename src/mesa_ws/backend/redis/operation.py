"""What the buses do, as values that the asyncio and the blocking runner carry out alike."""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from ...envelope import Envelope, Receipt
from ...id_page import IdPage, check_cursor
from ...position import Position
from ...receipt_status import OutboxHead
from ...recipients import check_id, check_ids
from ...stored import Stored
from ..outbox import Page
from ..quietly import Quietly
from .durable import Proof
from .exchange import Exchange
from .keys import Keys
from .outbox_plan import broadcast_answer, broadcasts, heads, outbox_heads, peek, purge, stored
from .plan import Batch, Call, Command, count, online, online_counts, online_page, scan_online, tally

T = TypeVar("T")

_UNHEARD: dict[Keys, Quietly] = {}
"""Warnings of each namespace; a process has few."""

_log = logging.getLogger("mesa_ws.backend")


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """Commands, and how to read their replies.

    Attributes:
        commands: what Redis is asked, on one connection; nothing needs no connection at all.
        read: makes the result of the replies.
        is_repeatable: whether carrying it out once more changes nothing.
        proof: what is to be waited for afterwards.
        known_for: seconds for which it is repeatable.
    """

    commands: Sequence[Command]
    read: Callable[[Sequence[Any]], T]
    is_repeatable: bool = True
    proof: Proof | None = None
    known_for: float = math.inf

    def exchange(self) -> Exchange:
        """What a runner carries out."""
        return Exchange(
            self.commands, is_repeatable=self.is_repeatable, known_for=self.known_for, proof=self.proof
        )


def dispatching(keys: Keys, envelopes: Iterable[Envelope]) -> Operation[list[Receipt]]:
    """Hand envelopes to the nodes that hold a recipient, and store what is to be kept."""
    envelopes = tuple(envelopes)
    batch = Batch.of(keys, envelopes)
    levels = {each.durability for each in envelopes} - {"memory"}
    known_for = remembered_for(envelopes)
    return Operation(
        batch.commands,
        partial(_receipts, keys, batch),
        known_for > 0,
        Proof(levels, batch.replicas) if levels else None,
        known_for,
    )


def remembered_for(envelopes: Iterable[Envelope]) -> float:
    """Seconds for which Redis recognizes all of these envelopes; 0 if it does not."""
    return min((each.remember for each in envelopes), default=math.inf)


def heads_of(keys: Keys, ids: Iterable[str]) -> Operation[dict[str, OutboxHead | None]]:
    """Tell how far outboxes are."""
    wanted = check_ids(ids)
    return Operation(_commands(heads(keys, wanted)), partial(outbox_heads, wanted))


def peeking(keys: Keys, id: str, limit: int) -> Operation[list[Stored]]:
    """Show the first messages of an outbox."""
    return Operation(_commands([peek(keys, check_id(id), limit)]), lambda replies: stored(replies[0]))


def purging(keys: Keys, id: str) -> Operation[int]:
    """Drop the messages of an outbox. Once more would count none, so it is not repeated."""
    commands = _commands(purge(keys, [check_id(id)]))
    return Operation(commands, lambda replies: int(replies[0][0]), is_repeatable=False)


def broadcasts_after(keys: Keys, position: Position | None) -> Operation[Page]:
    """Read the messages to everybody after a position."""

    def page(replies: Sequence[Any]) -> Page:
        answer = broadcast_answer(replies[0])
        warn_of_corruption(keys, ["*"] if answer.is_corrupt else [])
        return answer.page

    return Operation(_commands([broadcasts(keys, position)]), page)


def presence_of(keys: Keys, ids: Iterable[str]) -> Operation[dict[str, int]]:
    """Count the connections of each id."""
    wanted = check_ids(ids)
    return Operation(_commands(online(keys, wanted)), partial(online_counts, wanted))


def counting(keys: Keys) -> Operation[int]:
    """Count the ids that have connections."""
    return Operation([count(keys)], lambda replies: int(replies[0]))


def naming(keys: Keys, cursor: str) -> Operation[IdPage]:
    """Name some of the ids that have connections."""
    return Operation([scan_online(keys, check_cursor(cursor))], lambda replies: online_page(replies[0]))


def tallying(keys: Keys) -> Operation[int]:
    """Count the connections of all living nodes, logged in or not."""
    return Operation(_commands([tally(keys)]), lambda replies: int(replies[0]))


def warn_of_corruption(keys: Keys, ids: Iterable[str]) -> None:
    """Say which outboxes could not be read, and where they are kept for whoever wants to see."""
    for id in ids:
        _log.warning(
            "the outbox of %r was corrupt and begins anew; what it held was set aside under %r",
            id,
            keys.set_aside(id),
        )


def warn_of_the_unheard(keys: Keys, why: str) -> None:
    """Say, once a minute, that nodes could not be told of messages that are stored."""
    if why:
        _UNHEARD.setdefault(keys, Quietly()).warn(
            _log,
            "messages of namespace %r are stored, but Redis refuses to publish to %r (%s); they arrive late, "
            "when servers find the gap; grant the user that channel with ACL SETUSER",
            keys.namespace,
            f"{keys.channels}*",
            why,
        )


def _receipts(keys: Keys, batch: Batch, replies: Sequence[Any]) -> list[Receipt]:
    dealt = batch.dealt(replies)
    for dispatch, own in dealt:
        if dispatch.envelope.keep is not None:
            warn_of_corruption(keys, dispatch.corrupt(own))
            warn_of_the_unheard(keys, dispatch.unheard(own))
    return [dispatch.receipt(own) for dispatch, own in dealt]


def _commands(calls: Iterable[Call]) -> list[Command]:
    return [call.command for call in calls]

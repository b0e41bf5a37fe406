"""Queries about ids and outboxes that any process of a cluster may make.

A query is a value that knows the type of its answer: `await bus.query(Online(ids))` returns a
`dict[str, int]`. Each kind of backend answers all of them in one place.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from ..errors import InvalidInput
from ..messages.order import OrderStatus
from ..messages.receipt import OutboxHead, Position, Stored
from ..messages.recipients import check_id, check_ids
from ..text import plain

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

FIRST = ""
"""The cursor of the first page."""

MAX_CURSOR = 255
"""Characters of a cursor."""


class Query(Generic[T_co]):
    """A question whose answer is a `T_co`. It changes nothing, so it may be repeated.

    Raises:
        InvalidRecipients: an id in the question is none.
    """


@dataclass(frozen=True, init=False)
class _QueryAboutIds(Query[T]):
    ids: tuple[str, ...]

    def __init__(self, ids: Iterable[str]) -> None:
        object.__setattr__(self, "ids", tuple(check_ids(ids)))


class Online(_QueryAboutIds[dict[str, int]]):
    """Ask how many connections each id has, over all living nodes.

    Args:
        ids: a list, or any other iterable; the answer has each once, in this order.
    """


@dataclass(frozen=True)
class OnlineCount(Query[int]):
    """Ask how many ids have connections, over all living nodes."""


class IdPage(NamedTuple):
    """One page of the ids that are online.

    Attributes:
        ids: some of the ids; a page in the middle may be empty.
        cursor: asks for the next page; None after the last one.
    """

    ids: tuple[str, ...]
    cursor: str | None


@dataclass(frozen=True)
class OnlineIds(Query[IdPage]):
    """Ask for one page of the ids that have connections.

    An id that is connected from the first page to the last is on at least one of them.

    Args:
        cursor: the cursor of the previous page. Redis refuses one that no page had with `InvalidInput`.
    """

    cursor: str = FIRST


@dataclass(frozen=True)
class ConnectionCount(Query[int]):
    """Ask how many connections all living nodes have, authenticated or not, as they last reported."""


class Heads(_QueryAboutIds[dict[str, OutboxHead | None]]):
    """Ask for the heads of outboxes; the answer has None for an outbox that does not exist.

    Args:
        ids: the owners of the outboxes; the answer has each once, in this order.
    """


@dataclass(frozen=True)
class Peek(Query[list[Stored]]):
    """Ask for the first messages of an outbox, which stay in it.

    Args:
        id: the owner of the outbox.
        limit: largest number of messages, 1 to 1000.
    """

    id: str
    limit: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", check_id(self.id))


@dataclass(frozen=True)
class CarriedOut(Query[OrderStatus]):
    """Ask which living nodes have carried out an order.

    Args:
        position: of the order.
    """

    position: Position


def check_cursor(cursor: str) -> str:
    """Return `cursor` as the number that Redis expects; the first cursor is 0 there.

    Raises:
        InvalidInput: Redis cannot have returned such a cursor.
    """
    number = plain(cursor) or "0"
    if not (number.isascii() and number.isdigit() and len(number) <= len(str(2**64)) and int(number) < 2**64):
        raise InvalidInput(
            f"cursor: expected that of the previous page, or none for the first, got {cursor[:40]!r}"
        )
    return number

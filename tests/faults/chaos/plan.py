"""Messages of a dispatcher: the seed and the number determine every message of a source."""

from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from mesa_ws import Message
from mesa_ws.messages.recipients import EVERYBODY

from .journal import Journal

LANES = 5
"""Sources of a dispatcher; each waits for the confirmation of a message before the next."""

PAUSE = 0.12
"""Seconds between two messages of one source."""

BROADCAST_PAUSE = 1.0
"""The same for a source that sends to everybody."""

MAX_RECIPIENTS = 5
SIZES = (0, 0, 0, 100, 1000, 1000, 30_000)
"""Bytes of padding; large messages fill the buffers of clients that do not read."""


class Order(NamedTuple):
    """One message of a source.

    Attributes:
        source: its source; messages of one source have an order.
        number: its number, from 0 on.
        recipients: ids, or none for everybody.
    """

    source: str
    number: int
    recipients: tuple[str, ...]
    padding: int

    @property
    def key(self) -> str:
        """Idempotency key, to dispatch the message again."""
        return f"{self.source}/{self.number}"

    @property
    def label(self) -> tuple[str, int]:
        """Source and number, which identify the message."""
        return self.source, self.number

    @property
    def message(self) -> Message:
        return Message(0, {"label": self.label, "padding": "x" * self.padding}, "CHAOS")

    @property
    def to(self) -> Iterable[str]:
        return self.recipients or EVERYBODY


class Source:
    """A source, which knows its next message also after its process was killed.

    Args:
        name: its name; the last source of each dispatcher, `.../*`, sends to everybody.
        seed: seed of the run.
        ids: all ids.
    """

    def __init__(self, name: str, seed: str, ids: tuple[str, ...]) -> None:
        self.name = name
        self._is_loud = name.endswith("*")
        self._seed = seed
        self._ids = ids
        self.number = 0

    @property
    def pause(self) -> float:
        """Seconds before the next message."""
        return BROADCAST_PAUSE if self._is_loud else PAUSE

    def order(self) -> Order:
        """Return the next message to be confirmed."""
        dice = Random(f"{self._seed}/{self.name}/{self.number}")
        if self._is_loud:
            return Order(self.name, self.number, (), 0)
        recipients = tuple(dice.sample(self._ids, dice.randint(1, MAX_RECIPIENTS)))
        return Order(self.name, self.number, recipients, dice.choice(SIZES))


def sources(dispatcher: str, seed: str, ids: tuple[str, ...], log: Path) -> list[Source]:
    """Return the sources of a dispatcher, which continue where its log ends."""
    names = [f"{dispatcher}/{lane}" for lane in range(LANES)] + [f"{dispatcher}/*"]
    found = {name: Source(name, seed, ids) for name in names}
    for kind, name, number, *_ in Journal(log).news():
        if kind == "confirmed":
            found[name].number = number + 1
    return list(found.values())


def confirmation(order: Order, receipt: Any) -> list[Any]:
    """Return the record of a message that Redis has confirmed."""
    positions = {id: each.position for id, each in receipt.deliveries.items()}
    return ["confirmed", order.source, order.number, positions]

"""What a dispatcher has to send: every message of a source follows from the seed and its number."""

from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from mesa_ws import Message
from mesa_ws.messages.recipients import EVERYBODY

from .journal import Journal

LANES = 5
"""Sources of a dispatcher; each waits for the confirmation of one message before the next."""

PAUSE = 0.12
"""Seconds between two messages of one source."""

BROADCAST_PAUSE = 1.0
"""The same for a source that speaks to everybody."""

MAX_RECIPIENTS = 5
SIZES = (0, 0, 0, 100, 1000, 1000, 30_000)
"""Bytes of padding; the large ones are there to fill the buffers of who does not read."""


class Order(NamedTuple):
    """One message of a source.

    Attributes:
        source: who says it; what one source says has an order.
        number: counts from 0.
        recipients: ids, or none for everybody.
    """

    source: str
    number: int
    recipients: tuple[str, ...]
    padding: int

    @property
    def key(self) -> str:
        """The name under which it may be tried again."""
        return f"{self.source}/{self.number}"

    @property
    def label(self) -> tuple[str, int]:
        """What tells it apart."""
        return self.source, self.number

    @property
    def message(self) -> Message:
        return Message(0, {"label": self.label, "padding": "x" * self.padding}, "CHAOS")

    @property
    def to(self) -> Iterable[str]:
        return self.recipients or EVERYBODY


class Source:
    """Knows what it says, and what was confirmed, also after it was killed.

    Args:
        name: the last one of each dispatcher, `.../*`, speaks to everybody.
        seed: of the run.
        ids: all there are.
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
        """The message that is next to be confirmed."""
        dice = Random(f"{self._seed}/{self.name}/{self.number}")
        if self._is_loud:
            return Order(self.name, self.number, (), 0)
        recipients = tuple(dice.sample(self._ids, dice.randint(1, MAX_RECIPIENTS)))
        return Order(self.name, self.number, recipients, dice.choice(SIZES))


def sources(dispatcher: str, seed: str, ids: tuple[str, ...], log: Path) -> list[Source]:
    """The sources of a dispatcher, which go on where its log ends."""
    names = [f"{dispatcher}/{lane}" for lane in range(LANES)] + [f"{dispatcher}/*"]
    found = {name: Source(name, seed, ids) for name in names}
    for kind, name, number, *_ in Journal(log).news():
        if kind == "confirmed":
            found[name].number = number + 1
    return list(found.values())


def confirmation(order: Order, receipt: Any) -> list[Any]:
    """What to write down about a message that Redis has confirmed."""
    positions = {id: each.position for id, each in receipt.deliveries.items()}
    return ["confirmed", order.source, order.number, positions]

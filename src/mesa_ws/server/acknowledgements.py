"""Proofs of receipt: asking clients of 1.x for them, and passing on to the backend what was proven.

Clients of 1.x answer op 1 (`protocol.delivery`); one with unproven messages is asked about once a
second. What connections have proven is told to the backend a few times a second, for all ids at
once, and at once when a connection ends. What is not proven is never told, so it stays stored.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ..backend.outbox import Acknowledgement
from ..messages.receipt import Position
from ..protocol import Acknowledged, ProbeAnswered, UnexpectedAnswer
from .subscription import Feed

log = logging.getLogger("mesa_ws.server")

ROUND = 1.0
"""Seconds from one question to a client to the next."""

STEPS = 8
"""Parts of a round, so that not all clients are asked at the same moment."""

FLUSH = 0.25
"""Seconds for which proofs are collected."""


class Office(Protocol):
    """What proofs need of their node."""

    @property
    def is_prompt(self) -> bool:
        """Whether proofs are asked for and passed on at once."""

    def at(self, when: float, callback: Callable[[], None], /) -> asyncio.TimerHandle:
        """Call back at `when`, in the time of `now`."""

    def now(self) -> float:
        """The event loop's time, in seconds."""

    def feeds(self, id: str) -> Sequence[Feed]:
        """The feeds of an id's connections here."""

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement], /) -> None:
        """Tell the backend."""


class Proofs:
    """Asks for proofs, and collects them. For the event loop only.

    Args:
        office: the node.
    """

    def __init__(self, office: Office) -> None:
        self._office = office
        self._rounds: deque[set[Feed]] = deque((set() for _ in range(STEPS)), STEPS)
        self._prober: asyncio.TimerHandle | None = None
        self._dirty: dict[str, str] = {}  # ids of which somebody has proven more, and in which epoch
        self._loose: dict[str, str] = {}  # ids of which somebody has left, likewise
        self._flusher: asyncio.TimerHandle | None = None

    def watch(self, feed: Feed) -> None:
        """Ask the client of `feed` for proofs, within a round, as long as it has something to prove."""
        feed.is_watched = True
        self._rounds[-1].add(feed)
        if self._prober is None:
            self._prober = self._office.at(self._office.now() + ROUND / STEPS, self._probe)

    def proved(self, feed: Feed) -> None:
        """Pass on to the backend what `feed` has proven, soon."""
        self._dirty[feed.id] = feed.replay.epoch
        self._flush_soon()

    def left(self, feed: Feed) -> None:
        """Somebody else of the id of `feed` has left: pass on what the others need, soon."""
        self._loose[feed.id] = feed.replay.epoch
        self._flush_soon()

    def flush(self, ids: Iterable[str] | None = None) -> None:
        """Pass on at once what was proven for `ids`, or for all."""
        told = []
        if ids is None:
            self._dirty, self._loose = self._loose | self._dirty, {}
        for id in tuple(self._dirty) if ids is None else ids:
            epoch = self._dirty.pop(id, None)
            if epoch is not None:
                told += acknowledgements(id, epoch, self._office.feeds(id))
        if told:
            self._office.acknowledge(told)

    def settle(self, feed: Feed, position: Position) -> None:
        """Tell the backend that nothing up to `position` is there any more, so that it is done with."""
        self._office.acknowledge([Acknowledgement(feed.id, position, position.sequence)])

    def close(self) -> None:
        """Ask nobody any more."""
        for timer in (self._prober, self._flusher):
            if timer is not None:
                timer.cancel()
        self._prober = self._flusher = None

    def _flush_soon(self) -> None:
        if self._flusher is None:
            delay = 0.0 if self._office.is_prompt else FLUSH
            self._flusher = self._office.at(self._office.now() + delay, self._tick)

    def _tick(self) -> None:
        self._flusher = None
        self.flush()

    def _probe(self) -> None:
        due = self._rounds.popleft()
        self._rounds.append(set())
        for feed in due:
            if feed.is_open and feed.probe():
                self._rounds[-1].add(feed)
            else:
                feed.is_watched = False
        self._prober = None
        if any(self._rounds):
            self._prober = self._office.at(self._office.now() + ROUND / STEPS, self._probe)


def acknowledgements(id: str, epoch: str, feeds: Sequence[Feed]) -> list[Acknowledgement]:
    """What the connections of an id here have proven together: one acknowledgement, or none.

    Those that left older messages to others acknowledge nothing, but need what they have no more.

    Args:
        id: whose outbox.
        epoch: in which one of them has proven something.
        feeds: of all its connections. One that is elsewhere, or not known to be anywhere yet, may
            need everything.
    """
    if len(feeds) == 1:  # nearly always
        [only] = feeds
        proven = only.replay.acked
        highest, floor = proven if only.settles else 0, proven
        return [Acknowledgement(id, Position(epoch, highest), floor)] if only.replay.epoch == epoch else []
    present = [feed for feed in feeds if feed.replay.epoch == epoch]
    if not present:
        return []
    highest = max((feed.replay.acked for feed in present if feed.settles), default=0)
    floor = min(feed.replay.acked for feed in feeds) if len(present) == len(feeds) else 0
    return [Acknowledgement(id, Position(epoch, highest), floor)]


def take_proof(feed: Feed, event: Acknowledged | ProbeAnswered | UnexpectedAnswer) -> None:
    """Tell a feed what its client said of what it has."""
    match event:
        case Acknowledged(position):
            feed.acknowledged(position)
        case ProbeAnswered(token):
            feed.answered(token)
        case UnexpectedAnswer():
            log.info("%r answered a question that was not asked; what it is sent stays stored", feed.id)
            feed.strayed()

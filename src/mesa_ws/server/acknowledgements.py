"""Acknowledgements: probing clients of 1.x for them, and passing them on to the backend.

Clients of 1.x answer op 1 (`protocol.timers`); the server probes one with unacknowledged messages
once a second. It tells the backend several times a second what clients have acknowledged, for all
ids at once, and immediately when a connection ends. Unacknowledged messages stay stored.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from ..backend.outbox import Acknowledgement
from ..messages.receipt import Position
from .connection import Connection
from .subscription import Subscription

ROUND = 1.0
"""Seconds from one probe of a client to the next."""

STEPS = 8
"""Parts of a round, so that the server does not probe all clients at the same moment."""

FLUSH = 0.25
"""Seconds for which acknowledgements are collected."""

AT_ONCE = 300
"""Ids, or clients, that are looked at in one turn of the event loop."""


class Acknowledgements:
    """Probe clients, and collect what they acknowledge. For the event loop only."""

    def __init__(
        self,
        by_id: Mapping[str, Sequence[Connection]],
        acknowledge: Callable[[Sequence[Acknowledgement]], None],
        *,
        is_prompt: bool,
    ) -> None:
        self._by_id = by_id
        self._acknowledge = acknowledge
        self._delay = 0.0 if is_prompt else FLUSH
        self._due: set[Subscription] = set()  # to be probed now
        self._rounds: deque[set[Subscription]] = deque((set() for _ in range(STEPS)), STEPS)
        self._prober: asyncio.TimerHandle | None = None
        self._acked: dict[str, str] = {}  # ids with new acknowledgements, and the epoch of these
        self._left: dict[str, str] = {}  # ids that a connection has left, likewise
        self._flusher: asyncio.TimerHandle | None = None

    def watch(self, subscription: Subscription) -> None:
        """Probe the client of `subscription`, within a round, while it has something to acknowledge."""
        subscription.is_watched = True
        self._rounds[-1].add(subscription)
        if self._prober is None:
            self._prober = asyncio.get_running_loop().call_later(ROUND / STEPS, self._probe)

    def acked(self, subscription: Subscription) -> None:
        """Pass on soon what the client of `subscription` has acknowledged."""
        self._acked[subscription.id] = subscription.outbox.epoch
        self._flush_soon()

    def left(self, id: str) -> None:
        """Pass on soon how far the remaining connections of `id` need its outbox."""
        for connection in self._by_id.get(id, ()):
            subscription = connection.subscription
            if subscription is not None and subscription.is_started:  # one stands for all
                self._left[id] = subscription.outbox.epoch
                self._flush_soon()
                return

    def flush(self, ids: Iterable[str]) -> None:
        """Pass on at once the acknowledgements for `ids`."""
        collected = []
        for id in ids:
            epoch = self._acked.pop(id, None)
            if epoch is not None:
                connections = self._by_id.get(id, ())
                subscriptions = [each.subscription for each in connections if each.subscription is not None]
                collected += combined(id, epoch, subscriptions)
        if collected:
            self._acknowledge(collected)

    async def flush_all(self) -> None:
        """Pass on all acknowledgements, as many of them together as possible."""
        has_more = True
        while has_more:
            has_more = self._flush_some()
            await asyncio.sleep(0)

    def acknowledge_lost(self, id: str, position: Position) -> None:
        """Acknowledge the lost messages of `id` up to `position`, so that the backend reports them once."""
        self._acknowledge([Acknowledgement(id, position, position.sequence)])

    def close(self) -> None:
        """Pass on all acknowledgements, and stop probing."""
        while self._flush_some():
            pass
        for timer in (self._prober, self._flusher):
            if timer is not None:
                timer.cancel()
        self._prober = self._flusher = None

    def _flush_soon(self) -> None:
        if self._flusher is None:
            self._flusher = asyncio.get_running_loop().call_later(self._delay, self._tick)

    def _tick(self) -> None:
        has_more = self._flush_some()
        self._flusher = asyncio.get_running_loop().call_later(0, self._tick) if has_more else None

    def _flush_some(self) -> bool:
        """Pass on the acknowledgements for some ids; return whether there are more."""
        if self._left:
            self._acked, self._left = self._left | self._acked, {}
        self.flush(tuple(islice(self._acked, AT_ONCE)))
        return bool(self._acked)

    def _probe(self) -> None:
        if not self._due:
            self._due = self._rounds.popleft()
            self._rounds.append(set())
        for _ in range(min(AT_ONCE, len(self._due))):
            subscription = self._due.pop()
            if subscription.is_open and subscription.probe():
                self._rounds[-1].add(subscription)
            else:
                subscription.is_watched = False
        self._prober = None
        if self._due or any(self._rounds):
            pause = 0 if self._due else ROUND / STEPS
            self._prober = asyncio.get_running_loop().call_later(pause, self._probe)


def combined(id: str, epoch: str, subscriptions: Sequence[Subscription]) -> list[Acknowledgement]:
    """Combine the acknowledgements of all connections of an id here into one, or none.

    Connections that left older messages to others acknowledge nothing for the id, but no longer need
    the messages that they have.

    Args:
        id: whose outbox.
        epoch: in which one of them has acknowledged something.
        subscriptions: of all its connections. One that is in another epoch, or has no position yet, may
            need everything.
    """
    if len(subscriptions) == 1:  # nearly always
        [only] = subscriptions
        acked = only.outbox.acked
        highest, floor = acked if only.settles else 0, acked
        return [Acknowledgement(id, Position(epoch, highest), floor)] if only.outbox.epoch == epoch else []
    present = [each for each in subscriptions if each.outbox.epoch == epoch]
    if not present:
        return []
    highest = max((each.outbox.acked for each in present if each.settles), default=0)
    floor = min(each.outbox.acked for each in subscriptions) if len(present) == len(subscriptions) else 0
    return [Acknowledgement(id, Position(epoch, highest), floor)]

"""What a client received, on its way to the callbacks or to `async for`.

Messages go to the `on_message` callbacks if there are any, and else wait for the iteration. What
else happens always goes to the callbacks; what arrived, in one order with the messages. Nothing is
dropped: when too many messages wait, the connection is told to read no more.

A message is *handled* when its callbacks have returned, or when the iteration asks for the next one.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Generic, TypeVar

from ..errors import Unsupported
from ..messages.message import Message
from ..protocol import Arrived, Forked, Moved, Positions
from .events import Ending, Event

Thing = TypeVar("Thing")


class Exhausted(Exception):
    """Nothing is left, and nothing will come."""


class Waiting(Generic[Thing]):
    """An ordered queue. Who is cancelled while taking has taken nothing."""

    def __init__(self) -> None:
        self._things: deque[Thing] = deque()
        self._changed = asyncio.Event()
        self._is_closed = False

    def put(self, thing: Thing) -> None:
        """Add one thing."""
        self._things.append(thing)
        self._changed.set()

    def close(self) -> None:
        """Nothing more will come; what is here can still be taken."""
        self._is_closed = True
        self._changed.set()

    def clear(self) -> list[Thing]:
        """Take everything at once."""
        things = list(self._things)
        self._things.clear()
        return things

    async def take(self) -> Thing:
        """Wait for the oldest thing.

        Raises:
            Exhausted: nothing is left, and nothing will come.
        """
        while not self._things:
            if self._is_closed:
                raise Exhausted
            self._changed.clear()
            await self._changed.wait()
        return self._things.popleft()


PATIENCE = 8
"""Times as much as may wait else, while an answer is waited for that is behind it."""

MAX_ROLLBACKS = 16
"""Rollbacks of the server's store that are remembered, so that each is told once."""


class Crowd(IntEnum):
    """How much waits."""

    SMALL = 0
    FULL = 1
    """As much as may wait, or half of it after that."""
    OVERFULL = 2
    """Even `PATIENCE` times as much."""


class Inbox:
    """Holds what was received and not handled yet.

    Args:
        limit: messages that may wait; beyond, reading pauses until half of them are handled.
        throttle: called when it has become another crowd.
        progress: called with the positions of what was handled.
    """

    def __init__(
        self, limit: int, throttle: Callable[[Crowd], None], progress: Callable[[Positions], None]
    ) -> None:
        self._limit = limit
        self._throttle = throttle
        self._progress = progress
        self._events: Waiting[Event] = Waiting()
        self._arrivals: Waiting[Arrived | asyncio.Event] = Waiting()  # for the iteration
        self._in_hand: Arrived | None = None
        self._is_told = asyncio.Event()  # what the iteration has come across
        self._is_told.set()
        self._unhandled = 0
        self._feeds_callbacks = False
        self._feeds_iteration = False
        self._ending: Ending | None = None
        self._rollbacks: deque[str] = deque(maxlen=MAX_ROLLBACKS)
        self.crowd = Crowd.SMALL

    def receive(self, arrived: Arrived) -> None:
        """Take in the next thing that arrived; it is dropped if we are leaving."""
        if self._ending is not None:
            return
        self._put(self._without_repetition(arrived))
        if isinstance(arrived.what, Message):
            self._unhandled += 1
            if self._unhandled >= PATIENCE * self._limit:
                self._become(Crowd.OVERFULL)
            elif self._unhandled >= self._limit:
                self._become(max(self.crowd, Crowd.FULL))

    def happened(self, event: Event) -> None:
        """Take in anything that did not arrive."""
        self._events.put(event)

    def mark(self) -> asyncio.Event:
        """Return an event that is set once all that has arrived by now is handled."""
        mark = asyncio.Event()
        self._put(mark)
        return mark

    def feed_callbacks(self) -> None:
        """Messages are for the callbacks from now on, also those that wait already.

        Raises:
            Unsupported: they are being iterated over.
        """
        if self._feeds_iteration:
            raise Unsupported(
                "on_message: the messages of this client are taken by `async for`; use one of both"
            )
        self._feeds_callbacks = True
        for arrived in self._arrivals.clear():
            self._events.put(arrived)

    def feed_iteration(self) -> None:
        """Messages are iterated over from now on.

        Raises:
            Unsupported: they go to the callbacks.
        """
        if self._feeds_callbacks:
            raise Unsupported(
                "async for: the messages of this client go to its on_message callbacks; use one of both"
            )
        self._feeds_iteration = True

    def end(self, ending: Ending) -> None:
        """Nothing more will be received. What waits is still handed out, unless we are leaving."""
        self._ending = ending
        if ending.is_wanted:
            self._arrivals.clear()
            for event in self._events.clear():
                if not isinstance(event, Arrived):
                    self._events.put(event)
            self._is_told.set()
        self._arrivals.close()

    def finish(self) -> None:
        """Nothing more will happen."""
        self._events.close()

    async def next_event(self) -> Event:
        """Wait for the next thing to tell the callbacks.

        Raises:
            Exhausted: there will be none.
        """
        return await self._events.take()

    def handled(self, arrived: Arrived) -> None:
        """The callbacks are done with something that arrived."""
        if isinstance(arrived.what, Message):
            self._one_less()
        self._is_told.set()
        self._progress(arrived.positions)

    async def next_message(self) -> Message:
        """Wait for the next message of the iteration, which has handled those before.

        Cancelling loses none.

        Raises:
            StopAsyncIteration: this client was closed.
            ConnectionClosed: its connection ended for good.
            AuthenticationFailed: the server refused it.
        """
        self.feed_iteration()
        self._let_go()
        while True:
            await self._is_told.wait()
            arrived = await self._next_arrival()
            if isinstance(arrived, asyncio.Event):
                arrived.set()
            elif isinstance(arrived.what, Message):
                self._in_hand = arrived
                self._one_less()
                return arrived.what
            elif isinstance(arrived.what, Moved):
                self._progress(arrived.positions)
            else:
                self._is_told.clear()
                self._events.put(arrived)

    async def _next_arrival(self) -> Arrived | asyncio.Event:
        try:
            return await self._arrivals.take()
        except Exhausted:
            assert self._ending is not None  # noqa: S101 - `end` alone closes the queue
            if self._ending.is_wanted:
                raise StopAsyncIteration from None
            raise self._ending.error() from None

    def _without_repetition(self, arrived: Arrived) -> Arrived:
        """Of a rollback that was told before, only the positions are new."""
        if not isinstance(arrived.what, Forked):
            return arrived
        if arrived.what.rollback in self._rollbacks:
            return arrived._replace(what=Moved())
        self._rollbacks.append(arrived.what.rollback)
        return arrived

    def _put(self, arrived: Arrived | asyncio.Event) -> None:
        if self._feeds_callbacks:
            self._events.put(arrived)
        else:
            self._arrivals.put(arrived)

    def _let_go(self) -> None:
        in_hand, self._in_hand = self._in_hand, None
        if in_hand is not None:
            self._progress(in_hand.positions)

    def _one_less(self) -> None:
        self._unhandled -= 1
        if self._unhandled <= self._limit // 2:
            self._become(Crowd.SMALL)

    def _become(self, crowd: Crowd) -> None:
        if crowd is not self.crowd:
            self.crowd = crowd
            self._throttle(crowd)

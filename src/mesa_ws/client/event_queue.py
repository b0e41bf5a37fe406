"""Events of a client, messages among them, in a queue for the callbacks, or for `async for`.

Messages go to the `on_message` callbacks if there are any, and else wait for the iteration. Other
events always go to the callbacks; those that the server sent, in one order with the messages. No
message is dropped: when too many wait, the connection stops reading.

A message is *handled* when its callbacks have returned, or when the iteration asks for the next one.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

from ..close import CLOSE_TABLE, CloseCode
from ..errors import AuthenticationFailed, ConnectionClosed, Unsupported
from ..messages.message import Message
from ..protocol.client import Hello
from ..protocol.positions import Arrived, Forked, Moved, Positions

Item = TypeVar("Item")

PATIENCE = 8
"""Factor by which more messages may wait while a request waits for an answer that is behind them."""

MAX_ROLLBACKS = 16
"""Rollbacks of the server's store that are remembered, so that each is reported once."""


class ConnectionInfo(NamedTuple):
    """A new connection.

    Attributes:
        is_initial_connection: it is the first one of this client.
        is_initial_session_connection: it is the first one since `connect`.
        is_automatic_reconnection: the client reconnected by itself.
        hello: the server's description of itself.
    """

    is_initial_connection: bool
    is_initial_session_connection: bool
    is_automatic_reconnection: bool
    hello: Hello

    @classmethod
    def of(cls, hello: Hello, *, is_first: bool) -> "ConnectionInfo":
        """Describe a client's first connection, or a later one."""
        return cls(is_first, is_first, not is_first, hello)


class Disconnection(NamedTuple):
    """The end of a connection."""

    code: int
    reason: str
    will_reconnect: bool


QueuedEvent = ConnectionInfo | Arrived | Disconnection | Exception | asyncio.Event
"""An exception among the events is reported to `on_error`; an `asyncio.Event` is set when it is
reached, that is, when everything before was handled."""


class Ending(NamedTuple):
    """The end of a client.

    Attributes:
        code: close code of its last connection.
        reason: the text of the close frame, from the server or this side.
        is_refusal: the server refused to authenticate it.
        is_wanted: the application closed it.
    """

    code: int
    reason: str
    is_refusal: bool = False
    is_wanted: bool = False

    def error(self) -> ConnectionClosed | AuthenticationFailed:
        """Return the error for calls that are no longer possible."""
        if self.is_refusal:
            return AuthenticationFailed(self.code, self.reason)
        return ConnectionClosed(self.code, self.reason, _BLAME.get(self.code, ""))


_BLAME = {int(code): rule.meaning for code, rule in CLOSE_TABLE.items() if not rule.may_reconnect}
"""What the client did wrong, by close code; the server sends no other text."""

CLOSED_BY_US = Ending(CloseCode.NORMAL.value, "closed by this client", is_wanted=True)


class QueueClosed(Exception):
    """The queue is empty, and nothing will be added."""


class ClosableQueue(Generic[Item]):
    """An ordered queue that can be closed. Cancelling `take` loses no item."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._changed = asyncio.Event()
        self._is_closed = False

    def put(self, item: Item) -> None:
        """Add an item."""
        self._items.append(item)
        self._changed.set()

    def close(self) -> None:
        """Close the queue; the items in it can still be taken."""
        self._is_closed = True
        self._changed.set()

    def clear(self) -> list[Item]:
        """Remove and return all items."""
        items = list(self._items)
        self._items.clear()
        return items

    async def take(self) -> Item:
        """Wait for the oldest item, and remove it; raise `QueueClosed` if there will be none."""
        while not self._items:
            if self._is_closed:
                raise QueueClosed
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()


class QueueLevel(IntEnum):
    """How full the queue is."""

    SMALL = 0
    FULL = 1
    """The limit was reached, and not half of the messages were handled since."""
    OVERFULL = 2
    """`PATIENCE` times the limit was reached."""


class EventQueue:
    """Holds messages and events that were received and not handled yet.

    Args:
        limit: messages that may wait; beyond, reading pauses until half of them are handled.
        throttle: called with each new level.
        on_handled: called with the positions of a message or event that was handled.

    Attributes:
        level: how full the queue is.
    """

    def __init__(
        self, limit: int, throttle: Callable[[QueueLevel], None], on_handled: Callable[[Positions], None]
    ) -> None:
        self._limit = limit
        self._throttle = throttle
        self._on_handled = on_handled
        self._events: ClosableQueue[QueuedEvent] = ClosableQueue()
        self._arrivals: ClosableQueue[Arrived | asyncio.Event] = ClosableQueue()  # for the iteration
        self._current: Arrived | None = None
        self._is_reported = asyncio.Event()  # the callbacks have handled the event that the iteration reached
        self._is_reported.set()
        self._unhandled = 0
        self._feeds_callbacks = False
        self._feeds_iteration = False
        self._ending: Ending | None = None
        self._rollbacks: deque[str] = deque(maxlen=MAX_ROLLBACKS)
        self.level = QueueLevel.SMALL

    def receive(self, arrived: Arrived) -> None:
        """Add the next message or event from the server; it is dropped if the client is closing."""
        if self._ending is not None:
            return
        self._put(self._without_repetition(arrived))
        if isinstance(arrived.what, Message):
            self._unhandled += 1
            if self._unhandled >= PATIENCE * self._limit:
                self._set_level(QueueLevel.OVERFULL)
            elif self._unhandled >= self._limit:
                self._set_level(max(self.level, QueueLevel.FULL))

    def happened(self, event: QueuedEvent) -> None:
        """Add an event that did not come from the server."""
        self._events.put(event)

    def mark(self) -> asyncio.Event:
        """Return an event that is set once everything that has arrived by now is handled."""
        mark = asyncio.Event()
        self._put(mark)
        return mark

    def feed_callbacks(self) -> None:
        """Give messages to the callbacks from now on, those that wait included."""
        if self._feeds_iteration:
            raise Unsupported(
                "on_message: `async for` gets the messages of this client already; use one of both"
            )
        self._feeds_callbacks = True
        for arrived in self._arrivals.clear():
            self._events.put(arrived)

    def feed_iteration(self) -> None:
        """Give messages to the iteration from now on."""
        if self._feeds_callbacks:
            raise Unsupported(
                "async for: the on_message callbacks of this client get its messages already; use one of both"
            )
        self._feeds_iteration = True

    def end(self, ending: Ending) -> None:
        """Receive no more. What waits is still handed out, unless the application closed the client."""
        self._ending = ending
        if ending.is_wanted:
            self._arrivals.clear()
            for event in self._events.clear():
                if not isinstance(event, Arrived):
                    self._events.put(event)
            self._is_reported.set()
        self._arrivals.close()

    def finish(self) -> None:
        """Close the queue of the callbacks."""
        self._events.close()

    async def next_event(self) -> QueuedEvent:
        """Wait for the next event for the callbacks; raise `QueueClosed` if there will be none."""
        return await self._events.take()

    def handled(self, arrived: Arrived) -> None:
        """Record that the callbacks have handled a message or event from the server."""
        if isinstance(arrived.what, Message):
            self._count_handled()
        self._is_reported.set()
        self._on_handled(arrived.positions)

    async def next_message(self) -> Message:
        """Return the next message of the iteration, which has handled those before it; see `Client`."""
        self.feed_iteration()
        self._finish_message()
        while True:
            await self._is_reported.wait()
            arrived = await self._next_arrival()
            if isinstance(arrived, asyncio.Event):
                arrived.set()
            elif isinstance(arrived.what, Message):
                self._current = arrived
                self._count_handled()
                return arrived.what
            elif isinstance(arrived.what, Moved):
                self._on_handled(arrived.positions)
            else:
                self._is_reported.clear()
                self._events.put(arrived)

    async def _next_arrival(self) -> Arrived | asyncio.Event:
        try:
            return await self._arrivals.take()
        except QueueClosed:
            assert self._ending is not None  # noqa: S101 - `end` alone closes the queue
            if self._ending.is_wanted:
                raise StopAsyncIteration from None
            raise self._ending.error() from None

    def _without_repetition(self, arrived: Arrived) -> Arrived:
        """Reduce a rollback that was reported before to its positions."""
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

    def _finish_message(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            self._on_handled(current.positions)

    def _count_handled(self) -> None:
        self._unhandled -= 1
        if self._unhandled <= self._limit // 2:
            self._set_level(QueueLevel.SMALL)

    def _set_level(self, level: QueueLevel) -> None:
        if level is not self.level:
            self.level = level
            self._throttle(level)

"""What a client received, on its way to the callbacks or to `async for`.

Messages go to the `on_message` callbacks if there are any, and else wait for the iteration. What
else happens always goes to the callbacks, in one order with the messages they get. Nothing is
dropped: when too many messages wait, the connection is told to read no more.
"""

from collections.abc import Callable

from ..errors import Unsupported
from ..message import Message
from .ending import Ending
from .events import Event
from .waiting import Exhausted, Waiting


class Inbox:
    """Holds what was received and not handled yet.

    Args:
        limit: messages that may wait; beyond, reading pauses until half of them are handled.
        throttle: called with True when reading shall pause, with False when it may go on.
    """

    def __init__(self, limit: int, throttle: Callable[[bool], None]) -> None:
        self._limit = limit
        self._throttle = throttle
        self._events: Waiting[Event] = Waiting()
        self._messages: Waiting[Message] = Waiting()
        self._unhandled = 0
        self._feeds_callbacks = False
        self._feeds_iteration = False
        self._ending: Ending | None = None
        self.is_full = False

    def receive(self, message: Message) -> None:
        """Take in a message; it is dropped if we are leaving."""
        if self._ending is not None:
            return
        self._unhandled += 1
        (self._events if self._feeds_callbacks else self._messages).put(message)
        if self._unhandled >= self._limit:
            self._set_full(True)

    def happened(self, event: Event) -> None:
        """Take in anything but a message."""
        self._events.put(event)

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
        for message in self._messages.clear():
            self._events.put(message)

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
            self._messages.clear()
            for event in self._events.clear():
                if not isinstance(event, Message):
                    self._events.put(event)
        self._messages.close()

    def finish(self) -> None:
        """Nothing more will happen."""
        self._events.close()

    async def next_event(self) -> Event:
        """Wait for the next thing to tell the callbacks.

        Raises:
            Exhausted: there will be none.
        """
        return await self._events.take()

    async def next_message(self) -> Message:
        """Wait for the next message of the iteration. Cancelling loses none.

        Raises:
            StopAsyncIteration: this client was closed.
            ConnectionClosed: its connection ended for good.
            AuthenticationFailed: the server refused it.
        """
        self.feed_iteration()
        try:
            message = await self._messages.take()
        except Exhausted:
            assert self._ending is not None  # noqa: S101 - `end` alone closes the queue
            if self._ending.is_wanted:
                raise StopAsyncIteration from None
            raise self._ending.error() from None
        self.handled()
        return message

    def handled(self) -> None:
        """One message less waits to be handled."""
        self._unhandled -= 1
        if self._unhandled <= self._limit // 2:
            self._set_full(False)

    def _set_full(self, is_full: bool) -> None:
        if is_full != self.is_full:
            self.is_full = is_full
            self._throttle(is_full)

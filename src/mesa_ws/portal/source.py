"""The port between a portal and its wire: a source brings events to handlers."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from ..backend.inbox import WaitingEvent
from ..messages.envelope import Envelope


class Handled(NamedTuple):
    """Outcome of calling the handlers of an event.

    Attributes:
        failure: why the event has to be handled again; None if it has not.
        is_rejected: whether a handler has refused the event for good.
        message_ids: ids of the messages that its handlers sent.
    """

    failure: str | None
    is_rejected: bool = False
    message_ids: tuple[str, ...] = ()


Handle = Callable[[WaitingEvent, int], Awaitable[Handled]]
"""Calls the handlers of an event, at its nth delivery."""

Observe = Callable[[WaitingEvent], Awaitable[None]]
"""Calls the handlers of an event that is delivered once at most."""


class EventSource(Protocol):
    """Brings events to handlers, from `start` to `aclose`; in one event loop."""

    @property
    def portal_id(self) -> str:
        """Random name of this portal."""
        ...

    @property
    def queues(self) -> tuple[int, ...]:
        """The queues that this portal owns now; empty where the wire has none."""
        ...

    @property
    def dropped(self) -> int:
        """Events that were dropped because too many waited for handlers."""
        ...

    async def start(self) -> None:
        """Bring events from now on.

        Raises:
            BackendError: the backend cannot be reached, or refuses.
        """
        ...

    async def finish(self) -> None:
        """Begin no event that another portal can handle, and wait until the begun ones are handled.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def aclose(self) -> None:
        """Cancel handlers that still run, and disconnect."""
        ...

    async def reply(self, envelope: Envelope, node: str) -> bool:
        """Send a message to one connection of one node; return whether that node lives.

        Raises:
            BackendError: the backend did not answer.
            Unsupported: the wire does not say which connection that is.
        """
        ...

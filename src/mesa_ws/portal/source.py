"""How a portal gets what it handles; there is one way for each wire."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from ..backend.inbox import WaitingEvent
from ..messages.envelope import Envelope


class Handled(NamedTuple):
    """What became of a letter that handlers were given.

    Attributes:
        failure: why it is to be handled again; None if it is not.
        is_rejected: whether a handler has refused it for good.
        message_ids: what its handlers sent.
    """

    failure: str | None
    is_rejected: bool = False
    message_ids: tuple[str, ...] = ()


Handle = Callable[[WaitingEvent, int], Awaitable[Handled]]
"""Has a letter handled for the nth time."""

See = Callable[[WaitingEvent], Awaitable[None]]
"""Has a letter handled that comes once."""


class Work(Protocol):
    """Brings letters to handlers, from `start` to `aclose`; in one event loop."""

    @property
    def portal_id(self) -> str:
        """Random name of this portal."""
        ...

    @property
    def queues(self) -> tuple[int, ...]:
        """The queues it works on now, where there are any."""
        ...

    @property
    def dropped(self) -> int:
        """Events that were dropped because too many waited for handlers."""
        ...

    async def start(self) -> None:
        """Take part from now on.

        Raises:
            BackendError: the backend cannot be reached, or says no.
        """
        ...

    async def finish(self) -> None:
        """Begin nothing that could be left to others, and wait until what has begun is done.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def aclose(self) -> None:
        """Take part no more, whatever is still under way, and disconnect."""
        ...

    async def reply(self, envelope: Envelope, node: str) -> bool:
        """Hand a message to one connection of one node; tell whether that node lives.

        Raises:
            BackendError: the backend did not answer.
            Unsupported: nobody knows which connection that would be.
        """
        ...

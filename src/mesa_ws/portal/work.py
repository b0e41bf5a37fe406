"""How a portal gets what it handles; there is one way for each wire."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from ..backend.inbox import Waiting
from ..envelope import Envelope

Handle = Callable[[Waiting, int], Awaitable[tuple[str | None, tuple[str, ...]]]]
"""Has a letter handled for the nth time. Returns why that failed, or None; and what was sent."""

See = Callable[[Waiting], Awaitable[None]]
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

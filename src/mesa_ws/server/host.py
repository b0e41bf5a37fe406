"""What a connection needs of the node it belongs to."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from ..failure import Failure
from ..message import Message
from ..session import Authenticate, Terms
from ..settings import ServerSettings
from ..user import User
from .handlers import Handlers
from .portal_answers import Awaited
from .reports import Reports

if TYPE_CHECKING:
    from .connection import Connection


class Host(Protocol):
    """What a connection needs of the node it belongs to."""

    settings: ServerSettings
    handlers: Handlers
    reports: Reports

    @property
    def terms(self) -> Terms:
        """What the node offers to its connections."""

    def name_connection(self) -> str:
        """The name of a new connection."""

    def now(self) -> float:
        """The event loop's time, in seconds."""

    def at(self, when: float, callback: Callable[[], None], /) -> asyncio.TimerHandle:
        """Call back at `when`, in the time of `now`."""

    def in_loop(self, callback: Callable[..., None], *args: Any) -> None:
        """Call `callback` in the event loop."""

    def spawn(self, work: Coroutine[Any, Any, Any], /) -> asyncio.Task[Any]:
        """Run `work` on its own."""

    async def answer(self, message: Message, connection: "Connection", /) -> bytes | Failure | Awaited:
        """Answer a request of a client."""

    async def admit(self, connection: "Connection", attempt: Authenticate) -> None:
        """Answer op 2."""

    def rename(self, connection: "Connection", user: User) -> bool:
        """Take note that the connection belongs to another user now; return whether to another id."""

    def forget(self, connection: "Connection") -> None:
        """Let go of a connection that has ended."""

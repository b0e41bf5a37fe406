"""What plain `def` handlers use in place of the coroutine methods of a server."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from ..backend.base import AsyncBus, IdPage
from ..backend.presence import BlockingClusterPresence
from ..messages.message import DispatchEvent, Message
from ..messages.receipt import Receipt
from ..messages.recipients import EVERYBODY
from ..messages.request import DEFAULT_REQUEST_TIMEOUT
from ..settings import Durability

T = TypeVar("T")


class _Node(Protocol):
    """What a node brings along."""

    @property
    def bus(self) -> AsyncBus: ...

    def check_thread(self, method: str) -> None: ...

    def wait_in_thread(self, method: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T: ...

    async def send(
        self,
        message: Message | DispatchEvent,
        recipients: Iterable[str],
        excluding: Iterable[str],
        *,
        idempotency_key: str | None,
        durability: Durability,
    ) -> Receipt: ...

    async def request(self, id: str, message: Message, timeout: float) -> Message: ...


class BlockingForms:
    """The blocking form of each coroutine method has its name and `_blocking`.

    They wait in the thread of the caller for what the event loop of the server does. In that event
    loop itself they raise `MesaError`, as they would stop it.
    """

    def send_blocking(
        self: _Node,
        message: Message | DispatchEvent,
        recipients: Iterable[str] = EVERYBODY,
        excluding: Iterable[str] = (),
        *,
        idempotency_key: str | None = None,
        durability: Durability = "memory",
    ) -> Receipt:
        """Do what `send` does, from a thread, such as that of a `def` handler.

        Raises:
            MesaError: as `send`; also in the event loop of the server.
            BackendUnavailable: as `send`; also where the server stops before it is done.
        """
        return self.wait_in_thread(
            "send",
            lambda: self.send(
                message, recipients, excluding, idempotency_key=idempotency_key, durability=durability
            ),
        )

    def request_blocking(
        self: _Node, id: str, message: Message, timeout: float = DEFAULT_REQUEST_TIMEOUT
    ) -> Message:
        """Do what `request` does, from a thread; errors as in `send_blocking` and `request`."""
        return self.wait_in_thread("request", lambda: self.request(id, message, timeout))

    @property
    def presence_blocking(self: _Node) -> BlockingClusterPresence:
        """Which ids have connections, asked from a thread; errors as in `send_blocking`."""
        self.check_thread("presence")
        return BlockingClusterPresence(_Presence(self))


class _Presence:
    """Has the event loop of a node ask."""

    def __init__(self, node: _Node) -> None:
        self._node = node

    def online(self, ids: Iterable[str]) -> dict[str, int]:
        return self._wait(lambda bus: bus.online(ids))

    def count(self) -> int:
        return self._wait(lambda bus: bus.count())

    def some_ids(self, cursor: str) -> IdPage:
        return self._wait(lambda bus: bus.some_ids(cursor))

    def connections(self) -> int:
        return self._wait(lambda bus: bus.connections())

    def _wait(self, ask: Callable[[AsyncBus], Coroutine[Any, Any, T]]) -> T:
        return self._node.wait_in_thread("presence", lambda: ask(self._node.bus))

"""`Dispatcher` and `AsyncDispatcher`: send messages to users from any process.

Both say the same in two ways of waiting. What a dispatch means is decided in `envelope.prepare`;
how it travels is the business of a bus, over Redis or over a server's HTTP API.
"""

import asyncio
import threading
import warnings
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeGuard

from .backend.base import AsyncBus, BlockingBus
from .backend.http import AsyncHttpBus, BlockingHttpBus
from .backend.redis import Address, AsyncRedisBus, BlockingRedisBus, Given
from .envelope import Envelope, Receipt, prepare
from .errors import BackendUnavailable, InvalidInput, InvalidSettings
from .message import DispatchEvent, Message
from .recipients import EVERYBODY
from .settings import Sync

DEFAULT_URL = "redis://localhost:6379"


class Dispatch(NamedTuple):
    """One of the dispatches of `dispatch_many`; a plain tuple of the same members will do.

    Attributes:
        message: what to send.
        recipients: ids, or `"*"` for every connected client.
        excluding: ids that shall not receive.
    """

    message: Message | DispatchEvent
    recipients: Iterable[str] = EVERYBODY
    excluding: Iterable[str] = ()


class Dispatcher:
    """Sends messages to users from threads, scripts and workers.

    Any thread may use it, and a process forked after it was made; it connects when it is first
    used. Dispatches of one thread arrive in their order. Delivery is at most once, to those who
    are connected. A dispatch that failed is not repeated by itself, since it might arrive twice.

    Args:
        url: a Redis URI, a mapping of redis-py options or a redis-py client, whose settings are
            used for connections of our own; or the `http(s)` URL of a server's dispatch API.
        namespace: the cluster to dispatch to; clusters of different namespaces never meet.
        sync: True, False, `{"enabled": ...}` or `Sync(...)`: whether messages are kept for those
            who are away. Not available in this version.
        timeout: seconds for one dispatch, connecting included.
        key: of the dispatch API; only with an `http(s)` URL.

    Raises:
        InvalidSettings: one of them cannot be used.
        Unsupported: `sync` is on.
    """

    def __init__(
        self,
        url: Given = DEFAULT_URL,
        *,
        namespace: str | None = None,
        sync: bool | Mapping[str, object] | Sync = False,
        timeout: float = 5.0,
        key: str | None = None,
    ) -> None:
        Sync.of(sync)
        self._bus: BlockingBus
        if _is_http(url):
            self._bus = BlockingHttpBus(url, key=key, namespace=namespace, timeout=timeout)
        else:
            self._bus = BlockingRedisBus(_redis(url, key), namespace=namespace, timeout=timeout)
        self._is_closed = False

    def dispatch(
        self,
        message: Message | DispatchEvent,
        recipients: Iterable[str] = EVERYBODY,
        excluding: Iterable[str] = (),
    ) -> Receipt:
        """Send `message` to the connections that recipients have now.

        Args:
            message: what to send.
            recipients: ids, or `"*"` for every connected client; `[]` sends to nobody. An event
                needs them written out.
            excluding: ids that shall not receive, whoever the recipients are.

        Returns:
            For each id what became of it. Handed to a server is not yet received.

        Raises:
            InvalidInput: the message, the recipients or the exclusions cannot be used.
            BackendUnavailable: no answer within the time limit; `maybe_sent` tells whether the
                message may have been sent all the same.
            BackendRefused: the answer is no: a wrong password, a missing permission.
        """
        return self._send([prepare(message, recipients, excluding)])[0]

    def dispatch_many(self, dispatches: Iterable[Dispatch | tuple[Any, ...]]) -> list[Receipt]:
        """Send many messages in one round trip, in their order.

        All are checked before the first is sent.

        Args:
            dispatches: `Dispatch`es, or tuples of message, recipients and exclusions.

        Returns:
            One receipt for each.

        Raises:
            InvalidInput: one of them cannot be used; nothing was sent.
            BackendUnavailable: as in `dispatch`, for any of them.
            BackendRefused: as in `dispatch`.
        """
        return self._send(_prepare_all(dispatches))

    def close(self) -> None:
        """Disconnect; a client that was given stays open. Dispatching afterwards is an error."""
        self._is_closed = True
        self._bus.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, envelopes: list[Envelope]) -> list[Receipt]:
        if self._is_closed:
            raise BackendUnavailable(_CLOSED)
        _warn_in_event_loop()
        meant = [envelope for envelope in envelopes if _is_meant(envelope)]
        return _with_unmeant(envelopes, self._bus.dispatch(meant) if meant else [])


class AsyncDispatcher:
    """`Dispatcher` for asyncio.

    Dispatches arrive in the order in which their calls started, within one event loop. Cancelling
    one is safe: it may still be sent, and no other call is given its reply.

    Args:
        url: as in `Dispatcher`.
        namespace: as in `Dispatcher`.
        sync: as in `Dispatcher`.
        timeout: as in `Dispatcher`.
        key: as in `Dispatcher`.

    Raises:
        InvalidSettings: one of them cannot be used.
        Unsupported: `sync` is on.
    """

    def __init__(
        self,
        url: Given = DEFAULT_URL,
        *,
        namespace: str | None = None,
        sync: bool | Mapping[str, object] | Sync = False,
        timeout: float = 5.0,
        key: str | None = None,
    ) -> None:
        Sync.of(sync)
        self._bus: AsyncBus
        if _is_http(url):
            self._bus = AsyncHttpBus(url, key=key, namespace=namespace, timeout=timeout)
        else:
            self._bus = AsyncRedisBus(_redis(url, key), namespace=namespace, timeout=timeout)
        self._is_closed = False

    async def dispatch(
        self,
        message: Message | DispatchEvent,
        recipients: Iterable[str] = EVERYBODY,
        excluding: Iterable[str] = (),
    ) -> Receipt:
        """Send `message` to the connections that recipients have now; see `Dispatcher.dispatch`."""
        return (await self._send([prepare(message, recipients, excluding)]))[0]

    async def dispatch_many(self, dispatches: Iterable[Dispatch | tuple[Any, ...]]) -> list[Receipt]:
        """Send many messages in one round trip; see `Dispatcher.dispatch_many`."""
        return await self._send(_prepare_all(dispatches))

    async def aclose(self) -> None:
        """Disconnect; a client that was given stays open. Dispatching afterwards is an error."""
        self._is_closed = True
        await self._bus.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _send(self, envelopes: list[Envelope]) -> list[Receipt]:
        if self._is_closed:
            raise BackendUnavailable(_CLOSED)
        meant = [envelope for envelope in envelopes if _is_meant(envelope)]
        return _with_unmeant(envelopes, await self._bus.dispatch(meant) if meant else [])


_CLOSED = "the dispatcher is closed"

_HAS_WARNED = threading.Event()


def _is_http(url: object) -> TypeGuard[str]:
    return isinstance(url, str) and url.lower().startswith(("http://", "https://"))


def _redis(url: object, key: str | None) -> Address:
    try:
        address = Address.of(url)
    except InvalidSettings as error:
        expected = f"{error.expected}; or the http:// URL of a server's dispatch API"
        raise InvalidSettings("url", expected, error.got) from None
    if key is not None:
        raise InvalidSettings("key", "None with Redis, whose address carries the password", "a key")
    return address


def _prepare_all(dispatches: Iterable[object]) -> list[Envelope]:
    envelopes = []
    for position, dispatch in enumerate(dispatches):
        if not isinstance(dispatch, tuple) or not 1 <= len(dispatch) <= 3:
            raise InvalidInput(
                f"dispatches[{position}]: expected (message, recipients) or "
                f"(message, recipients, excluding), got {type(dispatch).__name__}"
            )
        try:
            envelopes.append(prepare(*dispatch))
        except InvalidInput as error:
            error.add_note(f"in dispatches[{position}]; nothing was sent")
            raise
    return envelopes


def _is_meant(envelope: Envelope) -> bool:
    """Whether anybody is named; if not, there is nothing to ask for."""
    return envelope.recipients.everybody or bool(envelope.recipients.ids)


def _with_unmeant(envelopes: Iterable[Envelope], receipts: Iterable[Receipt]) -> list[Receipt]:
    """Put receipts for those who are meant for nobody where they belong."""
    rest = iter(receipts)
    return [next(rest) if _is_meant(each) else Receipt(each.message_id, {}, 0) for each in envelopes]


def _warn_in_event_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if not _HAS_WARNED.is_set():
        _HAS_WARNED.set()
        warnings.warn(
            "Dispatcher blocks this event loop until Redis or the server has answered; "
            "use AsyncDispatcher in asyncio, or call it in a thread",
            RuntimeWarning,
            stacklevel=4,
        )

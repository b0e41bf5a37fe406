"""The dispatcher for asyncio."""

import logging
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self, overload

from ..backend.orders import give, prepare_revocation
from ..backend.presence import ClusterPresence
from ..backend.queries import CarriedOut, Heads
from ..backend.urls import DEFAULT_TIMEOUT, DEFAULT_URL, SharedUrl, async_bus, reserved_on
from ..close import CloseCode
from ..concurrency.blocking import awaited
from ..messages.envelope import DeliveryPolicy, Dispatch, Retention, prepare, prepare_all
from ..messages.message import DispatchEvent, Message
from ..messages.message_log import log_dispatches
from ..messages.order import OrderReceipt, OrderStatus, prepare_order
from ..messages.receipt import Receipt, Status, judge, stored_positions
from ..messages.recipients import EVERYBODY
from ..messages.request import DEFAULT_REQUEST_TIMEOUT, check_timeout, prepare_request, read_answer
from ..settings import Durability, Sync, Wire

log = logging.getLogger("mesa_ws.dispatcher")


class AsyncDispatcher:
    """`Dispatcher` for asyncio.

    Dispatches arrive in the order in which their calls started, within one event loop. Cancelling
    one is safe: the message may still be sent, and no other call gets its reply.

    Args:
        url: as in `Dispatcher`.
        namespace: as in `Dispatcher`.
        sync: as in `Dispatcher`.
        timeout: as in `Dispatcher`.
        key: as in `Dispatcher`.
        wire: as in `Dispatcher`.

    Raises:
        InvalidSettings: one of them cannot be used.
    """

    def __init__(
        self,
        url: SharedUrl = DEFAULT_URL,
        *,
        namespace: str | None = None,
        sync: bool | Mapping[str, object] | Sync = False,
        timeout: float = DEFAULT_TIMEOUT,
        key: str | None = None,
        wire: Wire = "native",
    ) -> None:
        settings = Sync.of(sync)
        self._retention = Retention.of(settings)
        self._bus = async_bus(url, namespace=namespace, key=key, timeout=timeout, sync=settings, wire=wire)
        self._reserved = reserved_on(url, wire)

    @property
    def presence(self) -> ClusterPresence:
        """The presence of ids, over all servers of the namespace."""
        return ClusterPresence(self._bus)

    @awaited("AsyncDispatcher.dispatch", "a Dispatcher")
    async def dispatch(
        self,
        message: Message | DispatchEvent,
        recipients: Iterable[str] = EVERYBODY,
        excluding: Iterable[str] = (),
        *,
        idempotency_key: str | None = None,
        durability: Durability = "memory",
        delivery: DeliveryPolicy | None = None,
    ) -> Receipt:
        """Send `message` to the recipients; see `Dispatcher.dispatch`."""
        envelopes = [
            prepare(
                message,
                recipients,
                excluding,
                retention=self._retention,
                idempotency_key=idempotency_key,
                durability=durability,
                delivery=delivery,
                reserved=self._reserved,
            )
        ]
        receipts = await self._bus.dispatch(envelopes)
        if log.isEnabledFor(logging.DEBUG):
            log_dispatches(log, envelopes, receipts)
        return receipts[0]

    @awaited("AsyncDispatcher.dispatch_many", "a Dispatcher")
    async def dispatch_many(self, dispatches: Iterable[Dispatch | tuple[Any, ...]]) -> list[Receipt]:
        """Send many messages in one round trip; see `Dispatcher.dispatch_many`."""
        envelopes = prepare_all(dispatches, self._retention, self._reserved)
        receipts = await self._bus.dispatch(envelopes)
        if log.isEnabledFor(logging.DEBUG):
            log_dispatches(log, envelopes, receipts)
        return receipts

    @awaited("AsyncDispatcher.request", "a Dispatcher")
    async def request(self, id: str, message: Message, timeout: float = DEFAULT_REQUEST_TIMEOUT) -> Message:
        """Ask the clients of one id, and return the first answer; see `Dispatcher.request`.

        Cancelling ends the wait; the client may handle the request all the same.
        """
        request = prepare_request(id, message)
        return read_answer(await self._bus.request(request, check_timeout(timeout)))

    @awaited("AsyncDispatcher.disconnect", "a Dispatcher")
    async def disconnect(
        self,
        ids: Iterable[str],
        code: int = CloseCode.NORMAL,
        reason: str = "",
        *,
        idempotency_key: str | None = None,
    ) -> OrderReceipt:
        """End every connection of ids, on all servers; see `Dispatcher.disconnect`."""
        order = prepare_order(ids, code, reason)
        return await give(self._bus, order.envelope(idempotency_key))

    @awaited("AsyncDispatcher.revoke", "a Dispatcher")
    async def revoke(
        self,
        ids: Iterable[str],
        issued_before: float | None = None,
        code: int = CloseCode.REFUSED,
        reason: str = "",
        *,
        idempotency_key: str | None = None,
    ) -> OrderReceipt:
        """End the logins of ids, and refuse them; see `Dispatcher.revoke`."""
        order = prepare_revocation(ids, code, reason, issued_before)
        return await give(self._bus, order.envelope(idempotency_key))

    @overload
    async def status(self, receipt: Receipt) -> Status: ...

    @overload
    async def status(self, receipt: OrderReceipt) -> OrderStatus: ...

    @awaited("AsyncDispatcher.status", "a Dispatcher")
    async def status(self, receipt: Receipt | OrderReceipt) -> Status | OrderStatus:
        """Return the present status of a dispatched message or an order; see `Dispatcher.status`."""
        if isinstance(receipt, OrderReceipt):
            return await self._bus.query(CarriedOut(receipt.position))
        ids = list(stored_positions(receipt))
        return judge(receipt, await self._bus.query(Heads(ids)) if ids else {})

    async def aclose(self) -> None:
        """Disconnect; a redis-py client that was given stays open. Dispatching afterwards is an error."""
        await self._bus.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.aclose()

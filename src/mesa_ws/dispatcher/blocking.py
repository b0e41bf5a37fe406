"""The dispatcher for threads, scripts and workers."""

import logging
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self, overload

from ..backend.orders import give_blocking, prepare_revocation
from ..backend.presence import BlockingClusterPresence
from ..backend.queries import CarriedOut, Heads
from ..backend.urls import DEFAULT_TIMEOUT, DEFAULT_URL, SharedUrl, blocking_bus, reserved_on
from ..close import CloseCode
from ..concurrency.blocking import warn_in_event_loop
from ..messages.envelope import DeliveryPolicy, Dispatch, Envelope, Retention, prepare, prepare_all
from ..messages.message import DispatchEvent, Message
from ..messages.message_log import log_dispatches
from ..messages.order import OrderReceipt, OrderStatus, prepare_order
from ..messages.receipt import Receipt, Status, judge, stored_positions
from ..messages.recipients import EVERYBODY
from ..messages.request import DEFAULT_REQUEST_TIMEOUT, check_timeout, prepare_request, read_answer
from ..settings import Durability, Sync, Wire

log = logging.getLogger("mesa_ws.dispatcher")


class Dispatcher:
    """Sends messages to users from threads, scripts and workers.

    Any thread may use it, and a process forked after it was made; it connects when it is first
    used. Dispatches of one thread arrive in their order.

    Without sync, delivery is at most once, to connected clients. With sync, a message to ids is
    stored until each of them has acknowledged it, within the limits of `Sync`; once `dispatch` has
    returned, the message survives the end of any server and any client. Over Redis, the dispatcher
    repeats a stored message by itself when the outcome is unknown, because a connection broke or
    gave no answer in half of the time; it does so as long as there is time, and the message arrives
    once all the same. It repeats nothing else.

    Args:
        url: a Redis URI, a mapping of redis-py options, or a redis-py client, whose settings the
            dispatcher uses for its own connections; or the `http(s)` URL of a server's dispatch API; or
            the `MemoryHub` of servers in this process.
        namespace: the cluster to dispatch to; clusters of different namespaces never meet.
        sync: True, False, `{"enabled": ...}` or `Sync(...)`: whether messages are kept for
            recipients who are away, and for how long.
        timeout: seconds for one dispatch, connecting included; through Redis, to many ids, for each step.
        key: the key of the dispatch API; only with an `http(s)` URL.
        wire: how the servers talk through Redis: `"native"`, or `"mesa1"` as @cryb/mesa 1.x does.
            It has to be that of the servers.

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
        self._bus = blocking_bus(url, namespace=namespace, key=key, timeout=timeout, sync=settings, wire=wire)
        self._reserved = reserved_on(url, wire)

    @property
    def presence(self) -> BlockingClusterPresence:
        """The presence of ids, over all servers of the namespace."""
        return BlockingClusterPresence(self._bus)

    def dispatch(
        self,
        message: Message | DispatchEvent,
        recipients: Iterable[str] = EVERYBODY,
        excluding: Iterable[str] = (),
        *,
        idempotency_key: str | None = None,
        durability: Durability = "memory",
        delivery: DeliveryPolicy | None = None,
    ) -> Receipt:
        """Send `message` to the recipients; with sync also to those who are away.

        Args:
            message: the message; with `sync=False` it is never stored.
            recipients: ids, or `"*"` for every connected client; a message to `"*"` is never stored
                for ids that are away. `[]` sends to no client. An event needs explicit recipients.
            excluding: ids that do not receive it, even if `recipients` names them.
            idempotency_key: a name for this message, such as the id of a task. A dispatch with the
                same name within 24 hours is a repetition: ids that have the message are skipped,
                and the receipt is that of the first. So you can repeat a dispatch whose outcome is
                unknown.
            durability: where the message is stored when this returns: in the `"memory"` of Redis;
                with `"fsync"`, on its disk (Redis 7.2 or later with AOF); with `"replicated"`, on
                all replicas that are online, which holds through a failover together with Redis's
                own `min-replicas-to-write`.
            delivery: what may happen to a message that is not stored, for a client that reads slowly:
                `"volatile"` drops it, `Latest(key)` lets a newer one with the same key replace it.

        Returns:
            The outcome for each id. Handed to a server is not yet received: see `status`.

        Raises:
            InvalidInput: the message, the recipients or another argument cannot be used.
            BackendUnavailable: no answer within the time limit; `maybe_sent` tells whether the
                message may have been sent all the same.
            BackendRefused: the backend refuses: a wrong password, a missing permission; for a stored
                message also a full Redis, or one that evicts messages by itself.
            Unsupported: this backend does not support the durability or the delivery.
        """
        envelope = prepare(
            message,
            recipients,
            excluding,
            retention=self._retention,
            idempotency_key=idempotency_key,
            durability=durability,
            delivery=delivery,
            reserved=self._reserved,
        )
        return self._send([envelope])[0]

    def dispatch_many(self, dispatches: Iterable[Dispatch | tuple[Any, ...]]) -> list[Receipt]:
        """Send many messages in one round trip, in their order.

        All are checked before the first is sent.

        Args:
            dispatches: `Dispatch`es, or plain tuples of their first members.

        Returns:
            One receipt for each.

        Raises:
            InvalidInput: one of them cannot be used; nothing was sent.
            BackendUnavailable: as in `dispatch`, for any of them.
            BackendRefused: as in `dispatch`.
        """
        return self._send(prepare_all(dispatches, self._retention, self._reserved))

    def request(self, id: str, message: Message, timeout: float = DEFAULT_REQUEST_TIMEOUT) -> Message:
        """Ask the clients of one id, wherever they are connected, and wait for the first answer.

        All connections of the id are asked, except those on wire 1. A request is never stored,
        delivered at most once, and never repeated by itself. Up to 50 threads may wait for answers
        at a time (`AsyncDispatcher`: 1000 requests, over HTTP 100).

        Args:
            id: the id to ask.
            message: the request.
            timeout: seconds to wait.

        Returns:
            What the client's `on_request` handler returned.

        Raises:
            NotConnected: the id has no connection.
            TimedOut: no answer in time; the client may handle the request all the same.
            RequestFailed: the client answered with an error: `Unanswered` if it has no handler for
                this request, else the error that its handler raised.
            ConnectionClosed: the client left before it answered.
            Unsupported: the client speaks wire 1.
            TooManyRequests: too many wait for their answers, here or at the client.
            InvalidInput: the id, the message or the timeout cannot be used.
            BackendUnavailable: Redis or the server cannot be reached; `maybe_sent` tells whether
                the request may have been sent all the same.
            BackendRefused: the backend refuses, as in `dispatch`.
        """
        request, limit = prepare_request(id, message), check_timeout(timeout)
        warn_in_event_loop()
        return read_answer(self._bus.request(request, limit))

    def disconnect(
        self,
        ids: Iterable[str],
        code: int = CloseCode.NORMAL,
        reason: str = "",
        *,
        idempotency_key: str | None = None,
    ) -> OrderReceipt:
        """End every connection of ids, on all servers, also on one that is cut off at the moment.

        The order is kept for a day. A server that is cut off carries it out when it is back, before it
        delivers anything else, on the connections that were open when it was given. A client that logs in
        afterwards is not concerned; see `revoke`.

        Args:
            ids: 1 to 10 000 ids.
            code: close code; whether a client comes back after it is said in the table of close codes.
                Clients of 1.x come back after any.
            reason: text of the close frame.
            idempotency_key: as in `dispatch`.

        Raises:
            InvalidInput: the ids, the code or the reason cannot be used.
            BackendUnavailable: no answer within the time limit; calling again is safe.
            BackendRefused: the backend refuses.
            Unsupported: wire `mesa1`, which has only `DispatchEvent("DISCONNECT_CLIENT")`.
        """
        order = prepare_order(ids, code, reason)
        warn_in_event_loop()
        return give_blocking(self._bus, order.envelope(idempotency_key))

    def revoke(
        self,
        ids: Iterable[str],
        issued_before: float | None = None,
        code: int = CloseCode.REFUSED,
        reason: str = "",
        *,
        idempotency_key: str | None = None,
    ) -> OrderReceipt:
        """End the logins of ids that were issued before a time, and refuse them for a day.

        As `disconnect`, but connections whose user was issued later stay (`User(issued_at=)`, the `iat` of a
        token), and a client that comes back with an older login is refused with 1008. A user without a time
        of issue counts as older. Equal seconds count as before.

        Args:
            ids: 1 to 10 000 ids.
            issued_before: seconds since 1970; now by default.
            code: close code of connections that are open.
            reason: text of the close frame.
            idempotency_key: as in `dispatch`.

        Raises:
            InvalidInput: one of them cannot be used.
            BackendError: as in `disconnect`.
            Unsupported: as in `disconnect`.
        """
        order = prepare_revocation(ids, code, reason, issued_before)
        warn_in_event_loop()
        return give_blocking(self._bus, order.envelope(idempotency_key))

    @overload
    def status(self, receipt: Receipt) -> Status: ...

    @overload
    def status(self, receipt: OrderReceipt) -> OrderStatus: ...

    def status(self, receipt: Receipt | OrderReceipt) -> Status | OrderStatus:
        """Return the present status of a dispatched message, or of an order.

        Any process that has the receipt may ask; receipts can be pickled.

        Args:
            receipt: the receipt that `dispatch`, `disconnect` or `revoke` returned.

        Returns:
            For each id in whose outbox the message was stored, whether it is still pending, settled
            or dropped. For an order, the living servers that have carried it out, and those that have
            not yet.

        Raises:
            BackendError: the backend did not answer.
            InvalidInput: it is not a receipt.
        """
        warn_in_event_loop()
        if isinstance(receipt, OrderReceipt):
            return self._bus.query(CarriedOut(receipt.position))
        ids = list(stored_positions(receipt))
        return judge(receipt, self._bus.query(Heads(ids)) if ids else {})

    def close(self) -> None:
        """Disconnect; a redis-py client that was given stays open. Dispatching afterwards is an error."""
        self._bus.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, envelopes: list[Envelope]) -> list[Receipt]:
        warn_in_event_loop()
        receipts = self._bus.dispatch(envelopes)
        if log.isEnabledFor(logging.DEBUG):
            log_dispatches(log, envelopes, receipts)
        return receipts

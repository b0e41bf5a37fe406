"""Orders to all nodes: to end connections of ids, also where this node was away when they were given.

The node follows the orders by their numbers. When it may have missed some, because its subscription was cut
or a frame is missing, it reads them before it delivers anything else: until then envelopes wait. So what was
dispatched after an order never reaches a connection that the order ends.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from ..backend.base import Orders
from ..backend.outbox import Entry, Page, Standing
from ..close import CloseCode
from ..concurrency.limited_log import LimitedLog
from ..concurrency.tasks import Spawn
from ..errors import BackendError
from ..messages.envelope import Envelope
from ..messages.order import Order, is_revoked
from ..messages.receipt import Position
from .connection import Connection
from .recovery import RETRY, BroadcastReader

log = logging.getLogger("mesa_ws.server")

MAX_WAITING = 10_000
"""Envelopes that wait while orders are read; stored ones beyond are read later, and others are lost."""

MAX_KNOWN = 1000
"""Orders whose ids are remembered, for the events that stand for them."""

Disconnect = Callable[[Connection, int, str], None]


class OrderFollower:
    """Carries out the orders to all nodes at this one. For the event loop only.

    Args:
        backend: keeps the orders.
        by_id: the connections of each id.
        disconnect: ends a connection with a code and a reason.
        to_everybody: calls a function for every connection but those of some ids, before anything later is
            written to it.
        disconnect_all: ends all connections, whose clients may come back.
        deliver: delivers an envelope that has waited.
        spawn: starts tasks.
        log: gets what strangers cause.

    Attributes:
        waiting: envelopes that wait until the orders are read; None if none has to wait.
    """

    def __init__(
        self,
        backend: Orders,
        by_id: Mapping[str, Sequence[Connection]],
        disconnect: Disconnect,
        to_everybody: Callable[[frozenset[str], Callable[[Connection], None]], None],
        disconnect_all: Callable[[], None],
        deliver: Callable[[Envelope], None],
        spawn: Spawn,
        log: LimitedLog,
    ) -> None:
        self._backend = backend
        self._by_id = by_id
        self._disconnect = disconnect
        self._to_everybody = to_everybody
        self._deliver = deliver
        self._spawn = spawn
        self._log = log
        self._reader = BroadcastReader(self._read, spawn, self._carry_out, disconnect_all, log)
        self._settled = asyncio.Event()
        self._settled.set()
        self._is_doubted = False
        self._is_noting = False
        self._known: deque[str] = deque(maxlen=MAX_KNOWN)
        self.waiting: deque[Envelope] | None = None

    async def start(self) -> None:
        """Find out where the orders are; earlier ones do not concern this node.

        Raises:
            BackendError: the backend did not answer.
        """
        await self._reader.start()
        self._note()

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()
        self.waiting = None

    def take(self, envelope: Envelope) -> None:
        """Take an order from the bus."""
        [position] = envelope.positions
        self._known.append(envelope.message_id)
        self._reader.offer(position, Entry(position.sequence, envelope.message_id, envelope.body))

    def knows(self, event: Envelope) -> bool:
        """Whether an event to end connections came as an order, too, which spares logins after it."""
        return event.message_id in self._known

    def wait(self, envelope: Envelope) -> None:
        """Let an envelope wait until the orders are read."""
        if self.waiting is not None and len(self.waiting) < MAX_WAITING:
            self.waiting.append(envelope)
        else:
            self._log.warning("%d messages wait until Redis answers; further ones are dropped", MAX_WAITING)

    def doubt(self) -> None:
        """Read the orders, because some may be missing; until then envelopes wait."""
        self._is_doubted = True
        if self.waiting is None:
            self.waiting = deque()
            self._settled.clear()
            self._spawn(self._settle())

    async def settled(self) -> None:
        """Wait until no order is missing."""
        await self._settled.wait()

    def admit(self, connection: Connection, standing: Standing) -> bool:
        """Hold a login against the orders; return False if it was revoked, and has ended.

        Args:
            connection: that has just logged in.
            standing: what was known before its login was recorded.
        """
        user, subscription = connection.user, connection.subscription
        if user is None or subscription is None:
            return connection.is_open
        subscription.orders_from = standing.position
        until = standing.revoked_until
        if until is not None and is_revoked(until, user.issued_at):
            self._log.info("refused %r: its login was revoked", connection)
            self._disconnect(connection, CloseCode.REFUSED, "")
            return False
        late, subscription.late_orders = subscription.late_orders, None
        for position, order in late or ():
            self._apply(connection, position, order)
        return connection.is_open

    async def _settle(self) -> None:
        try:
            while self._is_doubted:
                self._is_doubted = False
                try:
                    await self._reader.catch_up()
                except BackendError as error:
                    log.debug("orders to all nodes cannot be read yet: %s", error)
                    self._is_doubted = True
                    await asyncio.sleep(RETRY)
        finally:
            waiting, self.waiting = self.waiting, None
            self._settled.set()
        for envelope in waiting or ():
            self._deliver(envelope)

    async def _read(self, position: Position | None) -> Page:
        page = await self._backend.orders(position)
        if position is None:
            return page
        if page.lost:
            page = page._replace(status="reset")
        if page.status == "reset" and position.sequence == page.top == 0:
            return page._replace(status="resumed")  # there was no order before, and there is none now
        return page

    def _carry_out(self, position: Position, entry: Entry) -> None:
        self._known.append(entry.message_id)
        order = Order.read(entry.body)
        if order is None:
            self._log.warning("ignored an order to all nodes that cannot be read")
        elif not order.ids:
            self._to_everybody(frozenset(order.excluding), lambda each: self._apply(each, position, order))
        else:
            for id in order.ids:
                for connection in tuple(self._by_id.get(id, ())):
                    self._apply(connection, position, order)
        self._note()

    def _apply(self, connection: Connection, position: Position, order: Order) -> None:
        user, subscription = connection.user, connection.subscription
        if user is None or subscription is None:
            if not order.ids:
                self._disconnect(connection, order.code, order.reason)
            return
        if connection.is_logging_in:  # it is not known yet whether the login was before the order
            subscription.late_orders = [*(subscription.late_orders or ()), (position, order)]
            return
        known = subscription.orders_from
        if known is not None and known.epoch == position.epoch and position.sequence <= known.sequence:
            return
        if order.concerns(user.issued_at):
            self._disconnect(connection, order.code, order.reason)

    def _note(self) -> None:
        """Tell the backend in this turn of the event loop how far the orders are carried out."""
        if not self._is_noting:
            self._is_noting = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._is_noting = False
        if self._reader.position is not None:
            self._backend.carried_out(self._reader.position)

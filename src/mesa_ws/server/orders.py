"""Orders to all nodes: to end connections of ids, also where this node was away when they were given.

The node follows the orders by their numbers. When it may have missed some, because its subscription was cut
or a frame is missing, it reads them before it delivers anything else: until then envelopes wait. So what was
dispatched after an order never reaches a connection that the order ends.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from ..backend.base import Orders
from ..backend.outbox import Entry, Page, Standing
from ..close import CloseCode
from ..concurrency.limited_log import LimitedLog
from ..concurrency.tasks import Spawn
from ..concurrency.turns import TURN
from ..errors import BackendError, MesaError
from ..messages.envelope import Envelope
from ..messages.order import Order, is_revoked
from ..messages.receipt import Position
from ..messages.recipients import User
from .connection import Connection
from .recovery import RETRY, BroadcastReader

log = logging.getLogger("mesa_ws.server")

MAX_WAITING = 10_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Envelopes, and bytes of them, that wait while orders are read; stored ones beyond are read later, and
others are lost."""

MAX_KNOWN = 1000
"""Orders whose ids are remembered, for the events that stand for them."""

NO_ORDER = Position("", 0)
"""Stands for the newest order where there is none."""

ForEach = Callable[[Sequence[str], frozenset[str], Callable[[Connection], None]], None]


class OrderFollower:
    """Carries out the orders to all nodes at this one. For the event loop only.

    Args:
        backend: keeps the orders.
        for_each: calls a function for every connection of some ids, or, without ids, for all but those of
            others: after what came earlier was written to it, and before anything later is.
        end: ends a connection with a code and a reason.
        deliver: delivers an envelope that has waited.
        spawn: starts tasks.
        log: gets what strangers cause.

    Attributes:
        waiting: envelopes that wait until the orders are read; None if none has to wait.
    """

    def __init__(
        self,
        backend: Orders,
        for_each: ForEach,
        end: Callable[[Connection, int, str], None],
        deliver: Callable[[Envelope], None],
        spawn: Spawn,
        log: LimitedLog,
    ) -> None:
        self._backend = backend
        self._for_each = for_each
        self._end = end
        self._deliver = deliver
        self._spawn = spawn
        self._log = log
        self._reader = BroadcastReader(self._read, spawn, self._carry_out, self._end_all, log)
        self._forked = NO_ORDER  # the epoch before this one, and where it ended
        self._settled = asyncio.Event()
        self._settled.set()
        self._worker: asyncio.Task[None] | None = None
        self._is_doubted = False
        self._is_noting = False
        self._is_closed = False
        self._size = 0
        self._known: deque[str] = deque(maxlen=MAX_KNOWN)
        self.waiting: deque[Envelope] | None = None

    async def start(self) -> None:
        """Find out where the orders are; earlier ones do not concern this node.

        Raises:
            BackendError: the backend did not answer.
        """
        self._is_closed = False
        await self._reader.start()
        self._note()

    def close(self) -> None:
        """Stop reading, and drop what waits."""
        self._is_closed = True
        self._reader.close()
        if self._worker is not None:
            self._worker.cancel()
        self.waiting = None
        self._settled.set()

    @property
    def position(self) -> Position | None:
        """That of the newest order carried out here; None until it is known where the orders are."""
        return self._reader.position

    def take(self, envelope: Envelope) -> None:
        """Take an order from the bus; where others may be missing before it, read them first."""
        [position] = envelope.positions
        here = self._reader.position
        if here is not None and position == (here.epoch, here.sequence + 1):
            self._reader.offer(position, Entry(position.sequence, envelope.message_id, envelope.body))
        elif not self._has(position):
            self.doubt()

    def knows(self, event: Envelope) -> bool:
        """Whether an event to end connections came as an order, too, which spares logins after it."""
        return event.message_id in self._known

    def wait(self, envelope: Envelope) -> None:
        """Let an envelope wait until the orders are read.

        Raises:
            MesaError: too many wait; the backend has stored ones read again.
        """
        self._size += len(envelope.body)
        if self.waiting is None or len(self.waiting) >= MAX_WAITING or self._size > MAX_WAITING_BYTES:
            self._size -= len(envelope.body)
            raise MesaError("too many messages wait until Redis answers; those without sync are lost")
        self.waiting.append(envelope)

    def doubt(self) -> None:
        """Read the orders, because some may be missing; until then envelopes wait."""
        if self._is_closed:
            return
        self._is_doubted = True
        self._settled.clear()
        if self._worker is None:
            self.waiting = deque()
            self._worker = self._spawn(self._settle())

    async def settled(self, position: Position | None = None) -> None:
        """Wait until no order is missing, and those up to a position are carried out.

        What is read from the backend goes to clients after this wait, for orders that were given before it
        was read: `position` is that of the newest one then.
        """
        if position is not None and not self._has(position):
            self.doubt()
        while not self._settled.is_set():
            await self._settled.wait()

    def admit(self, connection: Connection, standing: Standing) -> bool:
        """Hold a login, or another id of a connection, against the orders; return False if it has ended.

        Nothing that waits for the connection is written if it ends: part of it may be later than the order.

        Args:
            connection: that has just become a user's.
            standing: what was known when its id was recorded.
        """
        user, subscription = connection.user, connection.subscription
        if user is None or subscription is None or not connection.is_open:
            return connection.is_open
        if subscription.orders_from is None:
            subscription.orders_from = standing.position or NO_ORDER
        if not self.allows(connection, user, standing):
            return False
        late, subscription.late_orders = subscription.late_orders, ()
        for position, order in late:
            if self._concerns(connection, position, order):
                connection.send_queue.drop()
                self._end(connection, order.code, order.reason)
        return connection.is_open

    def allows(self, connection: Connection, user: User, standing: Standing) -> bool:
        """Whether no revocation ends a user's login; end the connection if one does."""
        until = standing.revoked_until
        if until is None or not is_revoked(until, user.issued_at):
            return True
        self._log.info("refused %r: its login was revoked", connection)
        connection.send_queue.drop()
        self._end(connection, CloseCode.REFUSED, CloseCode.REFUSED.wire_reason)
        return False

    async def _settle(self) -> None:
        held = self.waiting
        try:
            while self._is_doubted or held:
                if self._is_doubted:
                    await self._read_on()
                elif held:
                    self._release(held)
                    await asyncio.sleep(0)
        finally:
            self._worker = self.waiting = None

    async def _read_on(self) -> None:
        """Read the orders once; a failure leaves the doubt."""
        self._is_doubted = False
        try:
            await self._reader.catch_up()
        except Exception as error:  # noqa: BLE001 - it is logged with its traceback
            if isinstance(error, BackendError):
                self._log.warning("orders to all nodes cannot be read yet, and messages wait: %s", error)
            else:
                self._log.exception("a bug in carrying out orders; messages wait", kind=type(error))
            self._is_doubted = True
            await asyncio.sleep(RETRY)
        if not self._is_doubted:
            self._for_each((), frozenset(), self._expire)
            self._settled.set()
            self._note()

    def _release(self, held: deque[Envelope]) -> None:
        """Deliver envelopes that have waited, for a slice of time."""
        clock = asyncio.get_running_loop().time
        until = clock() + TURN
        self.waiting = None
        while held and clock() < until:
            envelope = held.popleft()
            self._size -= len(envelope.body)
            try:
                self._deliver(envelope)
            except Exception as error:  # noqa: BLE001 - it is logged with its traceback
                self._log.exception("message %r was not delivered", envelope.message_id, kind=type(error))
        self.waiting = held

    async def _read(self, position: Position | None) -> Page:
        page = await self._backend.orders(position)
        if position is None:
            return page
        if page.ended is not None:
            self._forked = Position(position.epoch, page.ended)
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
        else:
            self._for_each(
                order.ids, frozenset(order.excluding), lambda each: self._apply(each, position, order)
            )
        self._note()

    def _apply(self, connection: Connection, position: Position, order: Order) -> None:
        subscription = connection.subscription
        if subscription is not None and subscription.orders_from is None:
            subscription.late_orders = (*subscription.late_orders, (position, order))
        elif self._concerns(connection, position, order):
            self._end(connection, order.code, order.reason)

    def _concerns(self, connection: Connection, position: Position, order: Order) -> bool:
        """Whether a connection was open when an order was given, which ends its login."""
        user, subscription = connection.user, connection.subscription
        if user is None or subscription is None:
            return not order.ids
        known = subscription.orders_from
        if known is not None and position.sequence <= known.sequence:
            epoch, ended = self._forked  # up to there, numbers are the same in both epochs
            is_older = known.epoch == epoch and position.sequence <= ended
            if known.epoch == position.epoch or is_older:
                return False
        return order.concerns(user.issued_at)

    def _end_all(self) -> None:
        """End all connections: orders to end some of them may be lost. Their clients may log in again."""
        log.error("orders to all nodes were lost before this node had them: all clients have to log in again")
        code = CloseCode.EXPIRED
        self._for_each((), frozenset(), lambda each: self._end(each, code, code.wire_reason))

    def _expire(self, connection: Connection) -> None:
        """End a connection whose login has expired: the machine may have slept, and its timers with it."""
        user = connection.user
        if user is None or user.expires_at is None:
            return
        if user.expires_at <= time.time():
            self._end(connection, CloseCode.EXPIRED, CloseCode.EXPIRED.wire_reason)
        else:
            connection.log_in(user)  # for as long as is left

    def _has(self, position: Position) -> bool:
        here = self._reader.position
        return here is not None and here.epoch == position.epoch and position.sequence <= here.sequence

    def _note(self) -> None:
        """Tell the backend in this turn of the event loop how far the orders are carried out."""
        if not self._is_noting:
            self._is_noting = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._is_noting = False
        if self._reader.position is not None:
            self._backend.carried_out(self._reader.position)

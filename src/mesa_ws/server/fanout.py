"""Fan-out: from the bus to the connections of this node.

`Fanout` knows the connections of each id. `Fanout.deliver` is what the backend calls with each envelope.
It writes stored messages through the subscriptions of their ids, and others straight to the send queues,
in the order of the bus.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial

from ..backend.base import Backend
from ..backend.outbox import Entry, Page
from ..close import CloseCode
from ..concurrency.tasks import Spawn
from ..errors import BackendError
from ..messages.envelope import Envelope
from ..messages.frames import numbered, numbered_broadcast
from ..messages.message_log import log_announcement, log_delivery
from ..messages.receipt import Position
from ..protocol.events import Close
from ..settings import ServerSettings
from . import cluster_requests
from .acknowledgements import Acknowledgements
from .connection import Connection
from .large_deliveries import DONE, TURN, LargeDeliveries, Shared, Write
from .notifications import Notifications
from .orders import OrderFollower
from .portal_forwarding import Forwarder
from .recovery import BroadcastReader, Recovery
from .send_queue import MAX_JOINED
from .subscription import NUMBERED, Subscription

log = logging.getLogger("mesa_ws.server")

JITTER = 0.25
"""Seconds within which the nodes of a cluster begin to read everything again."""

COMING_BACK = 1000
"""Clients that a stopping node sends away in each second."""

SENDING_AWAY = 8.0
"""Seconds that this takes at most; for very many clients it goes faster."""

MIN_SPREAD = 1.0
"""Seconds over which the reconnecting of those that are sent away at once is spread at least."""

TOGETHER = 0.02
"""Seconds for which clients are sent away together."""


class Fanout:
    """Deliver what the bus brings, and serve the subscriptions of connections. For the event loop only.

    Attributes:
        connections: every connection of this node, with its id; None before authentication.
        by_id: the connections of each id. Writing to one may end it, which takes it out of its list.
        settle: `LargeDeliveries.settle`.
        lost_count: messages that clients of 1.x have lost, as far as this node found out.
        lost_and_told: messages that clients of wire 2 have lost, once for each connection that was told.
        log: see `SubscriptionHost`, like the others.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        settings: ServerSettings,
        notifications: Notifications,
        forwarder: Forwarder | None,
        spawn: Spawn,
        report_lost: Callable[[str, int], None],
    ) -> None:
        self.log = notifications.log
        self._backend = backend
        self._notifications = notifications
        self._forwarder = forwarder
        self._spawn = spawn
        self._report_lost = report_lost
        self._grace = settings.presence.grace
        self._has_anonymous = not settings.authentication.required
        self.connections: dict[Connection, str | None] = {}
        self.by_id: dict[str, list[Connection]] = {}
        self._large = LargeDeliveries(self.connections, self._failed)
        self.settle = self._large.settle
        self.lost_count = self.lost_and_told = 0
        self.redelivered_handlers: Collection[object] = notifications.redelivered_handlers
        self.redelivery_interval = settings.sync.redelivery_interval
        self.is_prompt = settings.wire == "mesa1"  # so that Redis stores nothing longer than 1.x does
        self.broadcasts = BroadcastReader(
            self._read_broadcasts, spawn, self._announce, self._on_reset, self.log
        )
        self.orders = OrderFollower(backend, self._for_each, self._disconnect, self.deliver, spawn, self.log)
        self._recovery = Recovery(backend, spawn, self.orders.settled, self._settle, self._give_up, self.log)
        self._acknowledgements = Acknowledgements(self.by_id, backend.acknowledge, is_prompt=self.is_prompt)
        # With `redelivers` and `lost` below, these are the `SubscriptionHost`.
        self.read, self.read_broadcasts = self._recovery.read, self._recovery.read_broadcasts
        self.watch, self.acked = self._acknowledgements.watch, self._acknowledgements.acked

    async def send_all_away(self) -> None:
        """Send all clients away, at a pace at which others can accept them; until then they are served.

        Each is away for a short time, within the grace of its id. Where there are too many for that pace,
        they are asked to stay away for longer, but for half the grace at most.
        """
        await self._acknowledgements.flush_all()  # of many ids together, and not of each
        going = deque(self.connections)
        count = len(going)
        wanted = count / COMING_BACK
        seconds = min(wanted, SENDING_AWAY)
        spread = max(MIN_SPREAD, min(wanted - seconds, self._grace / 2))
        clock = asyncio.get_running_loop().time
        began = at = clock()
        while going:  # which forgets each, or all would be freed in one turn of the loop
            self._send_away(going.popleft(), spread)
            now = clock()
            early = began + seconds * (1 - len(going) / count) - now
            if early >= TOGETHER or now >= at + TURN:
                await asyncio.sleep(max(early, now - at if now < began + seconds else 0))
                at = clock()

    def close(self) -> None:
        """Pass acknowledgements on to the backend, stop reading from it, and send away who is left."""
        self._acknowledgements.close()
        self._recovery.close()
        self.orders.close()
        self.broadcasts.close()
        for connection in tuple(self.connections):
            self._send_away(connection, MIN_SPREAD)
        self._large.close()

    def _send_away(self, connection: Connection, spread: float) -> None:
        try:
            connection.send_away(round(random.uniform(0, spread), 3))  # noqa: S311 - spreads load
        except Exception as error:  # noqa: BLE001 - it is logged there
            self._failed(connection, error)

    # From the backend.

    def deliver(self, envelope: Envelope) -> None:
        """Write an envelope to the connections that it is for. Never waits."""
        if self.orders.waiting is not None and envelope.kind != "order":
            self.orders.wait(envelope)
        elif envelope.kind != "message":
            self._deliver_other(envelope)
        elif not envelope.positions:
            self._deliver_unstored(envelope)
        elif envelope.recipients.everybody:
            [position] = envelope.positions
            excluding = envelope.recipients.excluding
            entry = Entry(position.sequence, envelope.message_id, envelope.body, excluding)
            self.broadcasts.offer(position, entry)
        else:
            self._deliver_stored(envelope)

    async def catch_up(self) -> None:
        """Read everything again that concerns this node.

        Raises:
            BackendError: the backend did not answer.
        """
        await self.orders.settled()
        await asyncio.sleep(random.uniform(0, JITTER))  # noqa: S311 - spreads load
        await self._for_all(Subscription.invalidate)
        await self.broadcasts.catch_up()
        await self._recovery.settled()

    def _deliver_stored(self, envelope: Envelope) -> None:
        """Offer a stored message to the subscriptions of its ids; on wire 2 it carries its sequence."""
        ids, body, by_id = envelope.recipients.ids, envelope.body, self.by_id
        found: dict[Connection, Position] = {}
        for id, position in zip(ids, envelope.positions, strict=True):
            for connection in by_id.get(id, ()):
                if connection.subscription is not None:
                    found[connection] = position
        sequence, numbered_body = 0, b""  # all connections of an id have the same

        def write(connection: Connection) -> None:
            nonlocal sequence, numbered_body
            position, subscription = found[connection], connection.subscription
            if subscription is None:
                return
            if not subscription.is_wire2:
                subscription.deliver(position, body)
                return
            if position.sequence != sequence:
                sequence = position.sequence
                numbered_body = numbered(body, sequence)
            subscription.deliver(position, numbered_body)

        self._to_some(write, found, envelope)

    def _deliver_unstored(self, envelope: Envelope) -> None:
        body, policy = envelope.body, envelope.delivery
        if not policy:
            self._deliver_to_open(envelope, lambda connection: connection.send_queue.write(body))
            return
        missed: set[Connection] = set()

        def offer(connection: Connection) -> None:
            if not connection.send_queue.offer(policy, body):
                missed.add(connection)

        self._deliver_to_open(envelope, offer, missed)

    def _deliver_other(self, envelope: Envelope) -> None:
        if envelope.kind == "request":
            reply = self._backend.reply
            cluster_requests.send(envelope, self.by_id, self._notifications, reply, self.log)
        elif envelope.kind == "disconnect":
            if not self.orders.knows(envelope):
                self._deliver_to_open(envelope, self._disconnect)
        elif envelope.kind == "order":
            self.orders.take(envelope)
        elif self._forwarder is not None:
            reached = self._forwarder.deliver(envelope)
            self._notifications.wrote(envelope.body, reached, from_this_node=False)

    def _deliver_to_open(self, envelope: Envelope, write: Write, missed: Collection[Connection] = ()) -> None:
        """Write to the recipients that are connected; `missed` are then those that got nothing."""
        recipients = envelope.recipients
        if recipients.everybody:
            wrote = partial(self._wrote, envelope, missed=missed)
            shared = Shared(envelope.body, envelope.body) if envelope.kind == "message" else None
            self._to_everybody(recipients.excluding, write, _nothing, wrote, shared)
            return
        self._to_some(write, self._connections_of(recipients.ids), envelope, missed)

    def _connections_of(self, ids: Sequence[str]) -> tuple[Connection, ...]:
        by_id = self.by_id
        if len(ids) == 1:  # nearly always
            return tuple(by_id.get(ids[0], ()))
        return tuple([connection for id in ids for connection in by_id.get(id, ())])

    def _to_some(
        self,
        write: Write,
        found: Collection[Connection],
        envelope: Envelope,
        missed: Collection[Connection] = (),
    ) -> None:
        """Write an envelope to the connections that were found for its ids."""
        is_burst, size = self._large.is_burst(envelope.recipients.ids), len(envelope.body) + NUMBERED
        may_wait = is_burst and size <= MAX_JOINED
        if may_wait and self._large.hold(write, found, partial(self._wrote, envelope, found, missed), size):
            return
        if self._large.write_to_few(write, found):
            self._wrote(envelope, found, missed)
        else:
            self._large.deliver(write, found, partial(self._wrote, envelope, found, missed))

    def _disconnect(self, connection: Connection, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        connection.large_delivery = DONE  # what comes after the disconnection is not for it
        try:
            connection.disconnect(code, reason)
        except Exception as error:  # noqa: BLE001 - it is logged there
            self._failed(connection, error)

    def _for_each(self, ids: Sequence[str], excluding: frozenset[str], do: Write) -> None:
        """Call a function for the connections of ids, or for all but some, in the order of the bus."""
        if ids:
            self._large.deliver(do, self._connections_of(ids), lambda: None)
        else:
            self._to_everybody(excluding, do, _nothing, lambda _: None)

    async def _read_broadcasts(self, position: Position | None) -> Page:
        """Read messages to everybody, and carry out the orders that were given before them."""
        page = await self._backend.broadcasts(position)
        await self.orders.settled(page.standing.position)
        return page

    def _announce(self, position: Position, entry: Entry) -> None:
        """Write the next of the stored messages to everybody.

        Connections on wire 2 and those before authentication get it with its number: a client that
        resumes knows by the number that it will get this message again, in its order, after its login.
        """
        body, numbered_body = entry.body, numbered_broadcast(entry.body, entry.sequence)

        def write(connection: Connection) -> None:
            subscription = connection.subscription
            if subscription is None:
                connection.send_queue.write(numbered_body)
            elif subscription.is_wire2:
                subscription.announce(position, numbered_body)
            else:
                connection.send_queue.write(body)

        def skip(connection: Connection) -> None:
            if connection.subscription is not None:
                connection.subscription.announce(position, None)

        def wrote(reached: Sequence[Connection]) -> None:
            if log.isEnabledFor(logging.DEBUG):
                log_announcement(log, entry.message_id, body, len(reached))
            if self._notifications.sent_handlers:
                self._notifications.delivered(body, entry.message_id, reached)

        shared = Shared(body, numbered_body, position)
        self._to_everybody(entry.excluding, write, skip, wrote, shared)

    def _to_everybody(
        self,
        excluding: frozenset[str],
        write: Write,
        skip: Write,
        wrote: Callable[[Sequence[Connection]], None],
        shared: Shared | None = None,
    ) -> None:
        """Write to every connection but those of excluded ids; without an id, where that may receive."""
        reached: list[Connection] = []
        is_noted = bool(self._notifications.sent_handlers) or log.isEnabledFor(logging.DEBUG)
        ids, excluded = self.connections, excluding if self._has_anonymous else excluding | {None}

        def write_or_skip(connection: Connection) -> None:
            if ids.get(connection) in excluded:
                skip(connection)
            else:
                if is_noted:
                    reached.append(connection)
                write(connection)

        if is_noted or shared is None or len(shared.numbered) > MAX_JOINED:
            shared = None  # it goes to each connection by itself
        else:
            shared = shared._replace(excluding=excluded)
        is_for_all = not excluded and not is_noted
        self._large.deliver(write if is_for_all else write_or_skip, None, lambda: wrote(reached), shared)

    def _wrote(
        self, envelope: Envelope, found: Collection[Connection], missed: Collection[Connection] = ()
    ) -> None:
        reached = [connection for connection in found if connection not in missed] if missed else tuple(found)
        if log.isEnabledFor(logging.DEBUG):
            log_delivery(log, envelope, len(reached))
        if self._notifications.sent_handlers and envelope.kind == "message":
            self._notifications.delivered(envelope.body, envelope.message_id, reached)

    def _failed(self, connection: Connection, error: Exception) -> None:
        """End a connection that could not be written to: the others go on, and its client resumes."""
        text = "a message could not be written to %r; its client may reconnect"
        self.log.error(text, connection, exc_info=error, kind=type(error))
        connection.large_delivery = DONE
        try:
            connection.obey(Close(CloseCode.TRY_AGAIN_LATER, f"a message could not be written: {error}"))
        except Exception as failure:
            self.log.exception("%r could not be closed", connection, kind=type(failure))

    def _on_reset(self) -> None:
        """Notify clients now; otherwise they would learn it from the next message, in its place."""
        self._spawn(self._for_all(Subscription.invalidate_broadcasts))

    async def _for_all(self, do: Callable[[Subscription], None]) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + TURN
        for connection in tuple(self.connections):
            self.settle(connection)
            subscription = connection.subscription
            try:
                if subscription is not None:
                    do(subscription)
            except Exception as error:  # noqa: BLE001 - it is logged there
                self._failed(connection, error)
            if clock() >= until:
                await asyncio.sleep(0)
                until = clock() + TURN

    # From connections.

    def add(self, connection: Connection) -> None:
        """Add an unauthenticated connection."""
        self.connections[connection] = None
        self._large.join(connection)
        self._backend.connected(len(self.connections))

    def subscribe(self, connection: Connection, id: str) -> Subscription:
        """Give a connection that is settled a new subscription to `id`, and end the one to its id before."""
        previous = self.connections[connection]
        if previous is not None:
            self._acknowledgements.flush([previous])
        subscription = Subscription(
            self, connection.send_queue, id, is_wire2=connection.protocol.is_wire2, probe=connection.probe
        )
        if previous != id:
            self.connections[connection] = id
            self.by_id.setdefault(id, []).append(connection)
        before = connection.subscription
        if before is not None:
            if before.id == id:  # it is the same connection of the id to orders
                subscription.orders_from, subscription.late_orders = before.orders_from, before.late_orders
            before.close()
        connection.subscription = subscription
        if previous is not None and previous != id:
            self._left(connection, previous)
        return subscription

    def remove(self, connection: Connection) -> None:
        """Remove a connection that has ended, after passing on what its client acknowledged."""
        connection.large_delivery = DONE
        id = self.connections.pop(connection, None)
        if id is not None:  # while `by_id` has the connection, and before the backend forgets the id
            self._acknowledgements.flush([id])
        self._backend.connected(len(self.connections))
        if id is not None:
            self._left(connection, id)

    def _left(self, connection: Connection, id: str) -> None:
        self.by_id[id].remove(connection)
        if not self.by_id[id]:
            del self.by_id[id]
            self._backend.detach(id)
        else:
            self._acknowledgements.left(id)  # the other connections decide now how far its outbox is needed
            self._spawn(self._redeclare(id))

    async def _redeclare(self, id: str) -> None:
        """Declare how many connections `id` has, counted when this runs; so the order does not matter."""
        sockets = len(self.by_id.get(id, ()))
        try:
            if sockets:
                await self._backend.attach(id, sockets)
        except BackendError as error:
            self.log.warning("the backend does not know that a connection of %r has left: %s", id, error)

    # From subscriptions.

    def redelivers(self, subscription: Subscription, entries: Sequence[Entry]) -> None:
        """Notify middleware that a client gets messages stored before its login."""
        for connection in tuple(self.by_id.get(subscription.id, ())):
            if connection.subscription is subscription:
                self._notifications.redelivered(entries, connection)

    def lost(self, subscription: Subscription, page: Page) -> None:
        """Count messages lost by a client; report them, once, if it cannot be notified."""
        if subscription.is_wire2:
            self.lost_and_told += page.lost
            return
        self.lost_count += page.lost
        log.warning(
            "%d messages to %r are lost: dropped before they were received", page.lost, subscription.id
        )
        self._acknowledgements.acknowledge_lost(subscription.id, Position(page.epoch, page.start))
        self._report_lost(subscription.id, page.lost)

    def _settle(self, subscription: Subscription) -> None:
        for connection in tuple(self.by_id.get(subscription.id, ())):
            if connection.subscription is subscription:
                self.settle(connection)

    def _give_up(self, subscription: Subscription, error: Exception) -> None:
        for connection in tuple(self.by_id.get(subscription.id, ())):
            if connection.subscription is subscription:
                why = f"the stored messages of {subscription.id!r} cannot be read: {error}"
                connection.obey(Close(CloseCode.TRY_AGAIN_LATER, why))


def _nothing(connection: Connection) -> None:
    """Write nothing to a connection that a message excludes."""

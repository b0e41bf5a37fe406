"""What a server and its backend know of themselves, as families of metrics without any library.

`of_server` reads counts that are there anyway, at any time and from any thread. `of_cluster` asks the
backend as well, and looks at each connection, so it is a coroutine of the server's event loop.
Names and units are those of Prometheus; a label has one of few values, never one that clients choose.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple, get_args

from ..backend.inbox import Backlog
from ..backend.redis_client.batch import SECONDS, CallMeter
from ..backend.statistics import OverRedis, WithBacklog
from ..errors import BackendError, BackendRefused
from ..protocol.cursor import Progress
from ..server import connection_limits as limits
from ..server.node import Node
from ..settings import Excess

log = logging.getLogger("mesa_ws.server")

PATIENCE = 2.0
"""Seconds that metrics wait for the backend."""

AT_ONCE = 2000
"""Connections that are looked at in one turn of the event loop: about a millisecond of work."""

PREFIX = "mesa_"

Samples = Mapping[tuple[str, ...], float]
"""Values of a family by the values of its labels."""


class Family(NamedTuple):
    """One metric.

    Attributes:
        name: without `PREFIX`, and without the `_total` of a counter.
        help: one sentence.
        labels: names of its labels.
        samples: the values.
        kind: its type.
    """

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Samples
    kind: Literal["gauge", "counter", "histogram"]

    @property
    def full_name(self) -> str:
        """Its name as Prometheus has it."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


def gauge(name: str, help: str, value: float) -> Family:
    """Make a gauge without labels."""
    return Family(name, help, (), {(): value}, "gauge")


def counter(name: str, help: str, value: float) -> Family:
    """Make a counter without labels."""
    return Family(name, help, (), {(): value}, "counter")


def counts(
    name: str,
    help: str,
    label: str,
    values: Iterable[str],
    read: Callable[[str], float] | Mapping[str, float],
) -> Family:
    """Make a counter with one label; all its values are there from the start."""
    found = read.get if isinstance(read, Mapping) else read
    return Family(name, help, (label,), {(value,): found(value) or 0 for value in values}, "counter")


def of_server(server: Node) -> Iterator[Family]:
    """Return what a server knows at any time."""
    yield gauge("ready", "Whether the server runs and hears its cluster.", server.is_ready)
    yield gauge("connections", "Open connections.", len(server.fanout.connections))
    yield gauge("ids", "Ids with a connection to this server.", len(server.fanout.by_id))
    yield from _of_limits(server)
    yield from _of_delivery(server)
    forwarder = server.handlers.forwarder
    delayed = forwarder.delayed if forwarder is not None else 0
    yield counter(
        "portal_events_delayed",
        "Events of clients that waited for a place in the backlog of portals.",
        delayed,
    )
    if isinstance(server.backend, OverRedis):
        yield from _of_redis(server.backend)


def _of_limits(server: Node) -> Iterator[Family]:
    known, slow, lag = server.connection_limits, server.slow_readers, server.loop_lag
    yield gauge("handshakes", "Handshakes of clients under way.", known.handshakes)
    yield counter("handshakes_begun", "Handshakes of clients so far.", known.begun)
    yield gauge("logins", "Logins under way.", server.logins.under_way)
    yield gauge("logins_waiting", "Logins that wait for their turn.", len(server.logins.waiting))
    yield gauge("loop_lag_seconds", "Longest delay of the event loop lately.", lag.longest)
    yield gauge("overloaded", "Whether the event loop lags too much to accept connections.", lag.is_high)
    yield gauge("waiting_bytes", "Bytes that wait for slow clients.", slow.waiting)
    for name, help, label, values, found in (
        ("logins_failed", "Logins that failed.", "reason", ("refused", "error"), server.logins.failed),
        ("connections_refused", "Connections that a limit refused.", "limit", REFUSING, known.refused),
        ("clients_dropped", "Clients that had gone before their turn.", "before", DROPPED, known.dropped),
        ("slow_readers_closed", "Clients closed as too much waited.", "limit", CLOSING, slow.closed),
        ("messages_skipped", "Messages that slow clients did not get.", "delivery", POLICIES, slow.skipped),
        ("messages_over_rate", "Messages beyond a rate.", "excess", get_args(Excess), server.rates.exceeded),
    ):
        yield counts(name, help, label, values, found)


REFUSING = (
    limits.IN_ALL,
    limits.HANDSHAKES,
    limits.PER_ADDRESS,
    limits.PER_ID,
    limits.FAILED_LOGINS,
    limits.WAIT,
)
"""Limits that refuse connections."""

DROPPED = ("handshake", "login")
CLOSING = ("max_buffered", "max_node_buffer")
POLICIES = ("volatile", "latest")


def _of_delivery(server: Node) -> Iterator[Family]:
    fanout = server.fanout
    told, orders = "Stored messages that clients lost, and were told of.", fanout.orders
    yield counter("messages_lost_and_told", told, fanout.lost_and_told)
    yield counter("broadcasts_lost", "Messages to everybody that this server missed.", fanout.broadcasts.lost)
    position = orders.position
    yield gauge("orders_position", "Newest order carried out here.", position.sequence if position else 0)
    waiting = len(orders.waiting or ())
    yield gauge("orders_waiting_messages", "Messages that wait until orders are read.", waiting)


def _of_redis(backend: OverRedis) -> Iterator[Family]:
    known = backend.statistics()
    failed = {"refused": known.calls.refused, "unavailable": known.calls.unavailable}
    yield gauge("redis_connected", "Whether the server hears Redis and has its lease.", known.is_connected)
    yield counter("redis_reconnects", "Connections to Redis that had to be replaced.", known.reconnects)
    yield counter("redis_messages_missed", "Messages from Redis that did not arrive.", known.frames_lost)
    yield counts("redis_failures", "Calls to Redis that failed.", "error", failed, failed)
    yield _durations("redis_call_seconds", "Time until Redis had answered a call.", known.calls)


def _durations(name: str, help: str, calls: CallMeter) -> Family:
    bounds = [*map(str, SECONDS), "+Inf"]
    samples: dict[tuple[str, ...], float] = {
        (bound,): count for bound, count in zip(bounds, accumulate(calls.counts), strict=True)
    }
    return Family(name, help, ("le",), {**samples, (): calls.seconds}, "histogram")


class ClusterMetrics:
    """Reads what takes a while to find out. For the event loop of the server.

    Args:
        server: the server.
    """

    def __init__(self, server: Node) -> None:
        self._server = server
        self._may_ask_memory = True

    async def read(self) -> list[Family]:
        """Return what is known within `PATIENCE`; where the backend does not answer, nothing of it."""
        found = [*await self._outboxes()]
        backend, portals = self._server.backend, self._server.settings.portals
        try:
            async with asyncio.timeout(PATIENCE):
                if isinstance(backend, WithBacklog) and portals.enabled and self._server.is_running:
                    found += _of_backlog(await backend.backlog(), portals.backlog_max)
                if isinstance(backend, OverRedis) and self._may_ask_memory:
                    found += await self._memory(backend)
        except (BackendError, TimeoutError) as error:
            log.debug("metrics of the cluster cannot be read: %s", error)
        return found

    async def _memory(self, backend: OverRedis) -> Sequence[Family]:
        try:
            used, limit = await backend.memory()
        except BackendRefused:  # its user may not ask, and asking again would count as a failure each time
            self._may_ask_memory = False
            return ()
        text = "Memory that Redis may use; 0 for no limit."
        return (
            gauge("redis_memory_bytes", "Memory that Redis uses.", used),
            gauge("redis_memory_limit_bytes", text, limit),
        )

    async def _outboxes(self) -> Sequence[Family]:
        messages = size = behind = 0
        for number, connection in enumerate(self._server.connections):
            subscription = connection.subscription
            if subscription is not None and subscription.is_started:
                outbox = subscription.outbox
                messages += outbox.sent - outbox.acked
                size += subscription.send_queue.unwritten
                behind += outbox.progress is not Progress.LIVE
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
        unproven = "Stored messages that connected clients were sent and have not acknowledged."
        unwritten = "Bytes of stored messages that were read and are not written yet."
        reading = "Connections that have more stored messages to read."
        return (
            gauge("outbox_unacknowledged_messages", unproven, messages),
            gauge("outbox_unwritten_bytes", unwritten, size),
            gauge("outbox_reading_connections", reading, behind),
        )


def _of_backlog(backlog: Backlog, most: int) -> Iterator[Family]:
    age = max(0.0, time.time() - backlog.oldest) if backlog.oldest is not None else 0.0
    unowned = sum(queue.owner is None for queue in backlog.queues)
    rejected = "Events that portals rejected; 0 again a month after the last one."
    yield gauge("portals", "Portals that live.", len(backlog.portals))
    yield gauge("portal_queues_unowned", "Queues of events that no portal handles.", unowned)
    yield gauge("portal_backlog_events", "Events of clients that wait for portals.", backlog.waiting)
    yield gauge("portal_backlog_limit_events", "Events that may wait for portals.", most)
    yield gauge("portal_backlog_oldest_seconds", "How long the oldest of them has waited.", age)
    yield gauge("portal_dead_letters", "Events that portals have given up.", backlog.dead)
    yield gauge("portal_rejected_events", rejected, backlog.rejected)

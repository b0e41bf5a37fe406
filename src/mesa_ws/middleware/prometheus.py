"""Metrics for Prometheus; needs `pip install 'mesa-ws[prometheus]'`."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from weakref import WeakKeyDictionary

from ..close import CloseCode
from ..errors import InvalidSettings, Reject
from ..messages.message import Message
from ..server.connection import Connection
from ..server.middleware import Middleware
from ..server.node import Node

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.core import CounterMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "mesa_ws.middleware.prometheus: expected prometheus-client, got no such library; "
        "pip install 'mesa-ws[prometheus]'"
    ) from error

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets of handler times, in seconds."""

_CODES = frozenset(int(code) for code in CloseCode)


class _Counts(Collector):
    """Exports counts that the server keeps itself, by the value of a label."""

    def __init__(self, name: str, help: str, label: str, counts: Mapping[str, int]) -> None:
        self._name, self._help, self._label = f"mesa_{name}", help, label
        self._counts = counts

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._help, labels=[self._label])
        for value, count in self._counts.items():
            family.add_metric([value], count)
        yield family


class _Count(Collector):
    """Exports a count that the server keeps."""

    def __init__(self, name: str, help: str, read: Callable[[], int]) -> None:
        self._name = f"mesa_{name}"
        self._help = help
        self._read = read

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._help, value=self._read())


def _export_state(server: Node, registry: CollectorRegistry) -> None:
    """Export what the server itself knows at any time."""

    def gauge(name: str, help: str, read: Callable[[], float]) -> None:
        Gauge(f"mesa_{name}", help, registry=registry).set_function(read)

    limits, slow = server.connection_limits, server.slow_readers
    gauge("ids", "Ids with a connection to this server.", lambda: len(server.fanout.by_id))
    gauge("handshakes", "Handshakes of clients under way.", lambda: limits.handshakes)
    gauge("waiting_bytes", "Bytes that wait for slow clients.", lambda: slow.waiting)
    gauge("logins", "Logins under way.", lambda: server.logins.under_way)
    gauge("logins_waiting", "Logins that wait for their turn.", lambda: len(server.logins.waiting))
    gauge("loop_lag_seconds", "Longest delay of the event loop lately.", lambda: server.loop_lag.longest)
    for name, help, label, counts in (
        ("connections_refused", "Connections that a limit refused.", "limit", limits.refused),
        ("slow_readers_closed", "Clients closed as too much waited for them.", "limit", slow.closed),
        ("messages_skipped", "Messages dropped or replaced for slow clients.", "delivery", slow.skipped),
        ("messages_over_rate", "Messages beyond a rate.", "excess", server.rates.exceeded),
        ("clients_dropped", "Clients that had gone when it was their turn.", "before", limits.dropped),
    ):
        registry.register(_Counts(name, help, label, counts))
    forwarder = server.handlers.forwarder
    for name, help, read in (
        ("handshakes_begun", "Handshakes of clients so far.", lambda: limits.begun),
        (
            "portal_events_delayed",
            "Events of clients that waited for a place in the backlog of portals.",
            lambda: forwarder.delayed if forwarder is not None else 0,
        ),
    ):
        registry.register(_Count(name, help, read))


class PrometheusMetrics(Middleware):
    """Counts what a server does: `server.use(PrometheusMetrics)`.

    No label has a value that clients choose, so clients cannot make unlimited series. prometheus_client
    exports the numbers, for example with `start_http_server(9000)`.

    Args:
        server: the server to count for.
        registry: the registry of the metrics; one server to a registry.
        clock: returns the time in seconds.

    Raises:
        InvalidSettings: the registry has such metrics already.
    """

    def __init__(
        self,
        server: Node,
        registry: CollectorRegistry = REGISTRY,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._began: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()

        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(f"mesa_{name}", help, labels, registry=registry)

        try:
            connections = Gauge("mesa_connections", "Open connections.", registry=registry)
        except ValueError as error:
            raise InvalidSettings(
                "prometheus.registry",
                "one for each server, such as PrometheusMetrics(server, CollectorRegistry())",
                "one that has these metrics already",
            ) from error
        connections.set_function(lambda: len(server.fanout.connections))
        _export_state(server, registry)
        self._connected = counter("connected", "Connections that were opened.")
        self._authenticated = counter("authenticated", "Logins.")
        self._closed = counter("closed", "Connections that ended.", "code")
        self._received = counter("messages_received", "Messages from clients.")
        self._sent = counter("messages_sent", "Messages to clients, once for each connection.")
        self._stored = counter("messages_undeliverable", "Messages stored for ids that were away.")
        self._redelivered = counter("messages_redelivered", "Stored messages that clients got at login.")
        self._lost = counter("messages_lost", "Stored messages that 1.x clients lost to limits.")
        self._forks = counter("forks", "Times that Redis may have forgotten what it had confirmed.")
        self._errors = counter("handler_errors", "Handlers and hooks that raised.")
        self._rejected = counter("messages_rejected", "Messages that a handler or a middleware rejected.")
        self._seconds = Histogram(
            "mesa_handler_seconds",
            "Time that the handlers of a message took.",
            registry=registry,
            buckets=BUCKETS,
        )

    async def on_connection(self, connection: Connection) -> None:
        """Count into `mesa_connected_total`."""
        self._connected.inc()

    async def on_authenticated(self, connection: Connection) -> None:
        """Count into `mesa_authenticated_total`."""
        self._authenticated.inc()

    async def on_disconnection(self, connection: Connection, code: int, reason: str) -> None:
        """Count into `mesa_closed_total`, by code; those that Mesa does not use are `other`."""
        self._closed.labels(str(int(code)) if code in _CODES else "other").inc()

    async def before_message(self, message: Message, connection: Connection) -> Message:
        """Count into `mesa_messages_received_total`, and begin to measure."""
        self._received.inc()
        self._began[connection] = self._clock()
        return message

    async def on_message_received(self, message: Message, connection: Connection) -> None:
        """Observe the handlers' time in `mesa_handler_seconds`, later `before_message` hooks included."""
        began = self._began.pop(connection, None)
        if began is not None:
            self._seconds.observe(self._clock() - began)

    def on_message_sent(
        self, message: Message, connections: Sequence[Connection], from_this_node: bool
    ) -> None:
        """Count into `mesa_messages_sent_total`."""
        self._sent.inc(len(connections))

    async def on_undeliverable_message_sent(self, message: Message, ids: Sequence[str]) -> None:
        """Count into `mesa_messages_undeliverable_total`."""
        self._stored.inc(len(ids))

    async def on_redeliver_undeliverable_messages(
        self, messages: Sequence[Message], connection: Connection
    ) -> None:
        """Count into `mesa_messages_redelivered_total`."""
        self._redelivered.inc(len(messages))

    async def on_lost(self, id: str, count: int) -> None:
        """Count into `mesa_messages_lost_total`."""
        self._lost.inc(count)

    async def on_forked(self, since: float) -> None:
        """Count into `mesa_forks_total`, on the one server that learns of the fork."""
        self._forks.inc()

    async def on_rejected(self, rejection: Reject, message: Message, connection: Connection) -> None:
        """Count into `mesa_messages_rejected_total`; the code is the application's, and no label."""
        self._rejected.inc()

    async def on_error(self, error: Exception, connection: Connection | None) -> None:
        """Count into `mesa_handler_errors_total`."""
        self._errors.inc()

"""Metrics for Prometheus; needs `pip install 'mesa-ws[prometheus]'`."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from weakref import WeakKeyDictionary

from ..close import CloseCode
from ..errors import InvalidSettings, Reject
from ..messages.message import Message
from ..server.connection import Connection
from ..server.middleware import Middleware
from ..server.node import Node
from .families import PREFIX, Family, of_server

try:
    from prometheus_client import (
        CONTENT_TYPE_LATEST,
        REGISTRY,
        CollectorRegistry,
        Counter,
        Histogram,
        ProcessCollector,
        generate_latest,
    )
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "metrics: expected the library prometheus-client, got none; pip install 'mesa-ws[prometheus]'"
    ) from error

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets of handler times, in seconds."""

_CODES = frozenset(int(code) for code in CloseCode)


class _State(Collector):
    """Exports what the server itself knows at any time."""

    def __init__(self, server: Node) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        return map(_metric, of_server(self._server))


class _Given(Collector):
    """Exports families that were found out before."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return map(_metric, self._families)


def _metric(family: Family) -> Metric:
    """Convert a family for prometheus_client."""
    name, help, labels, samples, kind = family
    if kind == "histogram":
        buckets = [(bound[0], count) for bound, count in samples.items() if bound]
        return HistogramMetricFamily(f"{PREFIX}{name}", help, buckets, samples[()])
    make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    metric = make(f"{PREFIX}{name}", help, labels=labels)
    for values, number in samples.items():
        metric.add_metric(values, number)
    return metric


class PrometheusMetrics(Middleware):
    """Counts what a server does: `server.use(PrometheusMetrics)`.

    No label has a value that clients choose, so clients cannot make unlimited series. `DispatchApi` and
    `MetricsServer` export the numbers, as does prometheus_client, for example with `start_http_server(9000)`.

    Args:
        server: the server to count for.
        registry: the registry of the metrics; one server to a registry.
        clock: returns the time in seconds.

    Attributes:
        registry: as above.

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
            self._connected = counter("connected", "Connections that were opened.")
        except ValueError as error:
            raise InvalidSettings(
                "prometheus.registry",
                "one for each server, such as PrometheusMetrics(server, CollectorRegistry())",
                "one that has these metrics already",
            ) from error
        registry.register(_State(server))
        self.registry = registry
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


def counting(server: Node) -> PrometheusMetrics:
    """Return the metrics that a server uses; without any, let it use some, in a registry of their own."""
    for hook in server.handlers.connection:
        found = getattr(hook, "__self__", None)
        if isinstance(found, PrometheusMetrics):
            return found
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    metrics = PrometheusMetrics(server, registry)
    server.use(metrics)
    return metrics


def exposition(metrics: PrometheusMetrics, families: Iterable[Family]) -> tuple[bytes, str]:
    """Return the metrics of a registry and further families as Prometheus reads them, and the media type."""
    others = CollectorRegistry()
    others.register(_Given(families))
    return generate_latest(metrics.registry) + generate_latest(others), CONTENT_TYPE_LATEST

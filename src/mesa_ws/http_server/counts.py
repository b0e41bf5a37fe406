"""What the HTTP API of a server counts of itself, for metrics."""

from collections import Counter
from collections.abc import Callable, Iterator

from ..middleware.families import Family, Samples, counts, gauge

REFUSING = ("max_connections", "max_bodies", "max_body", "head_timeout", "body_timeout")
"""Limits of the API that refuse something."""


class ApiCounts:
    """Counts of one API. For the event loop only.

    Attributes:
        requests: requests that were answered, by path and status; a path that the API lacks is `other`.
        refused: what a limit refused, by its name in `ApiLimits`, or `max_body`.
        bodies: bytes of all requests in memory.
        connections: returns the number of open connections.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.refused: Counter[str] = Counter()
        self.bodies = 0
        self.connections: Callable[[], int] = int

    def families(self) -> Iterator[Family]:
        """Return the counts as families of metrics."""
        answered: Samples = {(path, str(status)): number for (path, status), number in self.requests.items()}
        yield gauge("api_connections", "Open connections to the HTTP API.", self.connections())
        yield gauge("api_body_bytes", "Bytes of requests in memory.", self.bodies)
        yield Family("api_requests", "Requests that were answered.", ("path", "status"), answered, "counter")
        yield counts("api_refused", "What a limit of the API refused.", "limit", REFUSING, self.refused)

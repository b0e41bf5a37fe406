"""The Redis channel through which the bare dispatcher reaches the bare server."""

import os
from urllib.parse import urlsplit

CHANNEL = os.environ.get("BENCH_CHANNEL", "bench")
"""Each message on it is preceded by the id of its recipient and a space."""


def address(url: str) -> tuple[str, int]:
    """Return host and port of a Redis URL."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"expected redis://host:port, got {url!r}")
    return parts.hostname, parts.port

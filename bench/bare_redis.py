"""How the bare server and the bare dispatcher meet: on one channel of one Redis."""

from urllib.parse import urlsplit

CHANNEL = "bench"
"""A message stands on it behind the id of its recipient and a space."""


def address(url: str) -> tuple[str, int]:
    """Where the Redis of a run is."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"expected redis://host:port, got {url!r}")
    return parts.hostname, parts.port

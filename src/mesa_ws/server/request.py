"""The request that began a connection, and requests for something else on the same port."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import parse_qsl

Answers = Callable[[bytes], bool]
"""Whether requests for a path, given without its query, are for a service."""

TakeBack = Callable[[asyncio.Transport, bytes], None]
"""Takes a connection with the head of a request that came after requests for something else."""


class OtherRequests(Protocol):
    """A service that answers some requests that come to the port of the WebSockets."""

    def answers(self, path: bytes) -> bool:
        """Whether requests for this path, given without its query, are for the service."""

    def protocol(self, transport: asyncio.Transport, take_back: TakeBack) -> asyncio.Protocol | None:
        """Return the protocol of a connection from now on; None if it was refused, and is closed."""


class Request:
    """The handshake, as applications see it.

    Attributes:
        headers: header fields; names are compared without case. Values come from the client; each
            byte is one character (Latin-1), so `value.encode("latin-1").decode()` reads a value that was
            sent as UTF-8.
        target: path and query as the client sent them, likewise.
        remote_address: host and port of the client: those of the peer or, where that is a proxy of
            `Server(trusted_proxies=...)`, those that it names, with port 0 if it names none. None where there
            is no address (a Unix socket).
    """

    __slots__ = ("headers", "remote_address", "target")

    def __init__(
        self, target: str, headers: Mapping[str, str], remote_address: tuple[str, int] | None
    ) -> None:
        self.target = target
        self.headers = headers
        self.remote_address = remote_address

    @property
    def path(self) -> str:
        """The path, without the query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The query's fields; of a repeated one, the last. Percent-encoded bytes are read as UTF-8."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    def __repr__(self) -> str:
        return f"Request({self.path!r}, remote_address={self.remote_address!r})"

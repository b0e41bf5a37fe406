"""The request that began a connection."""

from collections.abc import Mapping
from urllib.parse import parse_qsl


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

"""Those who ask on the port of the WebSockets without a key.

Every client reaches that port, so the places of the API there are for those who have a key: a connection is
kept for further requests after one with a key. Others end with their answer; until then they count for the
limit of connections from one address that have not logged in, as those of clients do.
"""

from collections.abc import Sequence

from ..server.node import Node
from ..transports.asgi import fields_of
from ..transports.proxies import RemoteAddress, TrustedProxies
from .keys import ApiKeys

Headers = Sequence[tuple[bytes, bytes]]
"""Header fields of a request, their names in lower case."""


class Strangers:
    """Tells requests without a key, and counts their connections.

    Args:
        node: has the limits of addresses.
        keys: the keys of dispatchers.
    """

    def __init__(self, node: Node, keys: ApiKeys) -> None:
        self._keys = keys
        self._limits = node.connection_limits
        proxies = node.settings.trusted_proxies
        self._proxies = TrustedProxies(proxies, node.settings.proxy_header) if proxies else None

    def have_sent(self, headers: Headers) -> bool:
        """Whether a request has no valid key."""
        given = [value.decode("latin-1") for name, value in headers if name == b"authorization"]
        return not given or self._keys.find(given[0]) is None

    def admit(self, connection: object, peer: RemoteAddress | None, headers: Headers) -> bool:
        """Count the connection of such a request; return False if its address has too many."""
        client = peer
        if peer is not None and self._proxies is not None:
            client = self._proxies.client_of(peer, fields_of(headers)) or peer
        return self._limits.admit(connection, client and client[0])

    def left(self, connection: object) -> None:
        """Count a connection no longer, if it was counted."""
        self._limits.left(connection)

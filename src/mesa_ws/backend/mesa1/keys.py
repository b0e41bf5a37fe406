"""Names of keys and channels in Redis: those of 1.x, and our own."""

from ..redis_wire.keys import Name, WireKeys


class _NameOf1x(Name):
    def make(self, namespace: str, partition: str) -> str:
        return f"{self._suffix}_{namespace}" if namespace else self._suffix


class Mesa1Keys(WireKeys):
    """Names of the keys and channels of one namespace on the wire of 1.x; see `WireKeys`."""

    partition = ".m1"

    messages = _NameOf1x("ws")
    """Channel: every message, for all servers."""

    connected = _NameOf1x("connected_clients")
    """SET: ids that have connections."""

    connections = _NameOf1x("connected_clients_count")
    """Number: connections of all servers, authenticated or not."""

    undelivered = _NameOf1x("undelivered_messages")
    """HASH: id -> JSON list of messages."""

    portal = _NameOf1x("portal")
    """Channel: events of clients, for all portals; each event names its portal."""

    pool = _NameOf1x("available_portals_pool")
    """SET: portals that take events. Also a channel: portals that come and go."""

    native_leases = Name("R", ".0")
    """ZSET: the `leases` of nodes on the native wire, which never reach those of this wire."""

    counts = Name("n")
    """HASH: node -> its share of `connections`. `EXPIRY`."""

    portal_leases = Name("p")
    """ZSET: portal of ours -> end of its lease, in milliseconds of Redis's own clock. `EXPIRY`."""

    gone_portals = Name("d")
    """HASH: portal that was removed as dead -> `ours` or `theirs`. `EXPIRY`."""

    era = Name("e")
    """STRING: random; another one, or none, means that Redis has lost its data. `EXPIRY`."""

    asides = Name("z:")
    """Prefix of `set_aside` keys."""

    def database(self, number: int) -> str:
        """Channel without messages: servers and portals on a database listen, so that others see them."""
        return f"{self.prefix}d:{number}"

    def set_aside(self, id: str) -> str:
        """LIST: values of `undelivered` that could not be read. 7 days."""
        return f"{self.asides}{id}"

    def cleared(self, key: str) -> str:
        """New name of a key of 1.x that has another type than 1.x keeps there. 7 days."""
        return f"{self.prefix}w:{key}"

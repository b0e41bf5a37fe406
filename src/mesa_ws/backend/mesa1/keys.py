"""Names of keys and channels in Redis: those of 1.x, and our own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mesa1Keys:
    """Names the keys and channels of one namespace.

    Args:
        namespace: 1 to 64 of `A-Z a-z 0-9 _ . -`, or None.
    """

    namespace: str | None = None

    # Names of 1.x.

    @property
    def messages(self) -> str:
        """Channel: every message, for all servers."""
        return self._named("ws")

    @property
    def connected(self) -> str:
        """SET: ids that have connections."""
        return self._named("connected_clients")

    @property
    def connections(self) -> str:
        """Number: connections of all servers, authenticated or not."""
        return self._named("connected_clients_count")

    @property
    def undelivered(self) -> str:
        """HASH: id -> JSON list of messages."""
        return self._named("undelivered_messages")

    @property
    def portal(self) -> str:
        """Channel: events of clients, for all portals; each event names its portal."""
        return self._named("portal")

    @property
    def pool(self) -> str:
        """SET: portals that take events. Also a channel: portals that come and go."""
        return self._named("available_portals_pool")

    # Our own names.

    @property
    def prefix(self) -> str:
        """Prefix of all our own keys and channels."""
        return f"mesa:{{{self.namespace or ''}.m1}}:"

    @property
    def leases(self) -> str:
        """ZSET: node -> end of its lease, in milliseconds of Redis's own clock. A day."""
        return f"{self.prefix}R"

    @property
    def native_leases(self) -> str:
        """ZSET: the same for nodes on the native wire, which never reach those of this wire."""
        return f"mesa:{{{self.namespace or ''}.0}}:R"

    @property
    def signs(self) -> str:
        """HASH: last heartbeats of nodes and portals, as in `leases.lua`. A day."""
        return f"{self.prefix}f"

    @property
    def counts(self) -> str:
        """HASH: node -> its share of `connections`. A day."""
        return f"{self.prefix}n"

    @property
    def graces(self) -> str:
        """ZSET: id -> infinity while a node of ours holds it, then end of its grace. A day."""
        return f"{self.prefix}g"

    @property
    def users(self) -> str:
        """Prefix of `user` keys."""
        return f"{self.prefix}u:"

    def user(self, id: str) -> str:
        """HASH: node -> connections of this id there. A day, renewed by nodes that hold the id."""
        return f"{self.users}{id}"

    @property
    def holdings(self) -> str:
        """Prefix of `held` keys."""
        return f"{self.prefix}c:"

    def held(self, node: str) -> str:
        """SET: the ids that a node holds, for the node that cleans up after it. A day."""
        return f"{self.holdings}{node}"

    @property
    def channels(self) -> str:
        """Prefix of `channel` names."""
        return f"{self.prefix}r:"

    def channel(self, node: str) -> str:
        """Channel: replies to one node, and empty messages that show that the node hears Redis."""
        return f"{self.channels}{node}"

    def database(self, number: int) -> str:
        """Channel without messages: servers and portals on a database listen, so that others see them."""
        return f"{self.prefix}d:{number}"

    @property
    def portal_leases(self) -> str:
        """ZSET: portal of ours -> end of its lease, in milliseconds of Redis's own clock. A day."""
        return f"{self.prefix}p"

    @property
    def gone_portals(self) -> str:
        """HASH: portal that was removed as dead -> `ours` or `theirs`. A day."""
        return f"{self.prefix}d"

    @property
    def era(self) -> str:
        """STRING: random; another one, or none, means that Redis has lost its data. A day."""
        return f"{self.prefix}e"

    @property
    def run(self) -> str:
        """HASH: which run of Redis this is, as `redis_wire/scripts/runs.lua` says. 30 days."""
        return f"{self.prefix}i"

    def done(self, message_id: str) -> str:
        """HASH: recipient -> whether the message was stored for it; of a message that may be sent again."""
        return f"{self.prefix}k:{message_id}"

    @property
    def asides(self) -> str:
        """Prefix of `set_aside` keys."""
        return f"{self.prefix}z:"

    def set_aside(self, id: str) -> str:
        """LIST: values of `undelivered` that could not be read. 7 days."""
        return f"{self.asides}{id}"

    def cleared(self, key: str) -> str:
        """New name of a key of 1.x that has another type than 1.x keeps there. 7 days."""
        return f"{self.prefix}w:{key}"

    def _named(self, name: str) -> str:
        return f"{name}_{self.namespace}" if self.namespace else name

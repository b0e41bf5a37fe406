"""Names of all keys and channels that Mesa uses in Redis.

Every name of a partition begins with `mesa:{<namespace>.<partition>}:`; the braces keep the keys
of one partition in one slot of a Redis Cluster, which lets a script use all of them. No namespace
is the empty text. Every key expires: `EXPIRY` after the last heartbeat only stored messages and events
for portals are left of a cluster, however its nodes ended.
"""

from ..redis_wire.keys import Name, WireKeys

PARTITIONS = 1
"""Partitions of a namespace: one on a single Redis and behind Sentinel, so that a message to a
hundred ids is one script. Recorded in `meta`, because programs that disagree would never meet."""

POSITION_LIFE = 8 * 86_400.0
"""Seconds after the last visit of an id until its position expires."""

BACKLOG_LIFE = 7 * 86_400.0
"""Seconds after the last event of a queue until its unhandled events expire."""

DEAD_LIFE = 30 * 86_400.0
"""Seconds after the last dead letter until they all expire; likewise for the count of rejected ones."""


class Keys(WireKeys):
    """Names of the keys and channels of one namespace on the native wire; see `WireKeys`."""

    partition = ".0"

    meta = Name("meta", "")
    """HASH: `partitions`, by which a process of another layout is refused. `EXPIRY`."""

    leases_of_1x = Name("R", ".m1")
    """ZSET: the `leases` of nodes on the wire of 1.x, which never reach those of this wire."""

    counters = Name("n")
    """HASH: node -> number of frames published to it; a jump means a lost frame. `EXPIRY`."""

    tallies = Name("N")
    """HASH: node -> number of its connections, logged in or not, as of its last heartbeat. `EXPIRY`."""

    secret = Name("s")
    """HASH: the secret from which positions of empty outboxes are made; `scripts/outbox.lua` says how.
    Ten days after the last login of an id without stored messages."""

    left = Name("L")
    """STRING: replication id of a master that processes have left for another one. 15 seconds."""

    broadcasts_left = Name("L", ".b")
    """STRING: the same for messages to `*`."""

    positions = Name("m:")
    """Prefix of every `position`."""

    outboxes = Name("o:")
    """Prefix of every `outbox`."""

    broadcast_position = Name("m", ".b")
    """HASH: the `position` of messages to `*`. `EXPIRY`, longer than the last message."""

    broadcasts = Name("b", ".b")
    """LIST: messages to `*` of the last five minutes."""

    orders_position = Name("mo", ".b")
    """HASH: the `position` of orders to all nodes. `EXPIRY`, longer than the last order."""

    orders = Name("bo", ".b")
    """LIST: orders to all nodes of the last day."""

    carried_out = Name("C")
    """HASH: node -> `<epoch>:<sequence>` of the last order that it has carried out. `EXPIRY`."""

    revocations = Name("V:")
    """Prefix of STRING, for an id: its logins that were issued until this time are revoked. A day."""

    queues = Name("q:")
    """Prefix of every `queue`."""

    tokens = Name("t")
    """HASH: partition -> the last token given out. `EXPIRY` after the last portal."""

    portals = Name("P")
    """ZSET: portal -> end of its lease, in milliseconds of Redis's own clock. `EXPIRY`."""

    observers = Name("O")
    """ZSET: portal that observes all events -> end of its lease. `EXPIRY`."""

    observed = Name("v")
    """STREAM: copy of every `queue` for `observers`. 10 000 entries, 64 MiB, `EXPIRY`."""

    open_connections = Name("w:")
    """Prefix of every `connections` key."""

    dead = Name("x")
    """STREAM: dead letters. 10 000 entries, 64 MiB; 30 days after the last one."""

    rejected = Name("X")
    """STRING: number of events that handlers have rejected. 30 days after the last one."""

    def replies(self, requester: str) -> str:
        """Channel: the replies of nodes to the requests of `requester`."""
        return f"{self.prefix}a:{requester}"

    def position(self, id: str) -> str:
        """HASH: epoch, top sequence and acknowledged sequence; `scripts/outbox.lua` lists all fields.

        It exists from the first stored message on. `EXPIRY` longer than the `outbox`, ten days after the
        first message; `POSITION_LIFE` after the id was attached.
        """
        return f"{self.positions}{id}"

    def outbox(self, id: str) -> str:
        """LIST: messages of this id not known to be received. A sixteenth longer than they, at most."""
        return f"{self.outboxes}{id}"

    def set_aside(self, id: str) -> str:
        """LIST: a corrupt `outbox` that was set aside; its position is there too. 7 days.

        Args:
            id: its recipient, or `*`.
        """
        return f"{self.broadcasts[:-1]}z:b" if id == "*" else self.aside(self.outbox(id))

    def aside(self, key: str) -> str:
        """Return the name under which a corrupt `key` of this partition is set aside. 7 days."""
        return f"{self.prefix}z:{key.removeprefix(self.prefix)}"

    def queue(self, partition: int) -> str:
        """STREAM: events of connections that wait for portals. `BACKLOG_LIFE`."""
        return f"{self.queues}{partition}"

    def deliveries(self, partition: int) -> str:
        """HASH: offset in the `queue` -> number of deliveries. `BACKLOG_LIFE`.

        The empty offset holds `<portal> <attempt>`, by which a repeated call is recognized.
        """
        return f"{self.prefix}y:{partition}"

    def weights(self, partition: int) -> str:
        """HASH: account -> total weight of its events in the `queue`. `BACKLOG_LIFE`."""
        return f"{self.prefix}h:{partition}"

    def owner(self, partition: int) -> str:
        """STRING: `<portal>|<token>` of the owner of the `queue`, while that portal has a lease. `EXPIRY`."""
        return f"{self.prefix}l:{partition}"

    def connections(self, node: str) -> str:
        """HASH: connection of `node` -> `<last sequence> <partition> <id>`. `BACKLOG_LIFE`."""
        return f"{self.open_connections}{node}"

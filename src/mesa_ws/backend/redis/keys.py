"""Names of all keys and channels that Mesa uses in Redis.

Every name of a partition begins with `mesa:{<namespace>.<partition>}:`; the braces keep the keys
of one partition in one slot of a Redis Cluster, which lets a script use all of them. No namespace
is the empty text. Every key expires: `EXPIRY` after the last heartbeat only stored messages and events
for portals are left of a cluster, however its nodes ended.
"""

from dataclasses import dataclass

PARTITIONS = 1
"""Partitions of a namespace: one on a single Redis and behind Sentinel, so that a message to a
hundred ids is one script. Recorded in `meta`, because programs that disagree would never meet."""

POSITION_LIFE = 8 * 86_400.0
"""Seconds after the last visit of an id until its position expires."""

BACKLOG_LIFE = 7 * 86_400.0
"""Seconds after the last event of a queue until its unhandled events expire."""

DEAD_LIFE = 30 * 86_400.0
"""Seconds after the last dead letter until they all expire; likewise for the count of rejected ones."""


class _Name:
    """A key of a partition, or the beginning of several; made when a `Keys` is first asked for it."""

    def __init__(self, suffix: str, partition: str = ".0") -> None:
        self._suffix = suffix
        self._partition = partition

    def __set_name__(self, owner: type, attribute: str) -> None:
        self._attribute = attribute

    def __get__(self, keys: "Keys", owner: type) -> str:
        name = f"mesa:{{{keys.namespace or ''}{self._partition}}}:{self._suffix}"
        keys.__dict__[self._attribute] = name  # found there from now on, without a call
        return name


@dataclass(frozen=True)
class Keys:
    """Names of the keys and channels of one namespace.

    Args:
        namespace: 1 to 64 of `A-Z a-z 0-9 _ . -`, or None.
    """

    namespace: str | None = None

    prefix = _Name("")
    """Prefix of every key of the partition."""

    meta = _Name("meta", "")
    """HASH: `partitions`, by which a process of another layout is refused. `EXPIRY`."""

    leases = _Name("R")
    """ZSET: node -> end of its lease, in milliseconds of Redis's own clock, as in `leases.lua`. `EXPIRY`;
    `BACKLOG_LIFE` where a node has `connections`."""

    signs = _Name("f")
    """HASH: times of the last heartbeats of nodes and portals, as in `leases.lua`. `EXPIRY`."""

    leases_of_1x = _Name("R", ".m1")
    """ZSET: the same for nodes on the wire of 1.x, which never reach those of this wire."""

    counters = _Name("n")
    """HASH: node -> number of frames published to it; a jump means a lost frame. `EXPIRY`."""

    tallies = _Name("N")
    """HASH: node -> number of its connections, logged in or not, as of its last heartbeat. `EXPIRY`."""

    users = _Name("u:")
    """Prefix of every `user` key."""

    holdings = _Name("c:")
    """Prefix of every `held` key."""

    channels = _Name("r:")
    """Prefix of every `channel`."""

    graces = _Name("g")
    """ZSET: id -> infinity while a node holds it, then the end of its grace in milliseconds. `EXPIRY`."""

    secret = _Name("s")
    """HASH: the secret from which positions of empty outboxes are made; `scripts/outbox.lua` says how.
    Ten days after the last login of an id without stored messages."""

    run = _Name("i")
    """HASH: the run of Redis; `scripts/runs.lua` documents it. 30 days after a heartbeat.
    The partition of messages to `*` has one, too."""

    left = _Name("L")
    """STRING: replication id of a master that processes have left for another one. 15 seconds."""

    broadcasts_left = _Name("L", ".b")
    """STRING: the same for messages to `*`."""

    positions = _Name("m:")
    """Prefix of every `position`."""

    outboxes = _Name("o:")
    """Prefix of every `outbox`."""

    dispatches = _Name("k:")
    """Prefix of every `done` key."""

    broadcast_position = _Name("m", ".b")
    """HASH: the `position` of messages to `*`. `EXPIRY`."""

    broadcasts = _Name("b", ".b")
    """LIST: messages to `*` of the last five minutes."""

    queues = _Name("q:")
    """Prefix of every `queue`."""

    tokens = _Name("t")
    """HASH: partition -> the last token given out. `EXPIRY` after the last portal."""

    portals = _Name("P")
    """ZSET: portal -> end of its lease, in milliseconds of Redis's own clock. `EXPIRY`."""

    observers = _Name("O")
    """ZSET: portal that observes all events -> end of its lease. `EXPIRY`."""

    observed = _Name("v")
    """STREAM: copy of every `queue` for `observers`. 10 000 entries, 64 MiB, `EXPIRY`."""

    open_connections = _Name("w:")
    """Prefix of every `connections` key."""

    dead = _Name("x")
    """STREAM: dead letters. 10 000 entries, 64 MiB; 30 days after the last one."""

    rejected = _Name("X")
    """STRING: number of events that handlers have rejected. 30 days after the last one."""

    def user(self, id: str) -> str:
        """HASH: node -> `<sockets> <version> <floor> <epoch> <first>` of this id there.

        Only the node writes its own field, and older versions are ignored. `EXPIRY`, renewed by
        nodes that hold the id. `scripts/prelude.lua` documents the members.
        """
        return f"{self.users}{id}"

    def held(self, node: str) -> str:
        """SET: the ids that `node` holds, for the node that cleans up after it. `EXPIRY`."""
        return f"{self.holdings}{node}"

    def channel(self, node: str) -> str:
        """Channel: the frames for `node`."""
        return f"{self.channels}{node}"

    def replies(self, requester: str) -> str:
        """Channel: the replies of nodes to the requests of `requester`."""
        return f"{self.prefix}a:{requester}"

    def position(self, id: str) -> str:
        """HASH: epoch, top sequence and acknowledged sequence; `scripts/outbox.lua` lists all fields.

        It exists from the first stored message on. `EXPIRY` longer than the last message, ten days after
        the first; `POSITION_LIFE` after the id was attached.
        """
        return f"{self.positions}{id}"

    def outbox(self, id: str) -> str:
        """LIST: messages of this id that are not known to be received. Lives as long as messages."""
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

    def done(self, message_id: str) -> str:
        """HASH: recipient -> `<epoch>:<sequence>`, so that a repeated dispatch stores nothing twice.

        `0` for a message that was not stored. The envelope sets the time: 120 s or a day.
        """
        return f"{self.dispatches}{message_id}"

    def queue(self, partition: int) -> str:
        """STREAM: events of connections that wait for portals. `BACKLOG_LIFE`."""
        return f"{self.queues}{partition}"

    def deliveries(self, partition: int) -> str:
        """HASH: offset in the `queue` -> number of deliveries. `BACKLOG_LIFE`.

        The empty offset holds `<portal> <attempt>`, by which a repeated call is recognized.
        """
        return f"{self.prefix}y:{partition}"

    def weights(self, partition: int) -> str:
        """HASH: connection -> total weight of its events in the `queue`. `BACKLOG_LIFE`."""
        return f"{self.prefix}h:{partition}"

    def owner(self, partition: int) -> str:
        """STRING: `<portal>|<token>` of the owner of the `queue`, while that portal has a lease. `EXPIRY`."""
        return f"{self.prefix}l:{partition}"

    def connections(self, node: str) -> str:
        """HASH: connection of `node` -> `<last sequence> <partition> <id>`. `BACKLOG_LIFE`."""
        return f"{self.open_connections}{node}"

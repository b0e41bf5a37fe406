"""Names of all keys and channels that Mesa uses in Redis.

Every name of a partition begins with `mesa:{<namespace>.<partition>}:`; the braces keep the keys
of one partition in one slot of a Redis Cluster, which lets a script use all of them. No namespace
is the empty text. Every key expires: `EXPIRY` after the last heartbeat only stored messages and events
for portals are left of a cluster, however its nodes ended.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

PARTITIONS = 1
"""Partitions of a namespace: one on a single Redis and behind Sentinel, so that a message to a
hundred ids is one script. Recorded in `meta`, because programs that disagree would never meet."""

POSITION_LIFE = 8 * 86_400.0
"""Seconds after the last visit of an id until its position expires."""

BACKLOG_LIFE = 7 * 86_400.0
"""Seconds after the last event of a queue until its unhandled events expire."""

DEAD_LIFE = 30 * 86_400.0
"""Seconds after the last dead letter until they all expire; likewise for the count of rejected ones."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of the keys and channels of one namespace.

    Args:
        namespace: 1 to 64 of `A-Z a-z 0-9 _ . -`, or None.

    Attributes:
        prefix: prefix of every key of the partition; computed once, since every command names several
            keys.
    """

    namespace: str | None = None
    prefix: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", f"mesa:{{{self.namespace or ''}.0}}:")

    @property
    def meta(self) -> str:
        """HASH: `partitions`, by which a process of another layout is refused. `EXPIRY`."""
        return f"mesa:{{{self.namespace or ''}}}:meta"

    @property
    def leases(self) -> str:
        """ZSET: node -> end of its lease, in milliseconds of Redis's own clock, as in `leases.lua`.

        `EXPIRY`; `BACKLOG_LIFE` where a node has `connections`.
        """
        return f"{self.prefix}R"

    @property
    def signs(self) -> str:
        """HASH: times of the last heartbeats of nodes and portals, as in `leases.lua`. `EXPIRY`."""
        return f"{self.prefix}f"

    @property
    def leases_of_1x(self) -> str:
        """ZSET: the same for nodes on the wire of 1.x, which never reach those of this wire."""
        return f"mesa:{{{self.namespace or ''}.m1}}:R"

    @property
    def counters(self) -> str:
        """HASH: node -> number of frames published to it; a jump means a lost frame. `EXPIRY`."""
        return f"{self.prefix}n"

    @property
    def tallies(self) -> str:
        """HASH: node -> number of its connections, logged in or not, as of its last heartbeat. `EXPIRY`."""
        return f"{self.prefix}N"

    @property
    def users(self) -> str:
        """Prefix of every `user` key."""
        return f"{self.prefix}u:"

    def user(self, id: str) -> str:
        """HASH: node -> `<sockets> <version> <floor> <epoch> <first>` of this id there.

        Only the node writes its own field, and older versions are ignored. `EXPIRY`, renewed by
        nodes that hold the id. `scripts/prelude.lua` documents the members.
        """
        return f"{self.users}{id}"

    @property
    def holdings(self) -> str:
        """Prefix of every `held` key."""
        return f"{self.prefix}c:"

    def held(self, node: str) -> str:
        """SET: the ids that `node` holds, for the node that cleans up after it. `EXPIRY`."""
        return f"{self.holdings}{node}"

    @property
    def channels(self) -> str:
        """Prefix of every `channel`."""
        return f"{self.prefix}r:"

    def channel(self, node: str) -> str:
        """Channel: the frames for `node`."""
        return f"{self.channels}{node}"

    def replies(self, requester: str) -> str:
        """Channel: the replies of nodes to the requests of `requester`."""
        return f"{self.prefix}a:{requester}"

    @property
    def graces(self) -> str:
        """ZSET: id -> infinity while a node holds it, then the end of its grace in milliseconds. `EXPIRY`."""
        return f"{self.prefix}g"

    @property
    def secret(self) -> str:
        """HASH: the secret from which positions of empty outboxes are made; `scripts/outbox.lua` says how.

        Ten days after the last login of an id without stored messages.
        """
        return f"{self.prefix}s"

    @property
    def run(self) -> str:
        """HASH: the run of Redis; `scripts/runs.lua` documents it. 30 days after a heartbeat.

        The partition of messages to `*` has one, too.
        """
        return f"{self.prefix}i"

    @property
    def left(self) -> str:
        """STRING: replication id of a master that processes have left for another one. 15 seconds."""
        return f"{self.prefix}L"

    @property
    def broadcasts_left(self) -> str:
        """STRING: the same for messages to `*`."""
        return f"{self._broadcasts}L"

    def position(self, id: str) -> str:
        """HASH: epoch, top sequence and acknowledged sequence; `scripts/outbox.lua` lists all fields.

        It exists from the first stored message on. `EXPIRY` longer than the last message, ten days after
        the first; `POSITION_LIFE` after the id was attached.
        """
        return f"{self.prefix}m:{id}"

    def outbox(self, id: str) -> str:
        """LIST: messages of this id that are not known to be received. Lives as long as messages."""
        return f"{self.prefix}o:{id}"

    def set_aside(self, id: str) -> str:
        """LIST: a corrupt `outbox` that was set aside; its position is there too. 7 days.

        Args:
            id: its recipient, or `*`.
        """
        return f"{self._broadcasts}z:b" if id == "*" else self.aside(self.outbox(id))

    def aside(self, key: str) -> str:
        """Return the name under which a corrupt `key` of this partition is set aside. 7 days."""
        return f"{self.prefix}z:{key.removeprefix(self.prefix)}"

    def done(self, message_id: str) -> str:
        """HASH: recipient -> `<epoch>:<sequence>`, so that a repeated dispatch stores nothing twice.

        `0` for a message that was not stored. The envelope sets the time: 120 s or a day.
        """
        return f"{self.prefix}k:{message_id}"

    @property
    def broadcast_position(self) -> str:
        """HASH: the `position` of messages to `*`. `EXPIRY`."""
        return f"{self._broadcasts}m"

    @property
    def broadcasts(self) -> str:
        """LIST: messages to `*` of the last five minutes."""
        return f"{self._broadcasts}b"

    def queue(self, partition: int) -> str:
        """STREAM: events of connections that wait for portals. `BACKLOG_LIFE`."""
        return f"{self.queues}{partition}"

    @property
    def queues(self) -> str:
        """Prefix of every `queue`."""
        return f"{self.prefix}q:"

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

    @property
    def tokens(self) -> str:
        """HASH: partition -> the last token given out. `EXPIRY` after the last portal."""
        return f"{self.prefix}t"

    @property
    def portals(self) -> str:
        """ZSET: portal -> end of its lease, in milliseconds of Redis's own clock. `EXPIRY`."""
        return f"{self.prefix}P"

    @property
    def observers(self) -> str:
        """ZSET: portal that observes all events -> end of its lease. `EXPIRY`."""
        return f"{self.prefix}O"

    @property
    def observed(self) -> str:
        """STREAM: copy of every `queue` for `observers`. 10 000 entries, 64 MiB, `EXPIRY`."""
        return f"{self.prefix}v"

    @property
    def open_connections(self) -> str:
        """Prefix of every `connections` key."""
        return f"{self.prefix}w:"

    def connections(self, node: str) -> str:
        """HASH: connection of `node` -> `<last sequence> <partition> <id>`. `BACKLOG_LIFE`."""
        return f"{self.open_connections}{node}"

    @property
    def dead(self) -> str:
        """STREAM: dead letters. 10 000 entries, 64 MiB; 30 days after the last one."""
        return f"{self.prefix}x"

    @property
    def rejected(self) -> str:
        """STRING: number of events that handlers have rejected. 30 days after the last one."""
        return f"{self.prefix}X"

    @property
    def _broadcasts(self) -> str:
        return f"mesa:{{{self.namespace or ''}.b}}:"


def outbox_keys(keys: Keys, ids: Iterable[str]) -> list[str]:
    """Return the keys of ids for scripts that store or read: position, outbox and user of each."""
    return [key for id in ids for key in (keys.position(id), keys.outbox(id), keys.user(id))]


def user_keys(keys: Keys, ids: Iterable[str]) -> list[str]:
    """Return the user keys of ids."""
    return [keys.user(id) for id in ids]

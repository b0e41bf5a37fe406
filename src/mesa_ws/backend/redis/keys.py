"""The names of everything that Mesa keeps in Redis.

Every name of a partition begins with `mesa:{<namespace>.<partition>}:`; the braces keep the keys
of one partition in one slot of a Redis Cluster, which lets a script use all of them. No namespace
is the empty text. Nothing here has no end: `EXPIRY` after the last heartbeat the cluster is
forgotten, whatever became of its nodes, but for what is stored and what waits for portals.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

PARTITIONS = 1
"""Partitions of a namespace: one on a single Redis and behind Sentinel, so that a message to a
hundred ids is one script. Recorded in `meta`, because programs that disagree would never meet."""

EXPIRY = 86_400.0
"""Seconds after the last heartbeat when what is left of a cluster disappears."""

POSITION_LIFE = 8 * 86_400.0
"""Seconds after the last visit of an id when nobody knows its position any more."""


BACKLOG_LIFE = 7 * 86_400.0
"""Seconds after the last letter of a queue when what nobody dealt with disappears."""

DEAD_LIFE = 30 * 86_400.0
"""Seconds after the last dead letter when they all disappear; likewise for the count of rejected ones."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Names the keys and channels of one namespace.

    Args:
        namespace: 1 to 64 of `A-Z a-z 0-9 _ . -`, or None.

    Attributes:
        prefix: what every key of the partition begins with; worked out once, since every command
            names several keys.
    """

    namespace: str | None = None
    prefix: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", f"mesa:{{{self.namespace or ''}.0}}:")

    @property
    def meta(self) -> str:
        """HASH: `partitions`, by which programs of another layout are refused. `EXPIRY`."""
        return f"mesa:{{{self.namespace or ''}}}:meta"

    @property
    def leases(self) -> str:
        """ZSET: node -> end of its lease, in milliseconds of Redis's own clock, as in `leases.lua`.

        `EXPIRY`; `BACKLOG_LIFE` where a node has `connections`.
        """
        return f"{self.prefix}R"

    @property
    def signs(self) -> str:
        """HASH: when nodes and portals showed last that they live, as in `leases.lua`. `EXPIRY`."""
        return f"{self.prefix}f"

    @property
    def leases_of_1x(self) -> str:
        """ZSET: the same for nodes that speak the wire of 1.x, which never meet those of this one."""
        return f"mesa:{{{self.namespace or ''}.m1}}:R"

    @property
    def counters(self) -> str:
        """HASH: node -> hints published to it so far; a jump means a lost hint. `EXPIRY`."""
        return f"{self.prefix}n"

    @property
    def tallies(self) -> str:
        """HASH: node -> its connections, logged in or not, as of its last heartbeat. `EXPIRY`."""
        return f"{self.prefix}N"

    @property
    def users(self) -> str:
        """What the name of every `user` key begins with."""
        return f"{self.prefix}u:"

    def user(self, id: str) -> str:
        """HASH: node -> `<sockets> <version> <floor> <epoch> <first>` of this id there.

        Only a node writes its own field, and older versions are ignored. `EXPIRY`, renewed by
        nodes that hold the id. `scripts/prelude.lua` says what the members mean.
        """
        return f"{self.users}{id}"

    @property
    def holdings(self) -> str:
        """What the name of every `held` key begins with."""
        return f"{self.prefix}c:"

    def held(self, node: str) -> str:
        """SET: the ids that `node` holds, for whoever cleans up after it. `EXPIRY`."""
        return f"{self.holdings}{node}"

    @property
    def channels(self) -> str:
        """What the name of every `channel` begins with."""
        return f"{self.prefix}r:"

    def channel(self, node: str) -> str:
        """Channel: the hints for `node`."""
        return f"{self.channels}{node}"

    def replies(self, requester: str) -> str:
        """Channel: what nodes reply to the requests of `requester`."""
        return f"{self.prefix}a:{requester}"

    @property
    def graces(self) -> str:
        """ZSET: id -> infinity while a node holds it, then end of its grace in milliseconds. `EXPIRY`."""
        return f"{self.prefix}g"

    @property
    def secret(self) -> str:
        """HASH: what positions of empty outboxes are made of; `scripts/outbox.lua` says how.

        Ten days after the last login of an id that nothing is stored for.
        """
        return f"{self.prefix}s"

    @property
    def run(self) -> str:
        """HASH: which run of Redis this is; `scripts/runs.lua` says how. 30 days after a heartbeat.

        The partition of messages to everybody has one, too.
        """
        return f"{self.prefix}i"

    @property
    def left(self) -> str:
        """STRING: replication id of a master that processes have left for another one. 15 seconds."""
        return f"{self.prefix}L"

    @property
    def broadcasts_left(self) -> str:
        """STRING: the same for messages to everybody."""
        return f"{self._broadcasts}L"

    def position(self, id: str) -> str:
        """HASH: epoch, top sequence and what was acknowledged; `scripts/outbox.lua` lists it all.

        There is none before something was stored. `EXPIRY` longer than the last message, ten days after the
        first; `POSITION_LIFE` after the id was attached.
        """
        return f"{self.prefix}m:{id}"

    def outbox(self, id: str) -> str:
        """LIST: messages of this id that are not known to be received. Time to live of messages."""
        return f"{self.prefix}o:{id}"

    def set_aside(self, id: str) -> str:
        """LIST: what `outbox` was before it turned out to be corrupt; its position is there too. 7 days.

        Args:
            id: whose, or `*`.
        """
        return f"{self._broadcasts}z:b" if id == "*" else self.aside(self.outbox(id))

    def aside(self, key: str) -> str:
        """Where `key` of this partition goes when it is not what Mesa keeps there. 7 days."""
        return f"{self.prefix}z:{key.removeprefix(self.prefix)}"

    def done(self, message_id: str) -> str:
        """HASH: recipient -> `<epoch>:<sequence>`, so that a repeated dispatch stores nothing twice.

        `0` for what was not stored. As long as the envelope says, 120 s or a day.
        """
        return f"{self.prefix}k:{message_id}"

    @property
    def broadcast_position(self) -> str:
        """HASH: what `position` is for ids, for messages to everybody. `EXPIRY`."""
        return f"{self._broadcasts}m"

    @property
    def broadcasts(self) -> str:
        """LIST: messages to everybody of the last five minutes."""
        return f"{self._broadcasts}b"

    def queue(self, partition: int) -> str:
        """STREAM: what happened to connections, waiting for portals. `BACKLOG_LIFE`."""
        return f"{self.queues}{partition}"

    @property
    def queues(self) -> str:
        """What the name of every `queue` begins with."""
        return f"{self.prefix}q:"

    def deliveries(self, partition: int) -> str:
        """HASH: place in the `queue` -> how often it was delivered. `BACKLOG_LIFE`.

        The empty place holds `<portal> <attempt>`, by which a call that comes twice is known.
        """
        return f"{self.prefix}y:{partition}"

    def weights(self, partition: int) -> str:
        """HASH: connection -> what its letters in the `queue` weigh together. `BACKLOG_LIFE`."""
        return f"{self.prefix}h:{partition}"

    def owner(self, partition: int) -> str:
        """STRING: `<portal>|<token>` of the portal that owns the `queue` while it has a lease. `EXPIRY`."""
        return f"{self.prefix}l:{partition}"

    @property
    def tokens(self) -> str:
        """HASH: partition -> the last token that was given out. `EXPIRY` after the last portal."""
        return f"{self.prefix}t"

    @property
    def portals(self) -> str:
        """ZSET: portal -> end of its lease, in milliseconds of Redis's own clock. `EXPIRY`."""
        return f"{self.prefix}P"

    @property
    def observers(self) -> str:
        """ZSET: portal that sees everything -> end of its lease. `EXPIRY`."""
        return f"{self.prefix}O"

    @property
    def observed(self) -> str:
        """STREAM: what was appended to any `queue` for `observers`. 10 000 entries, 64 MiB, `EXPIRY`."""
        return f"{self.prefix}v"

    @property
    def open_connections(self) -> str:
        """What the name of every `connections` key begins with."""
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
        """STRING: how many letters handlers have rejected. 30 days after the last one."""
        return f"{self.prefix}X"

    @property
    def _broadcasts(self) -> str:
        return f"mesa:{{{self.namespace or ''}.b}}:"


def outbox_keys(keys: Keys, ids: Iterable[str]) -> list[str]:
    """The keys of ids for scripts that number or read: position, outbox and user of each."""
    return [key for id in ids for key in (keys.position(id), keys.outbox(id), keys.user(id))]


def _users(keys: Keys, ids: Iterable[str]) -> list[str]:
    return [keys.user(id) for id in ids]

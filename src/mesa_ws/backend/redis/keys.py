"""The names of everything that Mesa keeps in Redis.

Every name of a partition begins with `mesa:{<namespace>.<partition>}:`; the braces keep the keys
of one partition in one slot of a Redis Cluster, which lets a script use all of them. No namespace
is the empty text. Nothing here has no end: `EXPIRY` after the last heartbeat the cluster is
forgotten, whatever became of its nodes.
"""

from dataclasses import dataclass

PARTITIONS = 1
"""Partitions of a namespace: one on a single Redis and behind Sentinel, so that a message to a
hundred ids is one script. Recorded in `meta`, because programs that disagree would never meet."""

EXPIRY = 86_400.0
"""Seconds after the last heartbeat when what is left of a cluster disappears."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Names the keys and channels of one namespace.

    Args:
        namespace: 1 to 64 of `A-Z a-z 0-9 _ . -`, or None.
    """

    namespace: str | None = None

    @property
    def prefix(self) -> str:
        """What every key of the partition begins with."""
        return f"mesa:{{{self.namespace or ''}.0}}:"

    @property
    def meta(self) -> str:
        """HASH: `partitions`, by which programs of another layout are refused. `EXPIRY`."""
        return f"mesa:{{{self.namespace or ''}}}:meta"

    @property
    def leases(self) -> str:
        """ZSET: node -> end of its lease, in milliseconds of Redis's own clock. `EXPIRY`."""
        return f"{self.prefix}R"

    @property
    def counters(self) -> str:
        """HASH: node -> hints published to it so far; a jump means a lost hint. `EXPIRY`."""
        return f"{self.prefix}n"

    @property
    def users(self) -> str:
        """What the name of every `user` key begins with."""
        return f"{self.prefix}u:"

    def user(self, id: str) -> str:
        """HASH: node -> `<sockets> <version>` of this id there.

        Only a node writes its own field, and older versions are ignored. `EXPIRY`, renewed by
        nodes that hold the id.
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

    # The rest belongs to message sync. The names are settled here, so that nothing else takes them.

    def position(self, id: str) -> str:
        """HASH: epoch, top sequence and what was acknowledged. Time to live of messages + `EXPIRY`."""
        return f"{self.prefix}m:{id}"

    def outbox(self, id: str) -> str:
        """LIST: messages of this id that are not known to be received. Time to live of messages."""
        return f"{self.prefix}o:{id}"

    def done(self, message_id: str) -> str:
        """HASH: recipient -> sequence, so that a repeated dispatch stores nothing twice. 120 s."""
        return f"{self.prefix}k:{message_id}"

    @property
    def broadcasts(self) -> str:
        """STREAM: messages to everybody of the last five minutes."""
        return f"mesa:{{{self.namespace or ''}.b}}:b"

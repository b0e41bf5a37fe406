"""Names of keys and channels that both wires use."""

from dataclasses import dataclass
from typing import ClassVar


class Name:
    """A key of a partition, or the beginning of several; made when `WireKeys` are first asked for it.

    Args:
        suffix: what follows the prefix.
        partition: the partition; that of the wire by default.
    """

    def __init__(self, suffix: str, partition: str | None = None) -> None:
        self._suffix = suffix
        self._partition = partition

    def __set_name__(self, owner: type, attribute: str) -> None:
        self._attribute = attribute

    def __get__(self, keys: "WireKeys", owner: type) -> str:
        name = self.make(keys.namespace or "", keys.partition if self._partition is None else self._partition)
        keys.__dict__[self._attribute] = name  # found there from now on, without a call
        return name

    def make(self, namespace: str, partition: str) -> str:
        """Return the name."""
        return f"mesa:{{{namespace}{partition}}}:{self._suffix}"


@dataclass(frozen=True)
class WireKeys:
    """Names of the keys and channels of one namespace.

    Args:
        namespace: 1 to 64 of `A-Z a-z 0-9 _ . -`, or None.

    Attributes:
        partition: the part of a key in braces that follows the namespace.
    """

    namespace: str | None = None

    partition: ClassVar[str]

    prefix = Name("")
    """Prefix of every key of the partition."""

    leases = Name("R")
    """ZSET: node -> end of its lease, in milliseconds of Redis's own clock, as in `leases.lua`. `EXPIRY`;
    longer where a node of the native wire has `connections`."""

    signs = Name("f")
    """HASH: times of the last heartbeats of nodes and portals, as in `leases.lua`. `EXPIRY`."""

    users = Name("u:")
    """Prefix of every `user` key."""

    holdings = Name("c:")
    """Prefix of every `held` key."""

    channels = Name("r:")
    """Prefix of every `channel`."""

    graces = Name("g")
    """ZSET: id -> infinity while a node holds it, then the end of its grace in milliseconds. `EXPIRY`."""

    run = Name("i")
    """HASH: the run of Redis; `scripts/runs.lua` documents it. 30 days after a heartbeat."""

    dispatches = Name("k:")
    """Prefix of every `done` key."""

    def user(self, id: str) -> str:
        """HASH: node -> what it has recorded of this id. `EXPIRY`, renewed by nodes that hold the id.

        That is the number of connections; on the native wire `<sockets> <version> <floor> <epoch> <first>`,
        as `prelude.lua` documents. Only the node writes its own field, and older versions are ignored.
        """
        return f"{self.users}{id}"

    def held(self, node: str) -> str:
        """SET: the ids that `node` holds, for the node that cleans up after it. `EXPIRY`."""
        return f"{self.holdings}{node}"

    def channel(self, node: str) -> str:
        """Channel: what is for `node` alone, also the markers that show that it hears Redis."""
        return f"{self.channels}{node}"

    def done(self, message_id: str) -> str:
        """HASH: recipient -> how its message was stored, so that a repeated dispatch stores nothing twice.

        On the native wire that is `<epoch>:<sequence>`, or `0` for a message that was not stored. The
        envelope sets the time: 120 s or a day.
        """
        return f"{self.dispatches}{message_id}"

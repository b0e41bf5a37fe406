"""Values for commands, scripts and the description of a server."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import msgspec

from ...errors import BackendRefused

CLUSTER = (
    "Redis Cluster is not supported; use a single Redis (redis://), or replicas with Sentinel "
    "(redis+sentinel://) to survive the loss of a machine"
)


class ServerInfo(NamedTuple):
    """Description that a Redis gives in INFO or HELLO.

    Attributes:
        version: of Redis, or the Redis version that a compatible server reports.
        max_memory: bytes that it may use; 0 for no limit.
        policy: its eviction policy when it is full.
        has_log: whether it writes changes to an append-only file (AOF).
        mode: `standalone`, `cluster` or `sentinel`.
        used_memory: bytes that it uses.
    """

    version: tuple[int, ...] = ()
    max_memory: int = 0
    policy: str = "noeviction"
    has_log: bool = False
    mode: str = "standalone"
    used_memory: int = 0

    @classmethod
    def of(cls, reply: object) -> "ServerInfo":
        """Read the reply to INFO."""
        text = reply.decode(errors="replace") if isinstance(reply, bytes) else ""
        lines = dict(re.findall(r"^(\w+):(.*?)\r?$", text, re.MULTILINE))
        return cls(
            tuple(int(part) for part in re.findall(r"\d+", lines.get("redis_version", ""))),
            int(lines.get("maxmemory", 0)),
            lines.get("maxmemory_policy", "noeviction"),
            lines.get("aof_enabled") == "1",
            lines.get("redis_mode", "standalone"),
            int(lines.get("used_memory", 0)),
        )

    @classmethod
    def of_hello(cls, reply: object) -> "ServerInfo":
        """Read the reply to HELLO, which tells only the mode."""
        flat = reply if isinstance(reply, list) else []
        about = dict(zip(flat[::2], flat[1::2], strict=False))
        mode = about.get(b"mode", b"standalone")
        return cls(mode=mode.decode(errors="replace") if isinstance(mode, bytes) else "standalone")

    def check_mode(self, where: str) -> None:
        """Check that this is a single Redis, or a master with replicas.

        Raises:
            BackendRefused: it is a Redis Cluster or a Sentinel.
        """
        if self.mode == "cluster":
            raise BackendRefused(f"{where}: {CLUSTER}")
        if self.mode == "sentinel":
            raise BackendRefused(
                f"{where}: this is a Sentinel, not a Redis; name the Sentinel and the service, as in "
                "redis+sentinel://host:26379/mymaster"
            )


class Script(NamedTuple):
    """A Lua script.

    Attributes:
        name: name of its file without the suffix.
        source: the text that Redis loads.
        sha: SHA-1 of the source, by which Redis runs a loaded script.
    """

    name: str
    source: bytes
    sha: str

    @property
    def is_reading(self) -> bool:
        """Whether the script only reads."""
        return b"no-writes" in self.source.partition(b"\n")[0]


MAX_IDS = 200
"""Ids in one script call: a script blocks Redis for all its clients, so none may take long."""

MAX_OUTBOXES = 50
"""Outboxes that one script call writes to."""

MAX_SCANNED = 500
"""Ids that one command of a scan visits; Redis may visit a few more."""

Arguments = tuple[str | bytes | int, ...]
"""Arguments of a script."""

Command = tuple[str | bytes | int, ...]
"""One Redis command with its arguments."""


class Call(NamedTuple):
    """One run of a script."""

    script: Script
    keys: tuple[str, ...]
    args: Arguments

    @property
    def command(self) -> Command:
        """The command that runs it."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)


class JointCommand(tuple[Any, ...]):
    """A run of a script that may be made together with its neighbours.

    The first two keys and the first three arguments are the same for all that run together. Then the script
    takes the other keys and arguments of each, of which the second is a body. It replies with a list of the
    replies that each would have got alone, or with one error for all.
    """

    __slots__ = ()

    @property
    def shared(self) -> Command:
        """What has to be the same for all: the script, keys and arguments."""
        keys = self[2]
        return (*self[:2], *self[3:5], *self[3 + keys : 6 + keys])


def chunks(ids: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Cut `ids` into pieces of at most `size`."""
    if 0 < len(ids) <= size:
        return [ids]
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def named(**args: str | int) -> bytes:
    """Return the arguments of a script as one MessagePack map; Redis reads no binary values in it."""
    return msgspec.msgpack.encode(args)


@lru_cache(256)
def ms(seconds: float) -> int:
    """Convert seconds to milliseconds, at least 1: Redis reads 0 as "forever" or "at once"."""
    return max(1, round(seconds * 1000))


class Handshake(Protocol):
    """First commands on every connection, and the conditions that the Redis has to meet."""

    lacking: list[str] | None
    """Rights that the Redis user lacks, so that commands need `permit`; None before the first connection."""

    @property
    def commands(self) -> list[Command]:
        """The commands to send; `check` reads the replies.

        The others follow when Redis has replied to the first: it closes a connection that sends more than
        16 KiB in one piece before it has logged in, which would hide the error for a missing password.
        """

    @property
    def farewell(self) -> list[Command]:
        """The commands to send to a master that is left for another one; their replies are ignored."""

    def check(self, where: str, replies: Sequence[Any]) -> ServerInfo:
        """Read the replies.

        Raises:
            BackendRefused: this Redis must not be used.
            RedisError: Redis replied with this error.
        """

    def permit(self, where: str, commands: Sequence[Command]) -> None:
        """Check that the Redis user has the rights for commands.

        Raises:
            BackendRefused: some are missing; the next connection checks again.
        """

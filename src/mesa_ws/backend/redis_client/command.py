"""Commands and scripts, as values: what is written to Redis, and how its replies are read."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ...errors import BackendRefused

CLUSTER = (
    "Redis Cluster is not supported; use one Redis, with replicas and Sentinel where it has to survive a "
    "machine, and a redis:// or redis+sentinel:// address"
)


class ServerInfo(NamedTuple):
    """What a Redis says about itself.

    Attributes:
        version: of Redis, or of the Redis that it stands for.
        max_memory: bytes that it may use; 0 for any number.
        policy: what it does when it is full.
        has_log: whether it writes changes to a file (AOF).
        mode: `standalone`, `cluster` or `sentinel`.
    """

    version: tuple[int, ...] = ()
    max_memory: int = 0
    policy: str = "noeviction"
    has_log: bool = False
    mode: str = "standalone"

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
        )

    @classmethod
    def of_hello(cls, reply: object) -> "ServerInfo":
        """Read the reply to HELLO, which tells little."""
        flat = reply if isinstance(reply, list) else []
        about = dict(zip(flat[::2], flat[1::2], strict=False))
        mode = about.get(b"mode", b"standalone")
        return cls(mode=mode.decode(errors="replace") if isinstance(mode, bytes) else "standalone")

    def check_mode(self, where: str) -> None:
        """See that this is one Redis, or the master of some.

        Raises:
            BackendRefused: it is of another kind.
        """
        if self.mode == "cluster":
            raise BackendRefused(f"{where}: {CLUSTER}")
        if self.mode == "sentinel":
            raise BackendRefused(
                f"{where}: expected a Redis, got a Sentinel; name it and the service, as in "
                "redis+sentinel://host:26379/mymaster"
            )


class Script(NamedTuple):
    """A script as Redis knows it.

    Attributes:
        name: name of its file without the suffix.
        source: what Redis runs.
        sha: name by which Redis runs what it has loaded.
    """

    name: str
    source: bytes
    sha: str

    @property
    def is_reading(self) -> bool:
        """Whether it only looks."""
        return b"no-writes" in self.source.partition(b"\n")[0]


MAX_IDS = 200
"""Ids in one script call: a script blocks Redis for everybody, so none may take long."""

MAX_SCANNED = 500
"""Ids that a look at all of them passes in one command; Redis may pass a few more."""


Command = tuple[str | bytes | int, ...]
"""One Redis command as it is sent."""


class Call(NamedTuple):
    """One run of a script."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[str | bytes | int, ...]

    @property
    def command(self) -> Command:
        """The command that runs it."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)


def chunks(ids: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Cut `ids` into pieces of at most `size`."""
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def ms(seconds: float) -> int:
    """Milliseconds, never none: that would mean forever, or at once."""
    return max(1, round(seconds * 1000))


class Handshake(Protocol):
    """What every connection begins with, and what has to be true of the Redis it reached."""

    @property
    def scripts(self) -> Sequence[Script]:
        """What every connection loads."""
        ...

    @property
    def commands(self) -> list[Command]:
        """What to send; `check` takes the replies."""
        ...

    @property
    def farewell(self) -> list[Command]:
        """What to send to a master that is left for another one; the replies do not matter."""
        ...

    def check(self, where: str, replies: Sequence[Any]) -> ServerInfo:
        """Read the replies.

        Raises:
            BackendRefused: this Redis must not be used.
            RedisError: what it replied with.
        """
        ...

    def permit(self, where: str, commands: Sequence[Command]) -> None:
        """Check that the user of Redis has the rights for commands.

        Raises:
            BackendRefused: it lacks some; a new connection looks again.
        """
        ...

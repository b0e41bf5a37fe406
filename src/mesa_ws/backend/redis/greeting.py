"""What every connection says before it is used, and what has to be true of the Redis it reached."""

import logging
import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...errors import BackendRefused
from .connection import raise_first
from .keys import Keys
from .plan import Command, check_handshake, handshake

INFO: Command = ("INFO", "server", "memory", "persistence")

_log = logging.getLogger("mesa_ws.backend")


class Facts(NamedTuple):
    """What a Redis says about itself.

    Attributes:
        version: of Redis, or of the Redis that it stands for.
        max_memory: bytes that it may use; 0 for any number.
        policy: what it does when it is full.
        has_log: whether it writes changes to a file (AOF).
    """

    version: tuple[int, ...] = ()
    max_memory: int = 0
    policy: str = "noeviction"
    has_log: bool = False

    @classmethod
    def of(cls, reply: object) -> "Facts":
        """Read the reply to INFO."""
        text = reply.decode(errors="replace") if isinstance(reply, bytes) else ""
        lines = dict(re.findall(r"^(\w+):(.*?)\r?$", text, re.MULTILINE))
        return cls(
            tuple(int(part) for part in re.findall(r"\d+", lines.get("redis_version", ""))),
            int(lines.get("maxmemory", 0)),
            lines.get("maxmemory_policy", "noeviction"),
            lines.get("aof_enabled") == "1",
        )


class Greeting:
    """The first words on each connection of one user of Redis.

    Args:
        keys: names of the namespace.
        stores: whether messages are going to be kept there.
        allow_eviction: keep them even in a Redis that may forget them by itself.
    """

    def __init__(self, keys: Keys, *, stores: bool = False, allow_eviction: bool = False) -> None:
        self._keys = keys
        self.stores = stores
        self._allow_eviction = allow_eviction
        self._has_warned = False
        self._has_warned_of_wire = False

    @property
    def commands(self) -> list[Command]:
        """What to send; `check` takes the replies."""
        return [INFO, living(self._keys.leases_of_1x), *handshake(self._keys)]

    def check(self, where: str, replies: Sequence[Any]) -> Facts:
        """Read the replies.

        Raises:
            BackendRefused: this Redis must not be used.
            RedisError: what it replied with.
        """
        about, others, *hands = replies
        raise_first([about, *hands])
        check_handshake(self._keys, hands)
        self.warn_of_wire(where, others, ours="native", theirs="mesa1")
        facts = Facts.of(about)
        if self.stores:
            self.check_store(where, facts)
        return facts

    def check_store(self, where: str, facts: Facts) -> None:
        """See that messages can be kept there.

        Raises:
            BackendRefused: this Redis may forget them by itself.
        """
        if facts.max_memory and facts.policy != "noeviction" and not self._allow_eviction:
            raise BackendRefused(
                f"{where}: expected maxmemory-policy noeviction, so that no stored message is forgotten "
                f"unsaid, got {facts.policy} with a maxmemory of {facts.max_memory}; change it in "
                "redis.conf, or accept that with Sync(allow_eviction=True)"
            )
        if not facts.has_log and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "%s: appendonly is off; when it restarts, stored messages since its last snapshot are lost",
                where,
            )

    def warn_of_wire(self, where: str, others: object, *, ours: str, theirs: str) -> None:
        """Say once that servers speak the other wire, by the reply to `living`; an error tells nothing."""
        if isinstance(others, int) and others > 0 and not self._has_warned_of_wire:
            self._has_warned_of_wire = True
            _log.warning(
                "%s: %d servers of this namespace speak wire %r, and this process wire %r; the two do not "
                "meet, so give all of them the same `wire`",
                where,
                others,
                theirs,
                ours,
            )


def living(leases: str) -> Command:
    """Count nodes by their leases. It is only told of, so the clock of this process is good enough."""
    return ("ZCOUNT", leases, round(time.time() * 1000), "+inf")

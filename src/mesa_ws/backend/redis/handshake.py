"""What every connection says before it is used, and what has to be true of the Redis it reached."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from ...errors import BackendRefused, InvalidSettings
from ...settings import Seconds, Settings
from ..redis_client.command import Call, Command, Script, ServerInfo
from ..redis_client.connection import is_forbidden, lacking_rights, raise_first
from .keys import EXPIRY, PARTITIONS, Keys
from .rights import READING, Rights, of_server
from .scripts import LEAVE, SCRIPTS

LEFT = 15.0
"""Seconds for which nothing is stored in a master that was left; Sentinels make it a replica by then."""

INFO: Command = ("INFO", "server", "memory", "persistence")

HELLO: Command = ("HELLO",)
"""Asks for what users without INFO may know."""

_log = logging.getLogger("mesa_ws.backend")


class NativeHandshake:
    """The first words on each connection of one user of Redis.

    Rights are looked at on the first connection, and again while some are lacking: what only reads is
    carried out without them, and nothing else is begun. A right that is taken away later costs what needs
    it, and nothing else.

    Args:
        keys: names of the namespace.
        rights: what the process needs; None for what a server does.
        stores: whether messages are going to be kept there.
        allow_eviction: keep them even in a Redis that may forget them by itself.
    """

    scripts: Sequence[Script] = SCRIPTS
    """What every connection loads."""

    def __init__(
        self,
        keys: Keys,
        rights: Rights | None = None,
        *,
        stores: bool = False,
        allow_eviction: bool = False,
    ) -> None:
        self._keys = keys
        self._rights = rights or of_server(keys)
        self._lacking: list[str] | None = None
        self.stores = stores
        self._allow_eviction = allow_eviction
        self._has_warned = False
        self._has_warned_of_wire = False

    @property
    def commands(self) -> list[Command]:
        """What to send; `check` takes the replies."""
        return [INFO, living(self._keys.leases_of_1x), *layout_commands(self._keys), *self._asking()]

    @property
    def farewell(self) -> list[Command]:
        """What to send to a master that is left for another one; the replies do not matter."""
        marks = (self._keys.left, self._keys.broadcasts_left)
        return [Call(LEAVE, (mark,), (round(LEFT * 1000),)).command for mark in marks]

    def check(self, where: str, replies: Sequence[Any]) -> ServerInfo:
        """Read the replies.

        Raises:
            BackendRefused: this Redis must not be used.
            RedisError: what it replied with.
        """
        about, others, *hands = replies
        raise_first([about])
        facts = ServerInfo.of(about)
        facts.check_mode(where)
        layout = len(self.scripts)
        raise_first(hands[:layout])
        if is_forbidden(hands[layout]):
            raise lacking_rights(where, ["+hget", f"%R~{self._keys.meta}"])
        raise_first(hands[layout:])
        check_layout(self._keys, hands[: layout + 1])
        self._note_rights(hands[layout + 1 :])
        self.warn_of_wire(where, others, ours="native", theirs="mesa1")
        if self.stores:
            self.check_store(where, facts)
        return facts

    def permit(self, where: str, commands: Sequence[Command]) -> None:
        """See that the user has the rights for commands; one that lacks some may still look.

        Raises:
            BackendRefused: it lacks some; a new connection looks again.
        """
        if self._lacking and not all(map(self._is_reading, commands)):
            raise lacking_rights(where, self._lacking)

    def _asking(self) -> list[Command]:
        return [] if self._lacking == [] else [self._rights.command]

    def _note_rights(self, replies: Sequence[Any]) -> None:
        """Read the reply to `_asking`, if that was asked."""
        for reply in replies:
            self._lacking = self._rights.lacking(reply)

    def _is_reading(self, command: Command) -> bool:
        if command[0] == "EVALSHA":
            return any(each.is_reading and each.sha == command[1] for each in self.scripts)
        return command[0] in READING

    def check_store(self, where: str, facts: ServerInfo) -> None:
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


def layout_commands(keys: Keys) -> list[Command]:
    """What every connection says before it is used: the scripts, then the layout."""
    loads: list[Command] = [("SCRIPT", "LOAD", script.source) for script in SCRIPTS]
    return [*loads, ("HGET", keys.meta, "partitions")]


def check_layout(keys: Keys, replies: Sequence[Any]) -> None:
    """Read the replies to `layout_commands`.

    Raises:
        BackendRefused: the cluster has another layout, so messages would not be found.
    """
    found = replies[-1]
    if found is not None and found != b"%d" % PARTITIONS:
        raise BackendRefused(
            f"{keys.meta}: expected a cluster of {PARTITIONS} partition, as this program makes it, got "
            f"{found.decode(errors='replace')[:20]}; run one version everywhere, or use another namespace"
        )


class Timing(Settings, frozen=True, kw_only=True):
    """Checked durations, in seconds.

    Args:
        timeout: for one call, connecting included.
        lease: without a sign of life, after which others take a node for dead.
        expiry: after the last heartbeat, until nothing of a cluster is left in Redis but what is stored.
    """

    timeout: Seconds = 5.0
    lease: Seconds = 15.0
    expiry: Seconds = EXPIRY

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.expiry < 2 * self.lease:
            raise InvalidSettings("expiry", f"at least twice the lease, {2 * self.lease:g} s", self.expiry)

    @classmethod
    def _path(cls, name: str) -> str:
        return name

"""First commands on every connection, and the conditions that the Redis has to meet."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from ...errors import BackendRefused, InvalidSettings
from ...settings import Seconds, Settings
from ..redis.keys import EXPIRY, PARTITIONS, Keys
from ..redis.scripts import LEAVE, SCRIPTS
from ..redis_client.command import Call, Command, Script, ServerInfo
from ..redis_client.connection import is_forbidden, lacking_rights, raise_first
from .rights import READING, Rights, of_server

LEFT = 15.0
"""Seconds for which a master that was left stores nothing; Sentinels make it a replica by then."""

INFO: Command = ("INFO", "server", "memory", "persistence")

HELLO: Command = ("HELLO",)
"""Asks for the description that users without the right to INFO may read."""

_log = logging.getLogger("mesa_ws.backend")


class NativeHandshake:
    """First commands on the connections of one Redis user.

    The rights of the user are checked on the first connection, and on every new one while some are
    missing: until then only commands that read are run. A right that is revoked later fails the commands
    that need it, and no others.

    Args:
        keys: names of the namespace.
        rights: the rights that the process needs; None for those of a server.
        stores: whether messages will be stored there.
        allow_eviction: store messages even in a Redis that evicts keys.
    """

    scripts: Sequence[Script] = SCRIPTS
    """The scripts that every connection loads."""

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
        """The commands to send; `check` reads the replies."""
        return [INFO, living(self._keys.leases_of_1x), *layout_commands(self._keys), *self._rights_command()]

    @property
    def farewell(self) -> list[Command]:
        """The commands to send to a master that is left for another one; their replies are ignored."""
        marks = (self._keys.left, self._keys.broadcasts_left)
        return [Call(LEAVE, (mark,), (round(LEFT * 1000),)).command for mark in marks]

    def check(self, where: str, replies: Sequence[Any]) -> ServerInfo:
        """Read the replies.

        Raises:
            BackendRefused: this Redis must not be used.
            RedisError: Redis replied with this error.
        """
        about, others, *hands = replies
        raise_first([about])
        info = ServerInfo.of(about)
        info.check_mode(where)
        layout = len(self.scripts)
        raise_first(hands[:layout])
        if is_forbidden(hands[layout]):
            raise lacking_rights(where, ["+hget", f"%R~{self._keys.meta}"])
        raise_first(hands[layout:])
        check_layout(self._keys, hands[: layout + 1])
        self._note_rights(hands[layout + 1 :])
        self.warn_of_wire(where, others, ours="native", theirs="mesa1")
        if self.stores:
            self.check_store(where, info)
        return info

    def permit(self, where: str, commands: Sequence[Command]) -> None:
        """Check that the user has the rights for commands; without some, it may still read.

        Raises:
            BackendRefused: some are missing; the next connection checks again.
        """
        if self._lacking and not all(map(self._is_reading, commands)):
            raise lacking_rights(where, self._lacking)

    def _rights_command(self) -> list[Command]:
        return [] if self._lacking == [] else [self._rights.command]

    def _note_rights(self, replies: Sequence[Any]) -> None:
        """Read the reply to `_rights_command`, if that was sent."""
        for reply in replies:
            self._lacking = self._rights.lacking(reply)

    def _is_reading(self, command: Command) -> bool:
        if command[0] == "EVALSHA":
            return any(each.is_reading and each.sha == command[1] for each in self.scripts)
        return command[0] in READING

    def check_store(self, where: str, info: ServerInfo) -> None:
        """Check that this Redis keeps stored messages.

        Raises:
            BackendRefused: it evicts keys when it is full.
        """
        if info.max_memory and info.policy != "noeviction" and not self._allow_eviction:
            raise BackendRefused(
                f"{where}: its maxmemory-policy is {info.policy} with a maxmemory of {info.max_memory}, so "
                "it may silently drop stored messages; expected maxmemory-policy noeviction: set that in "
                "redis.conf, or accept the loss with Sync(allow_eviction=True)"
            )
        if not info.has_log and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "%s: appendonly is off; a restart loses the messages stored since its last snapshot",
                where,
            )

    def warn_of_wire(self, where: str, others: object, *, ours: str, theirs: str) -> None:
        """Log once, from the reply to `living`, that servers use the other wire; ignore an error."""
        if isinstance(others, int) and others > 0 and not self._has_warned_of_wire:
            self._has_warned_of_wire = True
            _log.warning(
                "%s: %d servers of this namespace use wire %r, and this process wire %r; they do not reach "
                "each other, so set the same `wire` everywhere",
                where,
                others,
                theirs,
                ours,
            )


def living(leases: str) -> Command:
    """Count nodes by their leases. Only a warning depends on it, so this process's clock is good enough."""
    return ("ZCOUNT", leases, round(time.time() * 1000), "+inf")


def layout_commands(keys: Keys) -> list[Command]:
    """Return the commands that load the scripts, then read the layout."""
    loads: list[Command] = [("SCRIPT", "LOAD", script.source) for script in SCRIPTS]
    return [*loads, ("HGET", keys.meta, "partitions")]


def check_layout(keys: Keys, replies: Sequence[Any]) -> None:
    """Read the replies to `layout_commands`.

    Raises:
        BackendRefused: the cluster has another layout, so this process would not find its messages.
    """
    found = replies[-1]
    if found is not None and found != b"%d" % PARTITIONS:
        raise BackendRefused(
            f"{keys.meta}: another version of Mesa made this cluster with "
            f"{found.decode(errors='replace')[:20]} partitions, and this one uses {PARTITIONS}; run one "
            "version everywhere, or use another namespace"
        )


class Timing(Settings, frozen=True, kw_only=True):
    """Checked durations, in seconds.

    Args:
        timeout: limit of one call, connecting included.
        lease: time without a heartbeat after which a node counts as dead.
        expiry: time after the last heartbeat until only stored messages of a cluster are left in Redis.
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

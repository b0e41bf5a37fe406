"""First commands on every connection, and the conditions that the Redis has to meet."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from ...errors import BackendRefused
from ..redis_client.command import Command, Script, ServerInfo
from ..redis_client.failures import lacking_rights, raise_first
from .rights import READING, Rights

INFO: Command = ("INFO", "server", "memory", "persistence")

_log = logging.getLogger("mesa_ws.backend")


class WireHandshake(ABC):
    """First commands on the connections of one Redis user; a `Handshake`.

    The rights of the user are checked on the first connection, and on every new one while some are
    missing: until then only commands that read are run. A right that is revoked later fails the commands
    that need it, and no others.

    Args:
        rights: the rights that the process needs.
        stores: whether messages will be stored there.
        allow_eviction: store messages even in a Redis that evicts keys.

    Attributes:
        scripts: the scripts that every connection loads.
        wire: name of the wire.
        other_wire: name of the other one.
        other_leases: key of the leases of nodes on the other wire.
        own_commands: commands of this wire alone, whose replies `check_own` reads.
    """

    scripts: Sequence[Script]
    wire: ClassVar[str]
    other_wire: ClassVar[str]
    other_leases: str
    own_commands: Sequence[Command]

    def __init__(self, rights: Rights, *, stores: bool, allow_eviction: bool) -> None:
        self._rights = rights
        self.lacking: list[str] | None = None
        self._stores = stores
        self._allow_eviction = allow_eviction
        self._has_warned = False
        self._has_warned_of_wire = False

    @property
    def commands(self) -> list[Command]:
        """See `Handshake.commands`."""
        living = ("ZCOUNT", self.other_leases, round(time.time() * 1000), "+inf")
        loads = (("SCRIPT", "LOAD", script.source) for script in self.scripts)
        rights = [] if self.lacking == [] else [self._rights.command]
        return [INFO, living, *loads, *self.own_commands, *rights]

    @property
    def farewell(self) -> list[Command]:
        """See `Handshake.farewell`."""
        return []

    def check(self, where: str, replies: Sequence[Any]) -> ServerInfo:
        """Read the replies; see `Handshake.check`."""
        own, rights = 2 + len(self.scripts), 2 + len(self.scripts) + len(self.own_commands)
        info = self.server_info(replies[0], replies[own:rights])
        info.check_mode(where)
        raise_first(replies[2:own])
        self.check_own(where, replies[own:rights])
        raise_first(replies[rights:])
        for reply in replies[rights:]:
            self.lacking = self._rights.lacking(reply)
        self._warn_of_wire(where, replies[1])
        if self._stores:
            self.check_store(where, info)
        return info

    def permit(self, where: str, commands: Sequence[Command]) -> None:
        """Check that the user has the rights for commands; see `Handshake.permit`. It may always read."""
        if self.lacking and not all(map(self._is_reading, commands)):
            raise lacking_rights(where, self.lacking)

    def _is_reading(self, command: Command) -> bool:
        if command[0] == "EVALSHA":
            return any(each.is_reading and each.sha == command[1] for each in self.scripts)
        return command[0] in READING

    def server_info(self, about: Any, own: Sequence[Any]) -> ServerInfo:
        """Read the reply to `INFO`.

        Raises:
            RedisError: Redis replied with this error.
        """
        raise_first([about])
        return ServerInfo.of(about)

    @abstractmethod
    def check_own(self, where: str, replies: Sequence[Any]) -> None:
        """Read the replies to `own_commands`; raises as `check`."""

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

    def _warn_of_wire(self, where: str, others: object) -> None:
        """Log once that servers use the other wire; ignore an error.

        Only a warning depends on that number, so the clock of this process is good enough for it.
        """
        if isinstance(others, int) and others > 0 and not self._has_warned_of_wire:
            self._has_warned_of_wire = True
            _log.warning(
                "%s: %d servers of this namespace use wire %r, and this process wire %r; they do not reach "
                "each other, so set the same `wire` everywhere",
                where,
                others,
                self.other_wire,
                self.wire,
            )

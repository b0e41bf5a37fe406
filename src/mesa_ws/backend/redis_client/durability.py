"""Durability of stored messages: WAIT and WAITAOF after the script that stored them.

Both commands cover everything that their own connection wrote before, so one of each proves a whole
group. They block the commands that follow on the same connection.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from ...errors import BackendUnavailable, Unsupported
from ...settings import Durability
from .address import Address
from .command import Command, ServerInfo
from .connection import AsyncConnection
from .resolver import APART

SAFE = "dispatching again with the same idempotency key is safe"


class Proof(NamedTuple):
    """Durability that the dispatches of one call have to reach.

    Attributes:
        levels: `fsync`, `replicated`, or both.
        replicas: reads the number of replicas from the replies of the scripts.
        advice: text of the error when the durability is not reached in time.
    """

    levels: Collection[Durability]
    replicas: Callable[[Sequence[Any]], int]
    advice: str = SAFE

    def check(self, where: str, info: ServerInfo) -> None:
        """Check, before anything is sent, that this Redis can give the proof.

        Raises:
            Unsupported: it cannot.
        """
        if "fsync" not in self.levels:
            return
        if info.version < (7, 2):
            version = ".".join(map(str, info.version)) or "an unknown version"
            raise Unsupported(
                f"{where}: durability 'fsync' needs Redis 7.2 or later, got {version}; "
                "use 'replicated' or 'memory', or a newer Redis"
            )
        if not info.has_log:
            raise Unsupported(
                f"{where}: durability 'fsync' needs a Redis that writes a log; "
                "set 'appendonly yes' in redis.conf"
            )

    def lost_master(self, where: str) -> BackendUnavailable:
        """Return the error for a message stored by a Redis that is no longer the master."""
        return BackendUnavailable(
            f"{where}: stored, but Sentinel has named another master since; {SAFE}", maybe_sent=True
        )

    def demand(self, replies: Sequence[Any]) -> "Demand":
        """Return the copies to wait for, now that the scripts have run."""
        replicas = self.replicas(replies) if "replicated" in self.levels else 0
        return Demand(replicas, int("fsync" in self.levels), self.advice)


class Demand(NamedTuple):
    """Copies that have to exist.

    Attributes:
        replicas: replicas that have to hold the message in memory.
        logs: 1 if the Redis itself has to have it on its disk.
        advice: text of the error when there are fewer.
    """

    replicas: int = 0
    logs: int = 0
    advice: str = SAFE

    @classmethod
    def of(cls, demands: Collection["Demand"]) -> "Demand":
        """Return a demand that satisfies all of `demands`."""
        return cls(max(each.replicas for each in demands), max(each.logs for each in demands))

    def commands(self, seconds: float) -> list[Command]:
        """Return commands that wait a little less than `seconds`, on the connection of the scripts."""
        limit = max(1, int(seconds * 900))
        wait: list[Command] = [("WAIT", self.replicas, limit)] if self.replicas else []
        return wait + ([("WAITAOF", self.logs, 0, limit)] if self.logs else [])

    def shortfall(self, where: str, asked: "Demand", replies: Sequence[Any]) -> BackendUnavailable | None:
        """Return the error if the replies fall short; `asked`, whose commands were sent, asks for no less."""
        wanted_of = [("replicas", self.replicas)] * bool(asked.replicas) + [("logs", self.logs)] * asked.logs
        for (name, wanted), reply in zip(wanted_of, replies, strict=True):
            count = reply[0] if isinstance(reply, list) else reply
            if not isinstance(count, int) or count < wanted:
                got = f"only {count} of {wanted} {name} confirmed in time"
                if not isinstance(count, int):
                    got = f"Redis did not confirm it ({reply})"
                return BackendUnavailable(f"{where}: stored, but {got}; {self.advice}", maybe_sent=True)
        return None

    def unsure(self, where: str) -> BackendUnavailable:
        """Return the error for fewer replicas than before, since a missing one may be a master now."""
        return BackendUnavailable(
            f"{where}: stored, but a replica is missing and may have become the master; {self.advice}",
            maybe_sent=True,
        )


async def prove(
    address: Address, connection: AsyncConnection, demands: Collection[Demand], limit: float
) -> list[BackendUnavailable | None]:
    """Wait `limit` seconds for copies, on the connection of the scripts; return the failure of each demand.

    The result counts only if no other master was named by then.
    """
    asked = Demand.of(demands)
    due = connection.master.due(asked.replicas, time.monotonic())
    replies = await connection.converse(asked.commands(limit))
    failures = [demand.shortfall(address.label, asked, replies) for demand in demands]
    if due is None or all(failures) or await _hold(address, due, limit):
        return failures
    return [
        failure or (demand.unsure(address.label) if demand.replicas else None)
        for demand, failure in zip(demands, failures, strict=True)
    ]


async def _hold(address: Address, due: float, limit: float) -> bool:
    """Hold back confirmations of fewer replicas than before; return whether they count. See `master`."""
    await asyncio.sleep(due - time.monotonic())
    now = time.monotonic()
    masters = address.masters
    return masters is not None and await masters.aconfirm(max(due, now - APART), now + limit)

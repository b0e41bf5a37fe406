"""What makes a message durable: the proof that is asked for behind the script that stored it.

WAIT and WAITAOF speak of everything that their own connection wrote before, so one of each proves
a whole batch. They hold up whatever follows them on that connection.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from ...errors import BackendUnavailable, Unsupported
from ...settings import Durability
from .command import Command, ServerInfo

SAFE = "dispatching again with the same idempotency key is safe"


class Proof(NamedTuple):
    """What the dispatches of one call have to reach.

    Attributes:
        levels: `fsync`, `replicated`, or both.
        replicas: reads from the replies of the scripts how many replicas there are.
        advice: what to do when it is not reached in time.
    """

    levels: Collection[Durability]
    replicas: Callable[[Sequence[Any]], int]
    advice: str = SAFE

    def check(self, where: str, info: ServerInfo) -> None:
        """See that this Redis can give the proof, before anything is sent.

        Raises:
            Unsupported: it cannot.
        """
        if "fsync" not in self.levels:
            return
        if info.version < (7, 2):
            version = ".".join(map(str, info.version)) or "an unknown version"
            raise Unsupported(
                f"{where}: durability 'fsync' needs Redis 7.2 or later, got {version}; nothing was sent; "
                "use 'replicated' or 'memory', or a newer Redis"
            )
        if not info.has_log:
            raise Unsupported(
                f"{where}: durability 'fsync' needs a Redis that writes a log; nothing was sent; "
                "set 'appendonly yes' in redis.conf"
            )

    def lost_master(self, where: str) -> BackendUnavailable:
        """The error for what was stored by a Redis that is not the master any more."""
        return BackendUnavailable(
            f"{where}: stored, but another master was named since; {SAFE}", maybe_sent=True
        )

    def demand(self, replies: Sequence[Any]) -> "Demand":
        """What has to be waited for, now that the scripts were run."""
        replicas = self.replicas(replies) if "replicated" in self.levels else 0
        return Demand(replicas, int("fsync" in self.levels), self.advice)


class Demand(NamedTuple):
    """How many copies there have to be.

    Attributes:
        replicas: replicas that have the message in memory.
        logs: 1 if Redis itself has to have it on its disk.
        advice: what to do when there are fewer.
    """

    replicas: int = 0
    logs: int = 0
    advice: str = SAFE

    @classmethod
    def of(cls, demands: Collection["Demand"]) -> "Demand":
        """What satisfies all of `demands`."""
        return cls(max(each.replicas for each in demands), max(each.logs for each in demands))

    def commands(self, seconds: float) -> list[Command]:
        """Wait for it on the connection that ran the scripts, a little less than `seconds`."""
        limit = max(1, int(seconds * 900))
        wait: list[Command] = [("WAIT", self.replicas, limit)] if self.replicas else []
        return wait + ([("WAITAOF", self.logs, 0, limit)] if self.logs else [])

    def shortfall(self, where: str, asked: "Demand", replies: Sequence[Any]) -> BackendUnavailable | None:
        """Judge the replies to the commands of `asked`, which asks for no less."""
        for name, wanted, reply in zip(asked._named(), self._wanted(asked), replies, strict=True):
            count = reply[0] if isinstance(reply, list) else reply
            if not isinstance(count, int) or count < wanted:
                got = f"only {count} of {wanted} {name} confirmed in time"
                if not isinstance(count, int):
                    got = f"no confirmation came ({reply})"
                return BackendUnavailable(f"{where}: stored, but {got}; {self.advice}", maybe_sent=True)
        return None

    def unsure(self, where: str) -> BackendUnavailable:
        """The error for a confirmation of fewer replicas than before, of which one may be a master now."""
        return BackendUnavailable(
            f"{where}: stored, but a replica is missing, and it is not certain that none became the master; "
            f"{self.advice}",
            maybe_sent=True,
        )

    def _named(self) -> list[str]:
        return ["replicas"] * bool(self.replicas) + ["logs"] * bool(self.logs)

    def _wanted(self, asked: "Demand") -> list[int]:
        return [self.replicas] * bool(asked.replicas) + [self.logs] * bool(asked.logs)

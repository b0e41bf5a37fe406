"""Mutants of the shipped scripts, each of which breaks one promise that the model must notice."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mesa_ws.backend.redis_client.master import Master, MasterChoice, Report


class Mutant(NamedTuple):
    """A change to the shipped scripts.

    Attributes:
        name: the broken promise.
        old: text of the scripts.
        new: its replacement.
        scripts: names of the changed scripts.
        is_split: whether a node registers only after it has read.
        is_scattered: whether each connection of a process queries the master by itself.
        broken: an attribute of the shipped modules, and its replacement.
    """

    name: str
    old: str
    new: str
    scripts: tuple[str, ...]
    is_split: bool = False
    is_scattered: bool = False
    broken: tuple[str, object] | None = None

    def of(self, shipped: Mapping[str, str]) -> dict[str, str]:
        """Return all scripts, with the changed ones."""
        mutated = dict(shipped)
        for name in self.scripts:
            assert self.old in shipped[name], f"{self.name}: {name}.lua has no {self.old!r} any more"
            mutated[name] = shipped[name].replace(self.old, self.new)
        return mutated


def take_any_report(choice: MasterChoice, reports: Sequence[Report], now: float) -> None:
    """Believe the first Sentinel that answers, whatever the others report."""
    for report in reports[:1]:
        choice.master = Master(*report[:3])


OUTBOX = ("dispatch", "attach", "purge", "announce", "broadcasts")

MUTANTS = (
    Mutant("numbers of another run are continued", "return run ~= host.id and", "return false and", OUTBOX),
    Mutant("a run outlives a promotion", " or was_replica then", " then", OUTBOX),
    Mutant("a run outlives its process", "process ~= last_process or ", "", OUTBOX),
    Mutant("a first replica begins another run", "or was_replica then", "or true then", OUTBOX),
    Mutant("a rollback is not told", "ended, rollback_name(box.r)", "ended, ''", ("attach", "broadcasts")),
    Mutant(
        "an attach reads before it registers",
        "if visit.sockets == ''",
        "if visit.sockets == '' or visit.mode ~= ''",
        ("attach",),
        is_split=True,
    ),
    Mutant("a dispatch is not remembered", "if ARGV[5] == '0' or count == 0", "if true", ("dispatch",)),
    Mutant(
        "an expired lease lets a node attach",
        "if not lease_reader(KEYS[1], now_ms())(node)",
        "if not redis.call('ZSCORE', KEYS[1], node)",
        ("attach",),
    ),
    Mutant(
        "an expired lease is renewed",
        "is_live(node)",
        "redis.call('ZSCORE', leases, node)",
        ("heartbeat",),
    ),
    Mutant(
        "who is missed while Redis is away is cleaned up after",
        "if must_wait(signs, now) then return nil end",
        "",
        ("reap",),
    ),
    Mutant(
        "a silence of all is not noticed",
        "return known.at ~= nil and known.by ~= nil and known.at <= now and known.by < now",
        "return false",
        ("heartbeat", "reap", "depart"),
    ),
    Mutant(
        "a node that messages passed over is not told",
        "call('HSET', passed_over, '+' .. running[i], 1)",
        "",
        ("heartbeat",),
    ),
    Mutant(
        "what leaves need not be proven by all",
        "math.min(box.a, lowest(user, box.e))",
        "box.a",
        ("ack",),
    ),
    Mutant(
        "a fork restarts the numbers",
        "change(box, 'f', forks)",
        "change(box, 'f', forks) change(box, 's', 0)",
        OUTBOX,
    ),
    Mutant("what outlives its time is not counted", "\nnote_dropped(box)\n", "\n", ("dispatch", "attach")),
    Mutant(
        "what is sent to everybody is not remembered",
        "if ARGV[5] == '0' or count == 0",
        "if true",
        ("announce",),
    ),
    Mutant("who missed messages is not told", "start - wanted, box.is_aside", "0, box.is_aside", ("attach",)),
    Mutant(
        "an outbox is forgotten while its first epoch may be given out again",
        "math.max(tonumber(ttl), BORN)",
        "ttl",
        ("dispatch",),
    ),
    Mutant(
        "a list that was about to end does not outlive what comes after",
        "acknowledged < since and since <= top",
        "since > 0",
        ("dispatch",),
    ),
    Mutant("a message outlives its list", " and lasts >= expires", "", ("dispatch",)),
    Mutant(
        "an acknowledgement from nowhere is believed",
        "if not top then return nil end",
        "top = high",
        ("ack",),
    ),
    Mutant("a process uses two masters at once", "", "", (), is_scattered=True),
    Mutant(
        "a process goes back to a master that it had left",
        "",
        "",
        (),
        broken=("mesa_ws.backend.redis_client.master.MasterChoice.take", take_any_report),
    ),
    Mutant(
        "a process stays at a master without replicas",
        "",
        "",
        (),
        broken=("mesa_ws.backend.redis_client.failures._ALONE", ("UNBLOCKED ",)),
    ),
)

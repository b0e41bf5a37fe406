"""Check of the Redis user's rights, made once before anything is written.

`ACL DRYRUN` would answer, but only to administrators. So a read-only script tries each command: Redis
checks the rights first, and then refuses to write.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import msgspec

from ..redis_client.command import Command, Script
from .keys import WireKeys
from .scripts import RIGHTS

READING = frozenset(
    {"GET", "HGET", "HMGET", "SCARD", "SISMEMBER", "XRANGE", "XREAD", "ZCOUNT", "ZSCAN"}
)  # fmt: skip
"""Commands by which dispatchers and portals only read; a user without other rights may run them."""

_FORMS = {
    form.split()[0]: tuple(form.split())
    for form in (
        *("DEL k", "EXISTS k", "PEXPIRE k 1", "PTTL k", "RENAME k k", "TYPE k", "MEMORY USAGE k"),
        *("GET k", "INCRBY k 1", "SET k v"),
        *("HDEL k f", "HGET k f", "HGETALL k", "HINCRBY k f 1", "HLEN k", "HMGET k f", "HRANDFIELD k 1"),
        *("HSET k f v", "HSETNX k f v", "HVALS k"),
        *("LINDEX k 0", "LLEN k", "LRANGE k 0 0", "LTRIM k 0 0", "RPUSH k v"),
        *("SADD k m", "SISMEMBER k m", "SMEMBERS k", "SRANDMEMBER k 1", "SREM k m", "SSCAN k 0"),
        *("XADD k * f v", "XDEL k 0-0", "XLEN k", "XRANGE k - +", "XREVRANGE k + -", "XTRIM k MAXLEN 0"),
        "XREAD STREAMS k 0-0",
        *("ZADD k 0 m", "ZCOUNT k 0 0", "ZRANGE k 0 0", "ZRANGEBYSCORE k 0 0", "ZREM k m"),
        *("ZREMRANGEBYRANK k 0 0", "ZREMRANGEBYSCORE k 0 0", "ZREVRANGEBYSCORE k 0 0", "ZSCORE k m"),
        *("PUBLISH c m", "PUBSUB NUMSUB c", "INFO replication", "TIME"),
    )
}
"""Trial form of each command that scripts run: `k` is a key, `c` a channel."""

_CALLED = re.compile(rb"\b(?:call|pcall|try)\('([A-Z]+)'")


class GrantedName(NamedTuple):
    """A key or a channel.

    Attributes:
        pattern: pattern that grants it, as ACL SETUSER takes it.
        name: a name that the pattern matches.
        is_written: for a key, whether it is written.
    """

    pattern: str
    name: str
    is_written: bool = True


class Rights:
    """Rights that a process needs.

    Args:
        scripts: the scripts by which it writes.
        keys: the keys that it reads and writes; the first is one of Mesa's own keys.
        channels: the channels that it publishes to.
        more: names of commands that it sends outside of scripts.
        without: commands of the scripts that are optional.
    """

    def __init__(
        self,
        scripts: Iterable[Script],
        keys: Sequence[GrantedName],
        channels: Sequence[GrantedName],
        more: Iterable[str] = (),
        without: Iterable[str] = (),
    ) -> None:
        named = {name for each in scripts for name in commands_of(each)}
        names = sorted((named | set(more)) - set(without))
        self._tried: list[tuple[tuple[str, ...], GrantedName]] = [
            *((("EXISTS", place.name), place) for place in keys),
            *((("PEXPIRE", place.name, "1"), place) for place in keys if place.is_written),
            *((("PUBLISH", place.name, ""), place) for place in channels),
            *(_trial(_FORMS[name], keys[0], channels[0]) for name in names),
        ]
        self.command: Command = (
            "EVALSHA", RIGHTS.sha, 0, msgspec.msgpack.encode([form for form, _ in self._tried])
        )  # fmt: skip
        """Command that checks the rights; `lacking` reads the reply."""

    def lacking(self, reply: Sequence[Any]) -> list[str]:
        """Return the missing rights, as ACL SETUSER takes them."""
        return list(
            dict.fromkeys(
                _lacking(*self._tried[number - 1], problem=problem.decode(errors="replace"))
                for number, problem in zip(reply[::2], reply[1::2], strict=True)
            )
        )


def own_keys(keys: WireKeys) -> GrantedName:
    """Name Mesa's own keys of a namespace."""
    return GrantedName(f"~{keys.prefix}*", keys.done("rights"))


def own_channels(keys: WireKeys) -> GrantedName:
    """Name Mesa's own channels of a namespace."""
    return GrantedName(f"&{keys.prefix}*", keys.channel("rights"))


@cache
def commands_of(script: Script) -> frozenset[str]:
    """Return the commands that a script may run."""
    return frozenset(name.decode() for name in _CALLED.findall(script.source))


def _trial(
    form: tuple[str, ...], key: GrantedName, channel: GrantedName
) -> tuple[tuple[str, ...], GrantedName]:
    """Return a command to try, and the key or channel that it tries."""
    command = tuple({"k": key.name, "c": channel.name}.get(part, part) for part in form)
    return command, channel if "c" in form else key


def _lacking(command: tuple[str, ...], place: GrantedName, *, problem: str) -> str:
    """Return the right that a command lacks, from the error text of Redis 7.0 or later."""
    if re.search("(a|the) (key|channel)s? ", f"{problem} "):
        return place.pattern
    has_parts = command[0] in ("MEMORY", "PUBSUB")
    return f"+{'|'.join(command[:2] if has_parts else command[:1])}".lower()

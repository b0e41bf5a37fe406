"""The Lua scripts, each one atomic step; their files say what they do, take and return."""

from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple


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


def _read(name: str, package: str | None = __package__) -> str:
    return files(package or "").joinpath("scripts", f"{name}.lua").read_text("utf-8")


def _without_comments(text: str) -> str:
    """Every connection brings all scripts; half of them is written for people."""
    return "\n".join(
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--")
    )


def script(name: str, *parts: str, package: str | None = __package__) -> Script:
    """The script of a file, with leases, prelude and other parts between its flags and its body."""
    flags, body = _read(name, package).split("\n", 1)
    texts = [_read("access"), _read("leases"), *(_read(part, package) for part in ("prelude", *parts)), body]
    source = "\n".join([flags, *map(_without_comments, texts)]).encode()
    return Script(name, source, sha1(source, usedforsecurity=False).hexdigest())


RELAY = script("relay")
BROADCAST = script("broadcast")
ONLINE = script("online")
TALLY = script("tally")
DETACH = script("detach")
HEARTBEAT = script("heartbeat")
REAP = script("reap", "inbox")
DEPART = script("depart")

DISPATCH = script("dispatch", "outbox")
ANNOUNCE = script("announce", "outbox")
ATTACH = script("attach", "outbox")
ACK = script("ack", "outbox")
BROADCASTS = script("broadcasts", "outbox")
HEADS = script("heads", "outbox")
PEEK = script("peek", "outbox")
PURGE = script("purge", "outbox")
IMPORT = script("import", "outbox")

APPEND = script("append", "inbox")
TEND = script("tend")
SETTLE = script("settle", "inbox")
OVERHEAR = script("overhear")
REPLY = script("reply")
REVIVE = script("revive", "inbox")
SURVEY = script("survey")
SET_ASIDE = script("set_aside")

RIGHTS = script("rights")

SCRIPTS = (
    *(RELAY, BROADCAST, ONLINE, TALLY, DETACH, HEARTBEAT, REAP, DEPART),
    *(DISPATCH, ANNOUNCE, ATTACH, ACK, BROADCASTS, HEADS, PEEK, PURGE, IMPORT),
    *(APPEND, TEND, SETTLE, OVERHEAR, REPLY, REVIVE, SURVEY, SET_ASIDE, RIGHTS),
)
"""All of them, to be loaded by every connection before it is used."""

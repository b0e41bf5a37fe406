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


def _read(name: str) -> str:
    return files(__package__).joinpath("scripts", f"{name}.lua").read_text("utf-8")


def _without_comments(text: str) -> str:
    """Every connection brings all scripts; half of them is written for people."""
    return "\n".join(
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--")
    )


def _script(name: str, *parts: str) -> Script:
    """The script of a file, with the prelude and other parts between its flags and its body."""
    flags, body = _read(name).split("\n", 1)
    texts = [*map(_read, ("prelude", *parts)), body]
    source = "\n".join([flags, *map(_without_comments, texts)]).encode()
    return Script(name, source, sha1(source, usedforsecurity=False).hexdigest())


RELAY = _script("relay")
BROADCAST = _script("broadcast")
ONLINE = _script("online")
DETACH = _script("detach")
HEARTBEAT = _script("heartbeat")
REAP = _script("reap", "inbox")
DEPART = _script("depart")

DISPATCH = _script("dispatch", "outbox")
ANNOUNCE = _script("announce", "outbox")
ATTACH = _script("attach", "outbox")
ACK = _script("ack", "outbox")
BROADCASTS = _script("broadcasts", "outbox")
HEADS = _script("heads", "outbox")
PEEK = _script("peek", "outbox")
PURGE = _script("purge", "outbox")
IMPORT = _script("import", "outbox")

APPEND = _script("append", "inbox")
TEND = _script("tend")
SETTLE = _script("settle")
OVERHEAR = _script("overhear")
REPLY = _script("reply")
REVIVE = _script("revive", "inbox")

SCRIPTS = (
    *(RELAY, BROADCAST, ONLINE, DETACH, HEARTBEAT, REAP, DEPART),
    *(DISPATCH, ANNOUNCE, ATTACH, ACK, BROADCASTS, HEADS, PEEK, PURGE, IMPORT),
    *(APPEND, TEND, SETTLE, OVERHEAR, REPLY, REVIVE),
)
"""All of them, to be loaded by every connection before it is used."""

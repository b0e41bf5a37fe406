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


def _script(name: str) -> Script:
    flags, body = _read(name).split("\n", 1)
    source = f"{flags}\n{_read('prelude')}\n{body}".encode()
    return Script(name, source, sha1(source, usedforsecurity=False).hexdigest())


DISPATCH = _script("dispatch")
BROADCAST = _script("broadcast")
ONLINE = _script("online")
ATTACH = _script("attach")
DETACH = _script("detach")
HEARTBEAT = _script("heartbeat")
REAP = _script("reap")

SCRIPTS = (DISPATCH, BROADCAST, ONLINE, ATTACH, DETACH, HEARTBEAT, REAP)
"""All of them, to be loaded by every connection before it is used."""

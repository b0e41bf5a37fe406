"""Lua scripts, each one atomic step; the head of each file documents it."""

from ...messages.envelope import REMEMBERED
from ..inbox import (
    FEW,
    GUARANTEED_EVENTS,
    MAX_ACCOUNT_WEIGHT,
    MAX_DEAD,
    MAX_KEPT,
    MAX_OBSERVED,
    READ_AHEAD,
    READ_AHEAD_BYTES,
    WEIGHT_UNIT,
)
from ..redis_client.command import MAX_IDS, Script, ms
from ..redis_wire.scripts import RIGHTS, script
from ..redis_wire.timing import EXPIRY
from .keys import BACKLOG_LIFE, DEAD_LIFE, POSITION_LIFE

MAX_ENTRIES = 256
"""Messages on one page of an outbox."""

MAX_BYTES = 256 * 1024
"""Bytes on one page of an outbox, unless its first message alone has more."""

CONSTANTS: dict[str, int | str] = {
    "BACKLOG_LIFE": str(ms(BACKLOG_LIFE)),
    "DEAD_LIFE": str(ms(DEAD_LIFE)),
    "FEW": FEW,
    "EXPIRY": str(ms(EXPIRY)),
    "GUARANTEED_EVENTS": GUARANTEED_EVENTS,
    "MAX_ACCOUNT_WEIGHT": MAX_ACCOUNT_WEIGHT,
    "MAX_BYTES": MAX_BYTES,
    "MAX_DEAD": str(MAX_DEAD),
    "MAX_ENTRIES": MAX_ENTRIES,
    "MAX_IDS": str(MAX_IDS),
    "MAX_KEPT": MAX_KEPT,
    "MAX_OBSERVED": str(MAX_OBSERVED),
    "POSITION_LIFE": str(ms(POSITION_LIFE)),
    "READ_AHEAD": READ_AHEAD,
    "READ_AHEAD_BYTES": READ_AHEAD_BYTES,
    "REMEMBERED": str(ms(REMEMBERED)),
    "WEIGHT_UNIT": WEIGHT_UNIT,
}
"""Constants that scripts use by the same names; times are in milliseconds."""


def _script(name: str, *parts: str) -> Script:
    return script(__package__, name, "prelude", *parts, constants=CONSTANTS)


RELAY = _script("relay")
RELAY_MANY = _script("relay_many")
BROADCAST = _script("broadcast")
ONLINE = _script("online")
TALLY = _script("tally")
DETACH = _script("detach")
HEARTBEAT = _script("heartbeat")
REAP = _script("reap", "inbox")
DEPART = _script("depart")

DISPATCH = _script("dispatch", "outbox")
ANNOUNCE = _script("announce", "outbox")
ATTACH = _script("attach", "outbox")
ACK = _script("ack", "outbox")
BROADCASTS = _script("broadcasts", "outbox")
REVOKE = _script("revoke")
PROGRESS = _script("progress")
HEADS = _script("heads", "outbox")
WAITING = _script("waiting")
PURGE = _script("purge", "outbox")
IMPORT = _script("import", "outbox")

APPEND = _script("append", "inbox")
PORTAL_HEARTBEAT = _script("portal_heartbeat")
SETTLE = _script("settle", "inbox")
OBSERVE = _script("observe")
REPLY = _script("reply")
REVIVE = _script("revive", "inbox")
BACKLOG = _script("backlog")
SET_ASIDE = _script("set_aside")

LEAVE = _script("leave")

SCRIPTS = (
    *(RELAY, RELAY_MANY, BROADCAST, ONLINE, TALLY, DETACH, HEARTBEAT, REAP, DEPART),
    *(DISPATCH, ANNOUNCE, ATTACH, ACK, BROADCASTS, HEADS, PURGE, IMPORT, WAITING),
    *(REVOKE, PROGRESS),
    *(APPEND, PORTAL_HEARTBEAT, SETTLE, OBSERVE, REPLY, REVIVE, BACKLOG, SET_ASIDE, LEAVE, RIGHTS),
)
"""All scripts; every connection loads them before it is used."""

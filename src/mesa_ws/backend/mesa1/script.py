"""The Lua scripts, each one atomic step; their files say what they do, take and return."""

from functools import partial

from ..redis.script import RIGHTS, script

_script = partial(script, package=__package__)

ADMIT = _script("admit")
ATTACH = _script("attach")
BEAT = _script("beat")
BROADCAST = _script("broadcast")
COUNT = _script("count")
DEPART = _script("depart")
DETACH = _script("detach")
DISPATCH = _script("dispatch")
ONLINE = _script("online")
POOL = _script("pool")
PURGE = _script("purge")
READMIT = _script("readmit")
REAP = _script("reap")
SWAP = _script("swap")
WITHDRAW = _script("withdraw")

SCRIPTS = (
    *(ATTACH, BEAT, BROADCAST, COUNT, DEPART, DETACH, DISPATCH, ONLINE, PURGE, REAP, SWAP),
    *(ADMIT, POOL, READMIT, WITHDRAW, RIGHTS),
)
"""All of them, to be loaded by every connection before it is used."""

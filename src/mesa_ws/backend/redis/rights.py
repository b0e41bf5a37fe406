"""Rights that the Redis user of a process needs on the native wire."""

from ..redis_wire.rights import GrantedName, Rights
from .keys import Keys
from .scripts import (
    ANNOUNCE,
    BROADCAST,
    DISPATCH,
    OVERHEAR,
    REAP,
    RELAY,
    REPLY,
    REVIVE,
    SCRIPTS,
    SET_ASIDE,
    SETTLE,
    SURVEY,
    TEND,
)

_OF_PORTALS = (TEND, SETTLE, OVERHEAR, REPLY)
_OF_OPERATORS = (REVIVE, SURVEY)


def of_dispatcher(keys: Keys, *, stores: bool) -> Rights:
    """Return the rights that a dispatcher needs."""
    scripts = (RELAY, BROADCAST, DISPATCH, ANNOUNCE) if stores else (RELAY, BROADCAST)
    places = (_own(keys), _everybody(keys)) if stores else (_own(keys),)
    return Rights(scripts, places, [_channel(keys)])


def of_server(keys: Keys) -> Rights:
    """Return the rights that a server needs."""
    meta = GrantedName(f"~{keys.meta}", keys.meta)
    scripts = (script for script in SCRIPTS if script not in (*_OF_PORTALS, *_OF_OPERATORS))
    return Rights(scripts, (_own(keys), _everybody(keys), meta), [_channel(keys)], ("HSETNX", "SSCAN"))


def of_portal(keys: Keys) -> Rights:
    """Return the rights that a portal needs."""
    return Rights((*_OF_PORTALS, REAP, SET_ASIDE), (_own(keys),), [_channel(keys)], ("XREAD",))


def _own(keys: Keys) -> GrantedName:
    return GrantedName(f"~{keys.prefix}*", keys.done("rights"))


def _everybody(keys: Keys) -> GrantedName:
    return GrantedName(f"~{keys.broadcasts.removesuffix('b')}*", keys.broadcasts)


def _channel(keys: Keys) -> GrantedName:
    return GrantedName(f"&{keys.prefix}*", keys.channel("rights"))

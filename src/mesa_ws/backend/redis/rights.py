"""Rights that the Redis user of a process needs on the native wire."""

from ..redis_wire.rights import GrantedName, Rights, own_channels, own_keys
from .keys import Keys
from .scripts import (
    ANNOUNCE,
    BACKLOG,
    BROADCAST,
    DISPATCH,
    OBSERVE,
    PORTAL_HEARTBEAT,
    REAP,
    RELAY,
    RELAY_MANY,
    REPLY,
    REVIVE,
    SCRIPTS,
    SET_ASIDE,
    SETTLE,
)

_OF_PORTALS = (PORTAL_HEARTBEAT, SETTLE, OBSERVE, REPLY)
_OF_OPERATORS = (REVIVE, BACKLOG)


def of_dispatcher(keys: Keys, *, stores: bool) -> Rights:
    """Return the rights that a dispatcher needs."""
    sending = (RELAY, RELAY_MANY, BROADCAST)
    scripts = (*sending, DISPATCH, ANNOUNCE) if stores else sending
    places = (own_keys(keys), _everybody(keys)) if stores else (own_keys(keys),)
    return Rights(scripts, places, [own_channels(keys)])


def of_server(keys: Keys) -> Rights:
    """Return the rights that a server needs."""
    meta = GrantedName(f"~{keys.meta}", keys.meta)
    scripts = (script for script in SCRIPTS if script not in (*_OF_PORTALS, *_OF_OPERATORS))
    return Rights(
        scripts, (own_keys(keys), _everybody(keys), meta), [own_channels(keys)], ("HSETNX", "SSCAN")
    )


def of_portal(keys: Keys) -> Rights:
    """Return the rights that a portal needs."""
    return Rights((*_OF_PORTALS, REAP, SET_ASIDE), (own_keys(keys),), [own_channels(keys)], ("XREAD",))


def _everybody(keys: Keys) -> GrantedName:
    return GrantedName(f"~{keys.broadcasts.removesuffix('b')}*", keys.broadcasts)

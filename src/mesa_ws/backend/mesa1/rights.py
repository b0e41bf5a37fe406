"""Rights that the Redis user of a process needs on the wire of 1.x."""

from ..redis_wire.rights import GrantedName, Rights, own_channels, own_keys
from .commands import BROADCAST, DISPATCH, PORTAL_HEARTBEAT, REMOVE_PORTAL, SCRIPTS
from .keys import Mesa1Keys


def of_dispatcher(keys: Mesa1Keys, *, stores: bool) -> Rights:
    """Return the rights of a dispatcher."""
    places = [own_keys(keys), _key(keys.connected, is_written=False)]
    if stores:
        places.append(_key(keys.undelivered))
    return Rights((BROADCAST, DISPATCH), places, [_channel(keys.messages)])


def of_server(keys: Mesa1Keys) -> Rights:
    """Return the rights of a server."""
    shared = (keys.connected, keys.connections, keys.undelivered, keys.pool)
    channels = [_channel(each) for each in (keys.messages, keys.portal, keys.pool)]
    places, channels = [own_keys(keys), *map(_key, shared)], [*channels, own_channels(keys)]
    return Rights(SCRIPTS, places, channels, ("HMGET", "SISMEMBER"), without=("INFO",))


def of_portal(keys: Mesa1Keys) -> Rights:
    """Return the rights of a portal."""
    channels = [_channel(keys.pool), own_channels(keys)]
    return Rights((PORTAL_HEARTBEAT, REMOVE_PORTAL), [own_keys(keys), _key(keys.pool)], channels)


def _key(name: str, *, is_written: bool = True) -> GrantedName:
    return GrantedName(f"~{name}" if is_written else f"%R~{name}", name, is_written)


def _channel(name: str) -> GrantedName:
    return GrantedName(f"&{name}", name)

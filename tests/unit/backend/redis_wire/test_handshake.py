"""What is read from a Redis before it is used."""

import pytest
from redis.exceptions import ResponseError

from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.scripts import ONLINE, RELAY
from mesa_ws.backend.redis.wire import NativeHandshake
from mesa_ws.backend.redis_client.command import ServerInfo
from mesa_ws.errors import BackendRefused

INFO = (
    b"# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\n\r\n# Memory\r\nmaxmemory:1024\r\n"
    b"maxmemory_human:1.00K\r\nmaxmemory_policy:volatile-lru\r\n\r\n# Persistence\r\naof_enabled:1\r\n"
)


def replies(handshake: NativeHandshake, info: object, *, layout: bytes | None = None) -> list[object]:
    """All is well, and no right is lacking."""
    return [info, *[b"sha"] * (len(handshake.commands) - 3), layout, []]


def test_facts_are_read_from_info() -> None:
    assert ServerInfo.of(INFO) == ServerInfo((7, 2, 4), 1024, "volatile-lru", True)


@pytest.mark.parametrize("reply", [b"", None, 7, b"\xff\xfe"])
def test_what_is_no_info_tells_nothing(reply: object) -> None:
    assert ServerInfo.of(reply) == ServerInfo()


def test_an_error_of_redis_is_raised() -> None:
    handshake = NativeHandshake(Keys())
    with pytest.raises(ResponseError, match="no"):
        handshake.check("redis", replies(handshake, ResponseError("no")))


def test_the_layout_is_checked() -> None:
    handshake = NativeHandshake(Keys())
    with pytest.raises(BackendRefused, match="with 64 partitions, and this one uses 1"):
        handshake.check("redis", replies(handshake, INFO, layout=b"64"))


@pytest.mark.parametrize(("stores", "allow_eviction"), [(False, False), (True, True)])
def test_a_redis_that_evicts_is_good_for_some(stores: bool, allow_eviction: bool) -> None:
    handshake = NativeHandshake(Keys(), stores=stores, allow_eviction=allow_eviction)
    assert handshake.check("redis", replies(handshake, INFO)).policy == "volatile-lru"


def test_a_redis_that_evicts_is_refused() -> None:
    handshake = NativeHandshake(Keys(), stores=True)
    with pytest.raises(BackendRefused, match=r"^redis: its maxmemory-policy is volatile-lru"):
        handshake.check("redis", replies(handshake, INFO))


@pytest.mark.parametrize(
    ("mode", "text"), [("cluster", "Redis Cluster"), ("sentinel", r"redis\+sentinel://")]
)
def test_what_is_no_single_redis_is_refused(mode: str, text: str) -> None:
    handshake = NativeHandshake(Keys())
    with pytest.raises(BackendRefused, match=text):
        handshake.check("redis", replies(handshake, INFO + b"redis_mode:%s\r\n" % mode.encode()))


@pytest.mark.parametrize(
    "reply", [[b"server", b"redis", b"mode", b"cluster"], [b"mode"], None, ResponseError("no")]
)
def test_the_mode_is_read_from_hello(reply: object) -> None:
    is_cluster = isinstance(reply, list) and len(reply) == 4
    assert ServerInfo.of_hello(reply).mode == ("cluster" if is_cluster else "standalone")


def test_rights_are_looked_at_until_none_is_lacking() -> None:
    handshake = NativeHandshake(Keys())
    asks = len(handshake.commands)
    error = b"ERR The user executing the script can't run this command or subcommand"
    handshake.check("redis", [*replies(handshake, INFO)[:-1], [1, error]])
    assert len(handshake.commands) == asks
    handshake.check("redis", replies(handshake, INFO))
    assert len(handshake.commands) == asks - 1


def test_who_lacks_rights_may_look() -> None:
    handshake = NativeHandshake(Keys())
    handshake.check("redis", [*replies(handshake, INFO)[:-1], [1, b"NOPERM no"]])
    handshake.permit("redis", [("EVALSHA", ONLINE.sha, 0), ("ZSCAN", "k", 0)])
    with pytest.raises(BackendRefused, match=r"^redis: refused \(its user lacks \+exists\)"):
        handshake.permit("redis", [("EVALSHA", ONLINE.sha, 0), ("EVALSHA", RELAY.sha, 0)])

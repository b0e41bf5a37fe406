"""Every way to say where Redis is."""

import ssl
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.sentinel import Sentinel

from mesa_ws.backend.redis_client.address import Address
from mesa_ws.errors import InvalidSettings, Unsupported

SECRET = "hunter2"


def options(address: Address) -> dict[str, Any]:
    """The options that say something."""
    names = ("host", "port", "path", "db", "username", "password")
    return {name: address.options[name] for name in names if address.options.get(name)}


@pytest.mark.parametrize(
    ("url", "expected", "kind"),
    [
        ("redis://localhost", {"host": "localhost"}, "tcp"),
        ("redis://h:7000/3", {"host": "h", "port": 7000, "db": 3}, "tcp"),
        ("redis://u:p%2Fw@h", {"host": "h", "username": "u", "password": "p/w"}, "tcp"),
        ("redis://:p@[::1]:7000/", {"host": "::1", "port": 7000, "password": "p"}, "tcp"),
        ("rediss://h", {"host": "h"}, "tls"),
        ("unix:///run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2}, "unix"),
        ("unix://u:p@/run/redis.sock", {"path": "/run/redis.sock", "username": "u", "password": "p"}, "unix"),
    ],
)
def test_a_uri_is_understood(url: str, expected: Mapping[str, Any], kind: str) -> None:
    address = Address.of(url)
    assert (options(address), address.kind) == (expected, kind)


@pytest.mark.parametrize(
    ("given", "expected", "kind"),
    [
        (["redis://h:7000/3"], {"host": "h", "port": 7000, "db": 3}, "tcp"),
        (["redis://h", {"password": "p", "db": 2}], {"host": "h", "password": "p", "db": 2}, "tcp"),
        (["redis://h:7000/1", {"db": 2, "host": "x"}], {"host": "h", "port": 7000, "db": 1}, "tcp"),
        (["redis://h", {"ssl": True}], {"host": "h"}, "tls"),
        ([7000], {"host": "localhost", "port": 7000}, "tcp"),
        ((7000, "h"), {"host": "h", "port": 7000}, "tcp"),
        ([7000, "h", {"db": 2}], {"host": "h", "port": 7000, "db": 2}, "tcp"),
        ([{"host": "h", "port": 7000}], {"host": "h", "port": 7000}, "tcp"),
    ],
)
def test_a_list_as_1x_took_it_is_understood(given: Any, expected: Mapping[str, Any], kind: str) -> None:
    address = Address.of(given)
    assert (options(address), address.kind) == (expected, kind)


@pytest.mark.parametrize(
    "given", [[], [True], ["redis://h", 7000], [7000, "h", {}, {}], [7000, "h", "db=2"], [None]]
)
def test_a_list_that_says_no_redis_is_refused(given: Any) -> None:
    with pytest.raises(InvalidSettings, match=r"\[port, host, options\]"):
        Address.of(given)


def test_options_of_tls_are_kept() -> None:
    address = Address.of("rediss://h?ssl_cert_reqs=none&ssl_check_hostname=false")
    assert address.options["ssl_cert_reqs"] == "none"


def test_limits_of_a_client_are_passed_over() -> None:
    address = Address.of("redis://h?socket_timeout=1&decode_responses=true")
    assert "socket_timeout" not in address.options


@pytest.mark.parametrize("name", ["none", "NONE", "CERT_NONE", ssl.CERT_NONE])
def test_a_check_of_certificates_has_several_names(name: object) -> None:
    for given in (
        f"rediss://h?ssl_cert_reqs={getattr(name, 'name', name)}",
        {"ssl": True, "ssl_cert_reqs": name},
    ):
        assert Address.of(given).options["ssl_cert_reqs"] == "none"


@pytest.mark.parametrize("given", ["rediss://h?ssl_cert_reqs=never", {"ssl": True, "ssl_cert_reqs": 7}])
def test_a_wrong_check_of_certificates_names_the_right_ones(given: object) -> None:
    with pytest.raises(
        InvalidSettings, match=r"^redis\.ssl_cert_reqs: expected none, optional or required, got"
    ):
        Address.of(given)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"])
def test_a_file_of_tls_that_is_missing_is_named(option: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    for scheme in ("rediss", "rediss+sentinel"):
        with pytest.raises(
            InvalidSettings, match=rf"^redis\.{option}: .*No such file or directory"
        ) as raised:
            Address.of(f"{scheme}://h/0?{option}={missing}")
        assert missing in str(raised.value)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("ssl_ca_certs={garbage}", "ssl_ca_certs"),
        ("ssl_certfile={garbage}&ssl_keyfile={garbage}", "ssl_certfile"),
        ("ssl_keyfile={certificate}", "ssl_certfile"),
    ],
)
def test_a_file_of_tls_that_holds_something_else_is_named(
    query: str, problem: str, certificate: Path, tmp_path: Path
) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("garbage")
    with pytest.raises(InvalidSettings, match=rf"^redis\.{problem}: expected"):
        Address.of(f"rediss://h?{query.format(garbage=garbage, certificate=certificate)}")


@pytest.mark.parametrize("url", ["redis://h?ssl_cert_reqs=none", "unix:///s?ssl_cert_reqs=none"])
def test_options_of_tls_without_tls_lead_to_it(url: str) -> None:
    with pytest.raises(InvalidSettings, match="rediss://"):
        Address.of(url)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("redis://h", 30),
        ("redis://h?health_check_interval=10", 10),
        ("redis://h?health_check_interval=0", 30),
        ("unix:///run/redis.sock?health_check_interval=10", 10),
        ("redis+sentinel://a/m?health_check_interval=10", 10),
        ({"host": "h", "health_check_interval": 0.5}, 0.5),
        ({"host": "h"}, 30),
        (["redis://h", {"health_check_interval": 10}], 10),
        (["redis://h?health_check_interval=20", {"health_check_interval": 10}], 20),
        (redis.Redis(host="h", health_check_interval=10), 10),
        (redis.asyncio.Redis(host="h"), 30),
    ],
)
def test_how_long_a_connection_may_be_idle_is_heeded(given: object, seconds: float) -> None:
    address = Address.of(given)
    assert (address.max_idle, "health_check_interval" in address.options) == (seconds, False)


@pytest.mark.parametrize(
    "given",
    [
        "redis://h?health_check_interval=soon",
        "redis://h?health_check_interval=-1",
        {"host": "h", "health_check_interval": "10"},
        {"host": "h", "health_check_interval": 1e9},
    ],
)
def test_an_interval_that_is_none_is_refused_by_its_name(given: object) -> None:
    with pytest.raises(InvalidSettings, match="health_check_interval"):
        Address.of(given)


def test_an_address_is_itself() -> None:
    address = Address.of("redis://h")
    assert Address.of(address) is address


def test_a_uri_names_sentinels_and_their_service() -> None:
    url = f"redis+sentinel://u:{SECRET}@a:1,b,[::1]:3/my%20master/2?sentinel_username=s&sentinel_password=x"
    address = Address.of(url)
    assert address.sentinels is not None
    assert address.sentinels.hosts == (("a", 1), ("b", 26379), ("::1", 3))
    assert address.sentinels.service == "my master"
    assert address.sentinels.options == {"username": "s", "password": "x"}
    assert options(address) == {"host": "sentinel", "username": "u", "password": SECRET, "db": 2}
    assert address.label == "redis 'my master' of the sentinels a:1,b:26379,::1:3"


def test_tls_holds_for_the_master_and_the_sentinels() -> None:
    address = Address.of("rediss+sentinel://a/mymaster?ssl_cert_reqs=none")
    assert address.sentinels is not None
    assert (address.kind, address.options["ssl_cert_reqs"]) == ("tls", "none")
    assert address.sentinels.options == {"ssl": True, "ssl_cert_reqs": "none"}


def test_the_tls_of_a_clients_sentinels_is_kept() -> None:
    options = {"ssl": True, "ssl_cert_reqs": "none"}
    sentinel: Any = Sentinel
    address = Address.of(sentinel([("a", 1)], sentinel_kwargs=options).master_for("m"))
    assert address.sentinels is not None
    assert (address.kind, options.items() <= address.sentinels.options.items()) == ("tcp", True)


@pytest.mark.parametrize(
    ("given", "expected", "kind"),
    [
        ({}, {"host": "localhost", "port": 6379}, "tcp"),
        ({"host": "h", "db": 2, "decode_responses": True}, {"host": "h", "port": 6379, "db": 2}, "tcp"),
        ({"host": "h", "ssl": True}, {"host": "h", "port": 6379}, "tls"),
        ({"unix_socket_path": "/run/redis.sock"}, {"path": "/run/redis.sock"}, "unix"),
    ],
)
def test_a_mapping_of_options_is_understood(given: Mapping[str, Any], expected: object, kind: str) -> None:
    address = Address.of(given)
    assert (options(address), address.kind) == (expected, kind)


def test_sentinels_in_a_mapping_as_1x_took_them_lead_to_a_uri() -> None:
    given = {"sentinels": [{"host": "h", "port": 26379}], "name": "m"}
    with pytest.raises(InvalidSettings, match=r"a URI such as redis\+sentinel://host:26379/mymaster"):
        Address.of(given)


@pytest.mark.parametrize("module", [redis, redis.asyncio])
def test_the_settings_of_a_client_are_used(module: Any) -> None:
    client = module.Redis(host="h", port=7000, db=3, password=SECRET, decode_responses=True)
    address = Address.of(client)
    assert options(address) == {"host": "h", "port": 7000, "db": 3, "password": SECRET}
    assert address.label == "redis at h:7000"


@pytest.mark.parametrize("module", [redis, redis.asyncio])
@pytest.mark.parametrize(
    ("url", "kind"), [("redis://h", "tcp"), ("rediss://h", "tls"), ("unix:///s", "unix")]
)
def test_a_client_tells_how_it_connects(module: Any, url: str, kind: str) -> None:
    assert Address.of(module.Redis.from_url(url)).kind == kind


@pytest.mark.parametrize("sentinel", [Sentinel, AsyncSentinel])
def test_a_client_of_a_sentinel_asks_the_same_sentinels(sentinel: Any) -> None:
    client = sentinel([("a", 1), ("b", 2)], sentinel_kwargs={"password": "s"}).master_for("m", password="p")
    address = Address.of(client)
    assert address.sentinels is not None
    assert (address.sentinels.hosts, address.sentinels.service) == ((("a", 1), ("b", 2)), "m")
    assert (address.sentinels.options, options(address)) == ({"password": "s"}, {"password": "p"})


def test_a_client_of_a_cluster_is_not_supported() -> None:
    with pytest.raises(Unsupported, match="Redis Cluster"):
        Address.of(redis.asyncio.RedisCluster(host="h"))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("", "it must begin with redis://"),
        ("localhost:6379", "it must begin with redis://"),
        ("localhost:6379", "got 'localhost:6379'"),
        ("localhost", "got 'localhost'"),
        ("http://h", "it must begin with redis://"),
        ("redis://h:99999", "the port must be 1 to 65535"),
        ("redis://h:0", "the port must be 1 to 65535"),
        ("redis://h:port", "the port must be 1 to 65535"),
        ("redis://h/db", "the database after the port must be a number"),
        ("redis://h?db=x", "Invalid value for"),
        ("redis://h?max_conections=5", "unknown option 'max_conections'"),
        ("redis://[::1", "Invalid IPv6 URL"),
        ("redis+sentinel://a:1", "name the Sentinels and the service"),
        ("redis+sentinel:///mymaster", "name the Sentinels and the service"),
        ("redis+sentinel://a:x/mymaster", "the port must be 1 to 65535"),
        ("redis+sentinel://a,,b/mymaster", "a Sentinel without a host"),
        ({"hots": "h"}, "unexpected keyword argument 'hots'"),
        ({"port": "x"}, "invalid literal"),
        ({1: 2}, "keywords must be strings"),
        (5, "a redis-py client, got 'int'"),
        (None, "a redis-py client, got 'NoneType'"),
    ],
)
def test_what_names_no_redis_is_refused_with_the_reason(given: object, problem: str) -> None:
    with pytest.raises(InvalidSettings, match=r"^redis: expected ") as caught:
        Address.of(given)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        f"redis://user:{SECRET}@h:99999",
        f"redis://user:{SECRET}@h/x",
        f"redis://user:{SECRET}@h?nonsense=1&password={SECRET}",
        f"redis://user:a/{SECRET}@h",
        f"redis://user:1/{SECRET}@h",
        f"redis://user:a?{SECRET}@h",
        f"redis://user:a#{SECRET}@h",
        f"redis://h/x?password=a@{SECRET}",
        f"localhost?password={SECRET}",
        f"http://user:{SECRET}@h",
        f"user:{SECRET}@h",
        f"redis+sentinel://user:{SECRET}@a",
        f"unix:///run/redis.sock?password={SECRET}&nonsense=1",
        f"redis+sentinel://user:{SECRET}@a:x/m?sentinel_password={SECRET}",
        {"password": SECRET, "port": "x"},
        {"password": SECRET, "hots": 1},
    ],
)
def test_no_error_shows_a_password(given: object) -> None:
    with pytest.raises(InvalidSettings) as caught:
        Address.of(given)
    assert SECRET not in f"{caught.value}{caught.value!r}"


@pytest.mark.parametrize("given", [f"redis://u:{SECRET}@h", {"password": SECRET}])
def test_an_address_shows_no_password(given: object) -> None:
    address = Address.of(given)
    assert SECRET not in f"{address}{address!r}{address.label}"


def test_the_version_of_redis_py_is_not_looked_up_for_each_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_up = list[str]()
    monkeypatch.setattr(metadata, "version", looked_up.append)
    Address.of("redis://h")  # makes a connection, so as to find what is wrong with the options
    assert looked_up == []

"""Address of a Redis, read from any form in which a user gives it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

import msgspec
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from ...errors import BackendError, InvalidSettings, Unsupported
from ...settings import Seconds
from ...text import plain
from .connection import (
    DRIVER,
    MAX_IDLE,
    AsyncConnection,
    BlockingConnection,
    disconnect_on_error,
    open_connection,
    remaining,
)
from .failures import failed_connect
from .master import FIXED, Master
from .resolver import MasterResolver, MasterWatch
from .sentinel import DEFAULT_PORT, Sentinels
from .tls import checked_tls

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
"""Schemes of a Redis URI."""

EXPECTED = (
    "redis://host:port/db, rediss://, unix://path, redis+sentinel://host:port,.../service, "
    "a mapping of redis-py options, [URI, options], [port, host, options], or a redis-py client"
)

Given = str | Mapping[str, Any] | Sequence[Any] | redis.Redis | redis.asyncio.Redis
"""Forms that `Address.of` accepts."""

_SETTING = "redis"

_CHECK = "health_check_interval"

_OPTIONS = frozenset(
    {
        "host", "port", "path", "db", "username", "password", "credential_provider", "client_name",
        "socket_keepalive", "socket_keepalive_options", "socket_type", "socket_read_size",
    }
)  # fmt: skip
"""Options that say where to connect and with which credentials. Mesa sets its own limits and retries, and
decodes replies itself."""

_PASSED_OVER = frozenset(
    {"socket_timeout", "socket_connect_timeout", "retry_on_timeout", "max_connections", "timeout",
     "decode_responses", "encoding", "encoding_errors", "protocol"}
)  # fmt: skip
"""Options of a URL that matter to a redis-py client and are ignored here."""

_CLASSES = {"tcp": "Connection", "tls": "SSLConnection", "unix": "UnixDomainSocketConnection"}


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """Address of one Redis; opens connections, which belong to the caller.

    Attributes:
        label: its name in errors and logs; without credentials.
        options: redis-py options of a connection.
        kind: `tcp`, `tls` or `unix`.
        sentinels: the Sentinels that name the master, or None.
        max_idle: seconds after which an idle connection is no longer trusted.
    """

    label: str
    options: Mapping[str, Any]
    kind: str = "tcp"
    sentinels: Sentinels | None = None
    max_idle: float = MAX_IDLE

    def __repr__(self) -> str:
        return f"<Address {self.label}>"

    @property
    def masters(self) -> MasterResolver | None:
        """Resolver of the master, shared by the whole process; None without Sentinels."""
        return MasterResolver.of(self.sentinels) if self.sentinels is not None else None

    @property
    def database(self) -> int:
        """Number of the database."""
        return int(self.options.get("db") or 0)

    @classmethod
    def of(cls, given: object) -> "Address":
        """Read an address that a user gave.

        Args:
            given: a URI; a mapping of redis-py options; a list of a URI, or of a port and a host,
                followed by options, as 1.x took them; or a redis-py client, whose settings are used
                to open separate connections. The client itself is not used.

        Raises:
            InvalidSettings: `given` does not describe a Redis. The error never shows a password.
            Unsupported: `given` is a client of Redis Cluster.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, str):
            return _checked(_of_url(plain(given)))
        if isinstance(given, Mapping):
            return _checked(_of_mapping(_plain(given)))
        if isinstance(given, list | tuple):
            return _checked(_of_list([_plain(each) for each in given]))
        if isinstance(given, redis.RedisCluster | redis.asyncio.RedisCluster):
            raise Unsupported("redis: Redis Cluster is not supported by this version; use a single Redis")
        if isinstance(given, redis.Redis | redis.asyncio.Redis):
            return _checked(_of_pool(given.connection_pool))
        raise InvalidSettings(_SETTING, EXPECTED, type(given).__name__)

    def connect(self, timeout: float) -> BlockingConnection:
        """Open a blocking connection and log in.

        Raises:
            redis.RedisError, OSError: connecting failed, or took longer than about `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        masters = self.masters
        master = FIXED if masters is None else masters.find(deadline)
        connection: BlockingConnection = self._unconnected(
            redis, master, socket_timeout=remaining(deadline), retry=Retry(NoBackoff(), 0)
        )
        with disconnect_on_error(connection):
            connection.connect()
        return connection

    async def aconnect(self, timeout: float) -> AsyncConnection:
        """`connect` for asyncio; the caller limits the time, and Sentinels have `timeout` to answer."""
        masters = self.masters
        master = FIXED if masters is None else await masters.afind(time.monotonic() + timeout)
        return await open_connection(
            self._unconnected(redis.asyncio, master, retry=AsyncRetry(NoBackoff(), 0))
        )

    def follow(self, on_left: Callable[[], None]) -> MasterWatch | None:
        """Call a method in this event loop whenever Sentinels name another master.

        Returns:
            A handle that the caller keeps and closes; None without Sentinels.
        """
        masters = self.masters
        return masters.follow(on_left) if masters is not None else None

    def failed(self, error: Exception) -> BackendError:
        """Return the error for a connection that failed; nothing was sent."""
        return failed_connect(self.label, error, is_secure=self.kind == "tls")

    def _unconnected(
        self, library: Any, master: Master, *, retry: object, socket_timeout: float | None = None
    ) -> Any:
        host = {} if master is FIXED else {"host": master.host, "port": master.port}
        limits = {"socket_timeout": socket_timeout, "socket_connect_timeout": socket_timeout, "retry": retry}
        make = getattr(library, _CLASSES[self.kind])
        connection = make(**{**DRIVER, **self.options, **host, **limits, "protocol": 2})
        connection.mesa_master = master
        return connection


def _checked(address: Address) -> Address:
    """Construct a connection without connecting, so that a wrong option is found now."""
    try:
        address._unconnected(redis, FIXED, retry=None)
    except (TypeError, ValueError, redis.RedisError) as error:
        raise InvalidSettings(_SETTING, f"{EXPECTED}; {error}", address.label) from None
    return address


def _plain(given: Any) -> Any:
    """Return an argument of 1.x, or the options of a mapping, with every text as a plain `str`."""
    if isinstance(given, Mapping):
        return {plain(name): plain(value) for name, value in given.items()}
    return plain(given)


def _of_mapping(given: Mapping[str, Any]) -> Address:
    if "sentinels" in given:
        expected = "redis-py options; for Sentinel give a URI such as redis+sentinel://host:26379/mymaster"
        raise InvalidSettings(_SETTING, expected, sorted(map(str, given)))
    try:
        client = redis.Redis(**{"protocol": 2, **given})
    except (TypeError, ValueError, redis.RedisError) as error:
        raise InvalidSettings(_SETTING, f"redis-py options; {error}", sorted(map(str, given))) from None
    return _of_pool(client.connection_pool)


def _of_list(given: Sequence[Any]) -> Address:
    """Read the arguments of 1.x from one list; the first one counts where two set the same option."""
    match given:
        case [str(url)]:
            return _of_url(url)
        case [str(url), Mapping() as options]:
            base, more = _of_url(url), _of_mapping(options)
            named = {name: value for name, value in more.options.items() if name in options}
            kind = "tls" if more.kind == "tls" else base.kind
            max_idle = base.max_idle if base.max_idle != MAX_IDLE else more.max_idle
            return replace(base, options={**named, **base.options}, kind=kind, max_idle=max_idle)
        case [Mapping() as options]:
            return _of_mapping(options)
        case [int(port)] if port is not True:
            return _of_mapping({"port": port})
        case [int(port), str(host)]:
            return _of_mapping({"port": port, "host": host})
        case [int(port), str(host), Mapping() as options]:
            return _of_mapping({**options, "port": port, "host": host})
    raise InvalidSettings(_SETTING, EXPECTED, f"a list of {len(given)}")


def _of_url(url: str) -> Address:
    try:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ValueError(f"it must begin with {', '.join(f'{name}://' for name in SCHEMES)}")
        if parts.scheme.endswith("+sentinel"):
            return _of_sentinel_url(parts)
        return _of_plain_url(url)
    except InvalidSettings:
        raise
    except (TypeError, ValueError) as error:
        raise InvalidSettings(_SETTING, f"a Redis URI: {error}", _masked(url)) from None


def _of_plain_url(url: str) -> Address:
    parts = urlsplit(url)
    if parts.scheme != "unix":
        _check_port(parts)
        _check_database(parts.path)
    if parts.scheme != "rediss" and any(name.startswith("ssl_") for name, _ in parse_qsl(parts.query)):
        raise ValueError("options that begin with ssl_ need TLS; use rediss://host:port")
    for name in sorted({name for name, _ in parse_qsl(parts.query)} - _OPTIONS - _PASSED_OVER - {_CHECK}):
        if not name.startswith("ssl_"):
            raise ValueError(f"unknown option {name!r}")
    return _of_pool(redis.ConnectionPool.from_url(url))


def _of_sentinel_url(parts: SplitResult) -> Address:
    user, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not hosts or not service:
        raise ValueError("name the Sentinels and the service, as in redis+sentinel://host:26379/mymaster")
    sentinel_options, rest = _sentinel_query(parts.query)
    scheme = parts.scheme.removesuffix("+sentinel")
    login = f"{user}{at}sentinel"
    plain = _of_plain_url(SplitResult(scheme, login, f"/{database}", urlencode(rest), "").geturl())
    listening = tuple(_host_and_port(host) for host in hosts.split(","))
    options = {**sentinel_options, **_tls(plain.kind, plain.options)}
    return _behind(plain, Sentinels(listening, unquote(service), options))


def _sentinel_query(query: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Split a query into the Sentinels' `sentinel_username` and `sentinel_password`, and the rest."""
    own, rest = {}, []
    for name, value in parse_qsl(query):
        if name in {"sentinel_username", "sentinel_password"}:
            own[name.removeprefix("sentinel_")] = value
        else:
            rest.append((name, value))
    return own, rest


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    _check_port(parts)
    if not parts.hostname:
        raise ValueError("a Sentinel without a host")
    return parts.hostname, parts.port or DEFAULT_PORT


def _check_port(parts: SplitResult) -> None:
    """Check the port; the error shows nothing, since a password with `/`, `?` or `#` looks like a port."""
    try:
        is_valid = parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError(
            "the port must be 1 to 65535; escape characters such as / ? # @ in a password, as in %2F"
        )


def _check_database(path: str) -> None:
    if path.strip("/") and not path.strip("/").isdecimal():
        raise ValueError("the database after the port must be a number")


def _of_pool(pool: Any) -> Address:
    """Read the settings of a redis-py pool; its connection class tells TLS and Unix sockets apart."""
    kind, options = _kind(pool.connection_class), pool.connection_kwargs
    kept = {name: value for name, value in options.items() if name in _OPTIONS or name.startswith("ssl_")}
    if kind == "tls":
        kept = checked_tls(kept)
    max_idle = _max_idle(options.get(_CHECK))
    if kind == "unix":
        return Address(f"redis at {kept.get('path')}", kept, kind, max_idle=max_idle)
    label = f"redis at {kept.get('host', 'localhost')}:{kept.get('port', 6379)}"
    address = Address(label, kept, kind, max_idle=max_idle)
    if isinstance(
        pool, redis.sentinel.SentinelConnectionPool | redis.asyncio.sentinel.SentinelConnectionPool
    ):
        return _behind(address, _sentinels_of(pool))
    return address


def _max_idle(given: object) -> float:
    """Read `health_check_interval`; 0 means Mesa's default, since redis-py has 0 unless it is set."""
    if not given:
        return MAX_IDLE
    try:
        return msgspec.convert(given, Seconds)
    except msgspec.ValidationError:
        expected = "more than 0 and up to 86400 seconds"
        raise InvalidSettings(f"{_SETTING}.{_CHECK}", expected, given) from None


def _sentinels_of(pool: Any) -> Sentinels:
    pools = [client.connection_pool for client in pool.sentinel_manager.sentinels]
    hosts = tuple((each.connection_kwargs["host"], int(each.connection_kwargs["port"])) for each in pools)
    options = pools[0].connection_kwargs
    login = {name: options[name] for name in ("username", "password") if options.get(name)}
    return Sentinels(hosts, pool.service_name, {**login, **_tls(_kind(pools[0].connection_class), options)})


def _tls(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the TLS options of a connection, for a client that connects in the same way."""
    if kind != "tls":
        return {}
    return {"ssl": True} | {name: value for name, value in options.items() if name.startswith("ssl_")}


def _behind(address: Address, sentinels: Sentinels) -> Address:
    named = ",".join(f"{host}:{port}" for host, port in sentinels.hosts)
    return replace(
        address, label=f"redis {sentinels.service!r} of the sentinels {named}", sentinels=sentinels
    )


def _kind(cls: type) -> str:
    if issubclass(cls, redis.SSLConnection | redis.asyncio.SSLConnection):
        return "tls"
    if issubclass(cls, redis.UnixDomainSocketConnection | redis.asyncio.UnixDomainSocketConnection):
        return "unix"
    return "tcp"


def _masked(url: str) -> str:
    """Return the part of a URL that certainly holds no credentials."""
    scheme = url.partition(":")[0][:20]
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2]
        if "@" in f"{parts.path}{parts.query}{parts.fragment}" or (parts.port is None and ":" in hosts):
            return f"{scheme}:..."
    except ValueError:
        return f"{scheme}:..."
    return (
        f"{parts.scheme}://{hosts}{parts.path}" if hosts else f"{parts.scheme}:{parts.path}".strip(":")[:40]
    )

"""Every setting of `mesa serve`: those of the server, and those of the command around it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import msgspec

from ...backend.redis import Address
from ...bearer import SHORTEST_KEY, check_key
from ...errors import InvalidInput, InvalidSettings
from ...settings import FEATURES, Count, Hosts, Port, ServerSettings, Settings
from ...transports.listening import listed

Path = Annotated[str, msgspec.Meta(pattern="^/", description="a path that starts with /, such as /ws")]
Text = Annotated[str, msgspec.Meta(min_length=1, description="text of one or more characters")]

Algorithm = Annotated[Literal["HS256", "HS384", "HS512"], msgspec.Meta(description="HS256, HS384 or HS512")]
Level = Annotated[
    Literal["debug", "info", "warning", "error"],
    msgspec.Meta(description="debug, info, warning or error"),
]


def _overlap(some: Hosts, others: Hosts) -> bool:
    """Whether two listeners on one port would meet; `""` is every address."""
    return "" in listed(some) + listed(others) or not set(listed(some)).isdisjoint(listed(others))


def _hide(path: str, value: object) -> None:
    """Refuse a secret of a wrong type without repeating it."""
    if value is not None and not isinstance(value, str):
        raise InvalidSettings(path, "text", type(value).__name__)


def _check_key(key: str) -> None:
    try:
        check_key(key, shortest=SHORTEST_KEY)
    except InvalidSettings as error:
        raise InvalidSettings("api.key", error.expected, error.got) from None


class Jwt(Settings, frozen=True, kw_only=True):
    """How clients prove who they are to a server without an application: by a signed token.

    Args:
        secret: what tokens are signed with; RFC 7518 section 3.2 asks for 32 bytes or more.
        secret_file: a file that holds the secret, instead of `secret`.
        algorithm: the only algorithm that is accepted, whatever a token says.
        audience: the `aud` that tokens have to carry; None to accept those without one.
        issuer: the `iss` that tokens have to carry; None for any.
    """

    secret: Text | None = None
    secret_file: Text | None = None
    algorithm: Algorithm = "HS256"
    audience: Text | None = None
    issuer: Text | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether tokens are to be checked."""
        return self.secret is not None or self.secret_file is not None

    def __post_init__(self) -> None:
        _hide("jwt.secret", self.secret)
        super().__post_init__()
        if self.secret is not None and self.secret_file is not None:
            raise InvalidInput("jwt: expected secret or secret_file, got both; take one out")


class Api(Settings, frozen=True, kw_only=True):
    """The HTTP dispatch API beside the server.

    Args:
        enabled: on by default.
        host: address or name to listen on, several of them, or "" for every address.
        port: port to listen on; 0 for a free one.
        key: what dispatchers have to show; None for a random one, made and shown at every start.
        max_body: bytes of the largest request.
    """

    enabled: bool = True
    host: Hosts = "127.0.0.1"
    port: Port = 4001
    key: str | None = None
    max_body: Count = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        _hide("api.key", self.key)
        super().__post_init__()
        if self.key is not None:
            _check_key(self.key)


class Log(Settings, frozen=True, kw_only=True):
    """What is written to stderr while the server runs.

    Args:
        level: the least important level that is written.
        json: one JSON object a line instead of text.
        messages: also each message, by type and id, whatever the level.
    """

    level: Level = "info"
    json: bool = False
    messages: bool = False


class Configuration(ServerSettings, frozen=True, kw_only=True):
    """Everything `mesa serve` can be told.

    Args:
        host: address or name to listen on for clients, several of them, or "" for every address.
        port: port to listen on for clients; 0 for a free one.
        path: the only path that clients may ask for; None for all.
        redis: URI of the Redis that replicas share; None for one process alone.
        insecure_demo_auth: clients name their id themselves; for trying things out.
        insecure_demo_auth_anywhere: the same, also where other machines can connect.
    """

    host: Hosts = "127.0.0.1"
    port: Port = 4000
    path: Path | None = None
    redis: str | None = None
    insecure_demo_auth: bool = False
    insecure_demo_auth_anywhere: bool = False
    jwt: Jwt = Jwt()
    api: Api = Api()
    log: Log = Log()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.redis is not None:
            Address.of(self.redis)
        if self.api.enabled and 0 != self.port == self.api.port and _overlap(self.host, self.api.host):
            raise InvalidInput(f"api.port: expected another one than port, got {self.port} for both")

    @classmethod
    def of(cls, given: object, where: str | None = None) -> Self:
        """Accept a mapping whose tables are given in any of their forms."""
        if not isinstance(given, Mapping):
            return super().of(given, where)
        tables = {name: TABLES[name].of(given[name], name) for name in given if name in TABLES}
        return super().of({**given, **tables}, where)

    @property
    def server_options(self) -> dict[str, Any]:
        """The part that `Server` takes as its options."""
        return {name: getattr(self, name) for name in ServerSettings.__struct_fields__}


TABLES: dict[str, type[Settings]] = {**FEATURES, "jwt": Jwt, "api": Api, "log": Log}
"""Settings that have settings of their own; tables in the file."""

SECRETS = frozenset({"jwt.secret", "api.key"})
"""Settings that are never shown."""

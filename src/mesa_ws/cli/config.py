"""One configuration from flags, environment and file: a flag beats the environment, which beats the file."""

import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

import click
import msgspec

from ..backend.http.auth import SHORTEST_KEY, check_key
from ..backend.redis import Address
from ..errors import InvalidInput, InvalidSettings, Unsupported
from ..http_server.server import ApiLimits
from ..settings import (
    Count,
    Hosts,
    Networks,
    OriginList,
    Port,
    ServerSettings,
    Settings,
    Types,
    Window,
    features,
)
from ..transports.listening import listed
from ..transports.run import GC_THRESHOLD
from .output import escaped

UrlPath = Annotated[str, msgspec.Meta(pattern="^/", description="a path that starts with /, such as /ws")]
NonEmptyText = Annotated[str, msgspec.Meta(min_length=1, description="text of one or more characters")]

HostAndPort = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(?:\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*):[0-9]{1,5}$",
        description="HOST:PORT, such as 127.0.0.1:9100",
    ),
]
"""An address of this machine, or none for all, and a port."""

Algorithm = Annotated[Literal["HS256", "HS384", "HS512"], msgspec.Meta(description="HS256, HS384 or HS512")]
Files = Annotated[
    NonEmptyText | Annotated[tuple[NonEmptyText, ...], msgspec.Meta(min_length=1)],
    msgspec.Meta(description="a file, or a list of files"),
]
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
    """How clients authenticate to a server without an application: by a signed token.

    Tokens are verified by a secret, by public keys, or by the keys behind a URL.

    Args:
        secret: the secret that signs tokens; RFC 7518 section 3.2 asks for 32 bytes or more.
        secret_file: a file that holds the secret, instead of `secret`; several while one replaces another.
        algorithm: the only one that is accepted with a secret, whatever a token says.
        public_key_file: a file that holds public keys in PEM: RSA for RS256, P-256 for ES256, Ed25519 for
            EdDSA; or several files.
        jwks_url: where an identity provider publishes its keys.
        id_claim: the claim that is the id of the user; an integer becomes text.
        audience: the `aud` that tokens have to carry; None to accept those without one.
        issuer: the `iss` that tokens have to carry; None for any.
        leeway: seconds that clocks may differ by, for `exp`, `nbf` and `iat`.
    """

    secret: NonEmptyText | None = None
    secret_file: Files | None = None
    algorithm: Algorithm = "HS256"
    public_key_file: Files | None = None
    jwks_url: NonEmptyText | None = None
    id_claim: NonEmptyText = "sub"
    audience: NonEmptyText | None = None
    issuer: NonEmptyText | None = None
    leeway: Window = 30.0

    @property
    def is_wanted(self) -> bool:
        """Whether tokens are to be checked."""
        return bool(self._sources)

    @property
    def _sources(self) -> list[str]:
        names = ("secret", "secret_file", "public_key_file", "jwks_url")
        return [name for name in names if getattr(self, name) is not None]

    def __post_init__(self) -> None:
        _hide("jwt.secret", self.secret)
        super().__post_init__()
        if len(self._sources) > 1:
            raise InvalidInput(f"jwt: expected {' or '.join(self._sources)}, got both; take one out")


class Api(ApiLimits, frozen=True, kw_only=True):
    """The HTTP dispatch API of the server; `ApiLimits` has the limits.

    Args:
        enabled: on by default.
        host: address or name to listen on, several of them, or "" for every address.
        port: port to listen on; 0 for a free one.
        key: a key for dispatchers that has all rights; without it and a file, a random one is made and shown
            at every start.
        keys_file: a file with more keys, each with a name and rights.
        max_body: bytes of the largest request.
    """

    enabled: bool = True
    host: Hosts = "127.0.0.1"
    port: Port = 4001
    key: str | None = None
    keys_file: NonEmptyText | None = None
    max_body: Count = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        _hide("api.key", self.key)
        super().__post_init__()
        if self.key is not None:
            _check_key(self.key)


class Log(Settings, frozen=True, kw_only=True):
    """The log on stderr while the server runs.

    Args:
        level: the lowest level that is written.
        json: one JSON object a line instead of text.
        messages: also each message, by type and id, at any level.
    """

    level: Level = "info"
    json: bool = False
    messages: bool = False


class Configuration(ServerSettings, frozen=True, kw_only=True):
    """All settings of `mesa serve`.

    Args:
        host: address or name to listen on for clients, several of them, or "" for every address.
        port: port to listen on for clients; 0 for a free one.
        path: the only path that clients may ask for; None for all.
        one_port: the dispatch API answers on that port, too, and has none of its own.
        redis: URI of the Redis that replicas share; None for one process alone.
        insecure_demo_auth: clients name their id themselves; for trying things out.
        insecure_demo_auth_anywhere: the same, also where other machines can connect.
        gc_threshold: see `Server.run`.
        metrics: where to listen for Prometheus and probes, who need no key there; None for the API alone.
    """

    host: Hosts = "127.0.0.1"
    port: Port = 4000
    path: UrlPath | None = None
    one_port: bool = False
    redis: str | None = None
    insecure_demo_auth: bool = False
    insecure_demo_auth_anywhere: bool = False
    gc_threshold: Count | None = GC_THRESHOLD
    metrics: HostAndPort | None = None
    jwt: Jwt = Jwt()
    api: Api = Api()
    log: Log = Log()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.redis is not None:
            Address.of(self.redis)

    @property
    def server_options(self) -> dict[str, Any]:
        """The settings that are options of `Server`."""
        return {name: getattr(self, name) for name in ServerSettings.__struct_fields__}


TABLES = features(Configuration)
"""Settings that have settings of their own; tables in the file."""

SECRETS = frozenset({"jwt.secret", "api.key"})
"""Settings that are never shown."""


class Setting(NamedTuple):
    """One setting of `mesa serve`.

    Attributes:
        path: its name in the file and in errors, such as `heartbeat.interval`.
        owner: the class it is a field of.
        name: the name of that field.
        type: what the field holds.
        default: its value where none of the settings of its table is given.
    """

    path: str
    owner: type[Settings]
    name: str
    type: Any
    default: Any

    @property
    def variable(self) -> str:
        """Its name in the environment, such as `MESA_HEARTBEAT_INTERVAL`."""
        return f"MESA_{self.path.upper().replace('.', '_')}"

    def check(self, value: object) -> None:
        """Raise `InvalidSettings` or `Unsupported` if a value is wrong by itself."""
        self.owner.of({self.name: value})

    def read(self, text: str) -> object:
        """Convert text from the command line or the environment to a value.

        `none` means no value, for a setting that may have none and is not text. NonEmptyText that cannot be
        converted is returned unchanged, for `check` to refuse. Commas separate hosts, networks and types.
        """
        if self.clears_with(text):
            return None
        is_list = self.type in {Types | None, Networks | None, OriginList | None}
        if is_list or (self.type in {Hosts, Files | None} and "," in text):
            return tuple(each.strip() for each in text.split(","))
        try:
            return msgspec.convert(text, self.type, strict=False)
        except msgspec.ValidationError:
            return text

    def clears_with(self, value: object) -> bool:
        """Whether `value` is the word `none`, for a setting that may have no value; TOML has no null."""
        kinds = get_args(self.type)
        return type(None) in kinds and value == "none" and not any(_is_text(kind) for kind in kinds)


def _is_text(kind: Any) -> bool:
    return kind is str or getattr(kind, "__origin__", None) is str


def _settings() -> dict[str, Setting]:
    owners: dict[str, type[Settings]] = {"": Configuration, **TABLES}
    found = {}
    for table, owner in owners.items():
        defaults = owner()
        for field in msgspec.structs.fields(owner):
            path = f"{table}.{field.name}" if table else field.name
            if path not in TABLES:
                found[path] = Setting(path, owner, field.name, field.type, getattr(defaults, field.name))
    return found


SETTINGS = _settings()
"""Every setting by its path."""


class GivenValue(NamedTuple):
    """A value and where it was given, such as `mesa.toml: port`, `MESA_PORT` or `--port`."""

    where: str
    value: object


Layer = dict[str, GivenValue]
"""The values of one source, by the path of the setting."""


def of_environment(environment: Mapping[str, str]) -> Layer:
    """Read the variables that name a setting; an empty one counts as absent."""
    layer = {}
    for setting in SETTINGS.values():
        text = environment.get(setting.variable)
        if text:
            layer[setting.path] = _checked(setting, setting.variable, setting.read(text))
    return layer


def of_file(file: Path) -> Layer:
    """Read a TOML file; an error names the file and the setting."""
    return {
        path: _checked(_known(file, path), f"{file}: {path}", value)
        for path, value in _leaves(file, _document(file))
    }


def _document(file: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(file.read_bytes().decode())
    except OSError as error:
        raise InvalidInput(f"{file}: expected a file to read, got: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{file}: expected TOML, got: {error}") from error


def _leaves(file: Path, document: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in document.items():
        if name not in TABLES:
            yield name, value
        elif isinstance(value, Mapping):
            yield from ((f"{name}.{key}", leaf) for key, leaf in value.items())
        elif isinstance(value, bool) and f"{name}.enabled" in SETTINGS:
            yield f"{name}.enabled", value
        else:
            raise InvalidSettings(f"{file}: {name}", f"a table [{name}]", value)


def _known(file: Path, path: str) -> Setting:
    if path in SETTINGS:
        return SETTINGS[path]
    table, _, name = path.rpartition(".")
    if table in TABLES:
        names = [known.name for known in SETTINGS.values() if known.path == f"{table}.{known.name}"]
    else:
        names = [known.path for known in SETTINGS.values() if "." not in known.path] + list(TABLES)
    raise InvalidSettings(f"{file}: {path}", f"one of {', '.join(names)}", name)


def _checked(setting: Setting, where: str, value: object) -> GivenValue:
    if setting.clears_with(value):
        return GivenValue(where, None)
    try:
        setting.check(value)
    except InvalidSettings as error:
        raise InvalidSettings(where, error.expected, error.got) from None
    except Unsupported as error:
        raise Unsupported(f"{where}: {error}") from None
    return GivenValue(where, value)


DEFAULT_FILE = Path("mesa.toml")
"""The file that is read if it exists and no other is named."""

_SWITCHED_ON_BY_USE = ("heartbeat", "reconnect")
"""Features that are off by default, and turned on by any of their settings."""

_ALTERNATIVES = ("jwt.secret", "jwt.secret_file", "jwt.public_key_file", "jwt.jwks_url")
"""Settings of which one from a later source replaces the others from an earlier one."""


class Resolved(NamedTuple):
    """The resolved configuration, and its sources.

    Attributes:
        configuration: the configuration.
        given: all values that were given, by path.
        file: the values of the file, by path.
        flags: the values of flags, by path.
    """

    configuration: Configuration
    given: Layer
    file: Layer
    flags: Layer


def resolve(flags: Layer, environment: Mapping[str, str], file: Path | None = None) -> Resolved:
    """Combine flags, which are checked already, with the environment and a file.

    Without a file, `mesa.toml` in the working directory is read, if there is one. Errors name the source.
    """
    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    in_file = of_file(file) if file else {}
    merged: Layer = {}
    for layer in (in_file, of_environment(environment), flags):
        _overlay(merged, layer)
    _check_authentication(merged)
    configuration = Configuration.of(_nested(merged))
    _check_ports(configuration)
    return Resolved(configuration, merged, in_file, flags)


def _check_ports(settings: Configuration) -> None:
    """Check settings that are right only together; `Setting.check` looks at each by itself."""
    api, port = settings.api, settings.port
    if settings.one_port:
        if not api.enabled:
            raise InvalidInput("one_port: expected a dispatch API, which api.enabled has turned off")
    elif api.enabled and 0 != port == api.port and _overlap(settings.host, api.host):
        raise InvalidInput(f"api.port: expected another one than port, got {port} for both")


def _overlay(merged: Layer, layer: Layer) -> None:
    if any(path in layer for path in _ALTERNATIVES):
        for path in _ALTERNATIVES:
            merged.pop(path, None)
    for feature in _SWITCHED_ON_BY_USE:
        used = [given for path, given in layer.items() if path.startswith(f"{feature}.")]
        if used:
            merged[f"{feature}.enabled"] = GivenValue(used[0].where, True)
    merged.update(layer)


def _check_authentication(merged: Layer) -> None:
    """Refuse tokens together with demo authentication; one would silently undo the other."""
    token = next((merged[path] for path in _ALTERNATIVES if path in merged), None)
    for path in ("insecure_demo_auth", "insecure_demo_auth_anywhere"):
        demo = merged.get(path)
        if token and demo and demo.value:
            raise InvalidInput(f"{demo.where}: expected it or {token.where}, got both; take one out")


def _nested(layer: Layer) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, given in layer.items():
        table, _, name = path.rpartition(".")
        (nested.setdefault(table, {}) if table else nested)[name] = given.value
    return nested


_PREFIX = "MESA_"
_ALIKE = 0.72
"""How similar names have to be. The graphics library Mesa has variables too, which get no warning."""


def warn_of_unknown(environment: Mapping[str, str], main: click.Group) -> None:
    """Warn on stderr of each variable that no command reads and that resembles one that is read."""
    known = {setting.variable for setting in SETTINGS.values()} | set(_of_commands(main))
    names = {name.removeprefix(_PREFIX) for name in known}
    for name in sorted(environment):
        if not name.startswith(_PREFIX) or name in known:
            continue
        meant = _nearest(name.removeprefix(_PREFIX), names)
        if meant is not None:
            mend = f"did you mean {_PREFIX}{meant}?"
            click.echo(f"Warning: {escaped(name)}: there is no such variable; {mend}", err=True)


def _nearest(name: str, names: set[str]) -> str | None:
    swapped = [each for each in names if sorted(each) == sorted(name)]
    return next(iter(swapped or get_close_matches(name, names, 1, _ALIKE)), None)


def _of_commands(group: click.Group) -> Iterator[str]:
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from _of_commands(command)
        for parameter in command.params:
            read = parameter.envvar
            yield from [read] if isinstance(read, str) else read or ()

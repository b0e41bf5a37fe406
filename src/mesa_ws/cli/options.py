"""Options of several commands: the flags of `mesa serve`, addresses, and recipients."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, get_args

import click
import msgspec
from click.core import ParameterSource

from ..backend.base import BlockingBus
from ..backend.urls import blocking_bus
from ..errors import InvalidRecipients, InvalidSettings
from ..messages.recipients import check_id
from ..settings import Wire
from .config import SETTINGS, GivenValue, Layer, Setting
from .output import from_command_line, note_address

_LAYER = "mesa_ws.flags"

Function = Callable[..., Any]
Option = Callable[[Function], Function]


def options(*each: Option) -> Option:
    """Make one decorator of several options, which the help lists in this order."""

    def add(command: Function) -> Function:
        for option in reversed(each):
            command = option(command)
        return command

    return add


_FLAGS = {
    "host": "Address or name to listen on for clients; several are separated by commas, and '' is every one.",
    "port": "Port to listen on for clients; 0 for a free one.",
    "path": "The only path that clients may ask for, such as /ws.",
    "one_port": "Answer dispatchers on the port of the clients.",
    "redis": "Redis that several servers share: redis://, rediss://, unix:// or redis+sentinel://. "
    "Without it, one process serves alone.",
    "wire": "How servers talk through Redis: native, or mesa1 to share it with npm's @cryb/mesa 1.x.",
    "namespace": "Servers of different namespaces never meet.",
    "allowed_origins": "Origins of web pages that may connect, with commas between, such as "
    "https://app.example.com.",
    "trusted_proxies": "Networks of the proxies that name the addresses of clients, separated by commas.",
    "jwt.secret_file": "Clients authenticate by tokens signed with the secret in this file.",
    "jwt.secret": "The secret itself. Other users of this machine can see flags: better set the variable.",
    "jwt.algorithm": "The only algorithm accepted: HS256, HS384 or HS512.",
    "jwt.public_key_file": "Clients authenticate by tokens that the public key in this PEM file verifies.",
    "jwt.jwks_url": "The same with the keys that an identity provider publishes, such as "
    "https://id.example.com/.well-known/jwks.json.",
    "jwt.id_claim": "The claim of a token that is the id of the user.",
    "jwt.audience": "The audience that tokens have to be for.",
    "jwt.issuer": "The issuer that tokens have to be of.",
    "insecure_demo_auth": "Clients name their own id. For trying things out on this machine.",
    "insecure_demo_auth_anywhere": "The same where other machines can connect. Any client can take any id.",
    "authentication.required": "Messages to everybody go to authenticated clients only.",
    "authentication.timeout": "Seconds a client has to authenticate; none for no limit.",
    "heartbeat.interval": "Turn on heartbeats, with this many seconds between two.",
    "reconnect.interval": "Tell clients to come back after this many seconds.",
    "api.host": "The same for dispatchers.",
    "api.port": "Port to listen on for dispatchers; 0 for a free one.",
    "api.key": "The key that dispatchers have to send; better set the variable. Without one, a random key is "
    "made and shown.",
    "api.enabled": "Do not open the HTTP dispatch API.",
    "metrics": "Address for Prometheus and probes, such as 127.0.0.1:9100, where they need no key. They find "
    "the same at the port of the API, where metrics need a key with the right read.",
    "log.level": "The lowest level that is logged: debug, info, warning or error.",
    "log.json": "Log one JSON object a line.",
    "log.messages": "Log connections, and each message by its type; never its data.",
}
"""Help of the flags of `mesa serve`, by the setting that each gives."""

_METAVARS = {
    "host": "ADDRESS",
    "port": "PORT",
    "path": "PATH",
    "redis": "URL",
    "wire": "NAME",
    "namespace": "NAME",
    "allowed_origins": "ORIGIN,...",
    "trusted_proxies": "NETWORK,...",
    "secret_file": "FILE",
    "secret": "SECRET",
    "public_key_file": "FILE",
    "jwks_url": "URL",
    "id_claim": "NAME",
    "audience": "NAME",
    "issuer": "NAME",
    "algorithm": "NAME",
    "timeout": "SECONDS",
    "interval": "SECONDS",
    "key": "KEY",
    "level": "LEVEL",
    "metrics": "HOST:PORT",
}
"""Names of the flags' arguments in the help, by the last part of the setting; switches have none."""


def setting_flags(command: Function) -> Function:
    """Add the flags to a command; `given_flags` returns their values."""
    return options(*(_flag(SETTINGS[path], help) for path, help in _FLAGS.items()))(command)


def given_flags(context: click.Context) -> Layer:
    """Return the settings from the command line."""
    layer: Layer = context.meta.get(_LAYER, {})
    return layer


def _flag(setting: Setting, help: str) -> Option:
    is_off = setting.path == "api.enabled"
    name = "--no-api" if is_off else f"--{re.sub('[._]', '-', setting.path)}"
    name = name.replace("--authentication-", "--auth-")
    metavar = _METAVARS.get(setting.name)

    def collect(context: click.Context, param: click.Parameter, typed: str | bool | None) -> None:
        if typed is not None:
            given = _read(setting, typed) if isinstance(typed, str) else not is_off
            context.meta.setdefault(_LAYER, {})[setting.path] = GivenValue(name, given)

    default = f"; default: {setting.default}" if metavar and setting.default is not None else ""
    if setting.path in {"heartbeat.interval", "reconnect.interval"}:
        default = "; default: off"
    return click.option(
        name,
        default=None,
        help=f"{help}  [{setting.variable}{default}]",
        expose_value=False,
        callback=collect,
        metavar=metavar,
        is_flag=metavar is None,
    )


def _read(setting: Setting, text: str) -> object:
    value = setting.read(text)
    if value is not None:
        try:
            setting.check(value)
        except InvalidSettings as error:
            raise click.BadParameter(f"expected {error.expected}, got {error.got!r}") from None
    return value


def _key(context: click.Context, param: click.Parameter, key: str | None) -> str | None:
    """Return the key. Redis has none, so a key that is only in the environment is ignored for Redis."""
    if _is_http(context) and key is None:
        raise click.BadParameter(
            "expected the key that the server was started with, got none; --key or MESA_API_KEY gives it",
            param=param,
        )
    return key if _is_typed(context, param) or _is_http(context) else None


def _wire(context: click.Context, param: click.Parameter, wire: str) -> str:
    """Return the wire. A server's API needs none, so one that is only in the environment is ignored."""
    return wire if _is_typed(context, param) or not _is_http(context) else "native"


def _is_http(context: click.Context) -> bool:
    return str(context.params.get("url", "")).lower().startswith(("http://", "https://"))


def _is_typed(context: click.Context, param: click.Parameter) -> bool:
    return context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE


namespace_option = click.option(
    "--namespace", envvar="MESA_NAMESPACE", help="The namespace of the servers.  [MESA_NAMESPACE]"
)

address_options = options(
    click.option(
        "--url",
        envvar=["MESA_URL", "MESA_REDIS"],
        is_eager=True,
        default="http://127.0.0.1:4001",
        callback=note_address,
        help="A server's dispatch API (http://, https://), or the Redis of the servers (redis://, "
        "rediss://, unix://, redis+sentinel://).  [MESA_URL, or else MESA_REDIS; "
        "default: http://127.0.0.1:4001]",
    ),
    click.option(
        "--key",
        envvar="MESA_API_KEY",
        callback=_key,
        help="The key of the server's dispatch API.  [MESA_API_KEY]",
    ),
    namespace_option,
    click.option(
        "--wire",
        envvar="MESA_WIRE",
        type=click.Choice(get_args(Wire)),
        default="native",
        callback=_wire,
        help="How the servers talk through Redis: mesa1 is that of npm's @cryb/mesa 1.x.  "
        "[MESA_WIRE; default: native]",
    ),
)
"""The command gets the address as `url`, `key`, `namespace` and `wire`."""


@contextmanager
def connected(url: str, key: str | None, namespace: str | None, wire: Wire) -> Iterator[BlockingBus]:
    """Give a bus to the cluster, which connects when it is first used; wrong input is the command line's."""
    with from_command_line(), closing(blocking_bus(url, namespace=namespace, key=key, wire=wire)) as bus:
        yield bus


_NOBODY_NAMED = (
    "expected recipients, got none; --to 1,2 names clients by their id, --all means every connected client"
)


def read_ids(context: click.Context, param: click.Parameter, typed: tuple[str, ...]) -> tuple[str, ...]:
    """Read ids between commas, or a JSON list; only `--to` may have `*` for everybody."""
    ids = tuple(id for text in typed for id in _ids(text))
    try:
        for id in ids:
            if id != "*" or param.name != "to":
                check_id(id)
    except InvalidRecipients as error:
        raise click.BadParameter(str(error)) from None
    return ids


def _ids(text: str) -> list[str]:
    if not text.lstrip().startswith("["):
        return [id.strip() for id in text.split(",")]
    try:
        return msgspec.json.decode(text, type=list[str])
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"expected a JSON list of ids as text, got {text!r}: {error}") from None


recipient_options = options(
    click.option(
        "--to",
        callback=read_ids,
        metavar="ID,...",
        multiple=True,
        help="""Ids it is for, with commas between; may be given again. A JSON list, as in '["a,b"]', """
        "where an id contains a comma.",
    ),
    click.option(
        "--all", "everybody", is_flag=True, help="For every connected client; the same as --to '*'."
    ),
    click.option(
        "--excluding",
        callback=read_ids,
        metavar="ID,...",
        multiple=True,
        help="Ids that shall not receive it.",
    ),
)
"""The command gets the recipients as `to`, `everybody` and `excluding`."""


def recipients_of(to: tuple[str, ...], everybody: bool) -> Sequence[str]:
    """Return the recipients that the options name, never all clients by default.

    Everybody is returned as `["*"]`, because an event needs explicit recipients.
    """
    if everybody and to:
        raise click.UsageError("expected --to or --all, got both")
    if not everybody and not to:
        raise click.UsageError(_NOBODY_NAMED)
    return ["*"] if everybody else to

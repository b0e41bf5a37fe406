"""Options of several commands: the flags of `mesa serve`, addresses, and recipients."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

import click
import msgspec
from click.core import ParameterSource

from ..backend.base import BlockingBus
from ..backend.urls import blocking_bus
from ..errors import InvalidRecipients, InvalidSettings
from ..messages.recipients import check_id
from ..settings import Wire
from .config import SETTINGS, Given, Layer, Setting
from .output import note_address

_LAYER = "mesa_ws.flags"


class _Flag(NamedTuple):
    """A flag of `mesa serve`, which gives one setting.

    Attributes:
        name: the flag as the user types it.
        path: the setting.
        help: one line of help.
        value: the value of a flag without an argument; None for a flag with an argument.
        metavar: name of the argument in the help.
    """

    name: str
    path: str
    help: str
    value: object = None
    metavar: str = "TEXT"


_FLAGS = (
    _Flag(
        "--host",
        "host",
        "Address or name to listen on for clients; several are separated by commas, and '' is every one.",
        metavar="ADDRESS",
    ),
    _Flag("--port", "port", "Port to listen on for clients; 0 for a free one.", metavar="PORT"),
    _Flag("--path", "path", "The only path that clients may ask for, such as /ws.", metavar="PATH"),
    _Flag(
        "--redis",
        "redis",
        "Redis that several servers share: redis://, rediss://, unix:// or redis+sentinel://. "
        "Without it, one process serves alone.",
        metavar="URL",
    ),
    _Flag(
        "--wire",
        "wire",
        "How servers talk through Redis: native, or mesa1 to share it with npm's @cryb/mesa 1.x.",
        metavar="NAME",
    ),
    _Flag("--namespace", "namespace", "Servers of different namespaces never meet.", metavar="NAME"),
    _Flag(
        "--jwt-secret-file",
        "jwt.secret_file",
        "Clients authenticate by tokens signed with the secret in this file.",
        metavar="FILE",
    ),
    _Flag(
        "--jwt-secret",
        "jwt.secret",
        "The secret itself. Other users of this machine can see flags: better set the variable.",
        metavar="SECRET",
    ),
    _Flag(
        "--jwt-algorithm",
        "jwt.algorithm",
        "The only algorithm accepted: HS256, HS384 or HS512.",
        metavar="NAME",
    ),
    _Flag(
        "--insecure-demo-auth",
        "insecure_demo_auth",
        "Clients name their own id. For trying things out on this machine.",
        True,
    ),
    _Flag(
        "--insecure-demo-auth-anywhere",
        "insecure_demo_auth_anywhere",
        "The same where other machines can connect. Any client can take any id.",
        True,
    ),
    _Flag(
        "--auth-required",
        "authentication.required",
        "Messages to everybody go to authenticated clients only.",
        True,
    ),
    _Flag(
        "--auth-timeout",
        "authentication.timeout",
        "Seconds a client has to authenticate; none for no limit.",
        metavar="SECONDS",
    ),
    _Flag(
        "--heartbeat-interval",
        "heartbeat.interval",
        "Turn on heartbeats, with this many seconds between two.",
        metavar="SECONDS",
    ),
    _Flag(
        "--reconnect-interval",
        "reconnect.interval",
        "Tell clients to come back after this many seconds.",
        metavar="SECONDS",
    ),
    _Flag("--api-host", "api.host", "The same for dispatchers.", metavar="ADDRESS"),
    _Flag("--api-port", "api.port", "Port to listen on for dispatchers; 0 for a free one.", metavar="PORT"),
    _Flag(
        "--api-key",
        "api.key",
        "The key that dispatchers have to send; better set the variable. Without one, a random key is "
        "made and shown.",
        metavar="KEY",
    ),
    _Flag("--no-api", "api.enabled", "Do not open the HTTP dispatch API.", False),
    _Flag(
        "--log-level",
        "log.level",
        "The lowest level that is logged: debug, info, warning or error.",
        metavar="LEVEL",
    ),
    _Flag("--log-json", "log.json", "Log one JSON object a line.", True),
    _Flag(
        "--log-messages",
        "log.messages",
        "Log connections, and each message by its type; never its data.",
        True,
    ),
)


def setting_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags to a command; `given_flags` returns their values."""
    for flag in reversed(_FLAGS):
        command = _option(flag)(command)
    return command


def given_flags(context: click.Context) -> Layer:
    """Return the settings from the command line."""
    layer: Layer = context.meta.get(_LAYER, {})
    return layer


def _option(flag: _Flag) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    setting = SETTINGS[flag.path]

    def collect(context: click.Context, param: click.Parameter, typed: str | bool | None) -> None:
        if typed is not None:
            given = _read(setting, typed) if isinstance(typed, str) else flag.value
            context.meta.setdefault(_LAYER, {})[flag.path] = Given(flag.name, given)

    kind: dict[str, Any] = {"is_flag": True} if flag.value is not None else {"metavar": flag.metavar}
    return click.option(
        flag.name, default=None, help=_help(flag, setting), expose_value=False, callback=collect, **kind
    )


def _read(setting: Setting, text: str) -> object:
    value = setting.read(text)
    if value is not None:
        try:
            setting.check(value)
        except InvalidSettings as error:
            raise click.BadParameter(f"expected {error.expected}, got {error.got!r}") from None
    return value


def _help(flag: _Flag, setting: Setting) -> str:
    default = "" if flag.value is not None or setting.default is None else f"; default: {setting.default}"
    if setting.path in {"heartbeat.interval", "reconnect.interval"}:
        default = "; default: off"
    return f"{flag.help}  [{setting.variable}{default}]"


def address_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as `url`, `key`, `namespace` and `wire`."""
    for option in (
        click.option(
            "--wire",
            envvar="MESA_WIRE",
            type=click.Choice(get_args(Wire)),
            default="native",
            callback=_wire,
            help="How the servers talk through Redis: mesa1 is that of npm's @cryb/mesa 1.x.  "
            "[MESA_WIRE; default: native]",
        ),
        click.option(
            "--namespace", envvar="MESA_NAMESPACE", help="The namespace of the servers.  [MESA_NAMESPACE]"
        ),
        click.option(
            "--key",
            envvar="MESA_API_KEY",
            callback=_key,
            help="The key of the server's dispatch API.  [MESA_API_KEY]",
        ),
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
    ):
        command = option(command)
    return command


def connect(url: str, key: str | None, namespace: str | None, wire: Wire) -> BlockingBus:
    """Return a bus to that cluster; it connects when it is first used.

    Raises:
        InvalidSettings: the address cannot be used.
    """
    return blocking_bus(url, namespace=namespace, key=key, wire=wire)


def _key(context: click.Context, param: click.Parameter, key: str | None) -> str | None:
    """Return the key. Redis has none, so a key that is only in the environment is ignored for Redis."""
    is_http = str(context.params.get("url", "")).lower().startswith(("http://", "https://"))
    if is_http and key is None:
        raise click.BadParameter(
            "expected the key that the server was started with, got none; --key or MESA_API_KEY gives it",
            param=param,
        )
    is_typed = context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    return key if is_typed or is_http else None


def _wire(context: click.Context, param: click.Parameter, wire: str) -> str:
    """Return the wire. A server's API needs none, so one that is only in the environment is ignored."""
    is_http = str(context.params.get("url", "")).lower().startswith(("http://", "https://"))
    is_typed = context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    return wire if is_typed or not is_http else "native"


_NOBODY_NAMED = (
    "expected recipients, got none; --to 1,2 names clients by their id, --all means every connected client"
)


def recipient_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as `to`, `excluding` and `everybody`."""
    for option in (
        click.option(
            "--excluding",
            callback=_read_ids,
            metavar="ID,...",
            multiple=True,
            help="Ids that shall not receive it.",
        ),
        click.option(
            "--all", "everybody", is_flag=True, help="For every connected client; the same as --to '*'."
        ),
        click.option(
            "--to",
            callback=_read_ids,
            metavar="ID,...",
            multiple=True,
            help="""Ids it is for, with commas between; may be given again. A JSON list, as in '["a,b"]', """
            "where an id contains a comma.",
        ),
    ):
        command = option(command)
    return command


def recipients_of(to: tuple[str, ...], everybody: bool) -> Sequence[str]:
    """Return the recipients that the options name, never all clients by default.

    Everybody is returned as `["*"]`, because an event needs explicit recipients.

    Raises:
        UsageError: neither ids nor everybody, or both.
    """
    if everybody and to:
        raise click.UsageError("expected --to or --all, got both")
    if not everybody and not to:
        raise click.UsageError(_NOBODY_NAMED)
    return ["*"] if everybody else to


def _read_ids(context: click.Context, param: click.Parameter, typed: tuple[str, ...]) -> tuple[str, ...]:
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

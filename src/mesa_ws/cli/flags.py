"""The flags of `mesa serve`: each one gives a setting, checked like that of any other source."""

from collections.abc import Callable
from typing import Any, NamedTuple

import click

from ..errors import InvalidSettings
from .config.setting import SETTINGS, Setting
from .config.sources import Given, Layer

_LAYER = "mesa_ws.flags"


class _Flag(NamedTuple):
    """A flag of the command line.

    Attributes:
        name: as it is typed.
        path: the setting it gives.
        help: one line for people.
        value: what a flag without an argument gives; None for one that takes an argument.
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
        "The same where other machines can connect. Anybody can be anybody.",
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
        "What dispatchers have to show; better set the variable. Without one, a random key is made "
        "and shown.",
        metavar="KEY",
    ),
    _Flag("--no-api", "api.enabled", "Do not open the HTTP dispatch API.", False),
    _Flag(
        "--log-level",
        "log.level",
        "The least that is logged: debug, info, warning or error.",
        metavar="LEVEL",
    ),
    _Flag("--log-json", "log.json", "Log one JSON object a line.", True),
    _Flag(
        "--log-messages",
        "log.messages",
        "Log who comes and goes, and each message by its type; never what it holds.",
        True,
    ),
)


def setting_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags to a command; what they give is read with `given_flags`."""
    for flag in reversed(_FLAGS):
        command = _option(flag)(command)
    return command


def given_flags(context: click.Context) -> Layer:
    """The settings that stand on the command line."""
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

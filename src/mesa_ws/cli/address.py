"""`--url`, `--key`, `--namespace` and `--wire`: the cluster that a command talks to."""

from collections.abc import Callable
from typing import Any, get_args

import click
from click.core import ParameterSource

from ..backend.base import BlockingBus
from ..dispatcher.buses import blocking_bus
from ..settings import Wire
from .usage import note_address


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
    """The bus to that cluster; it connects when it is first used.

    Raises:
        InvalidSettings: the address cannot be used.
    """
    return blocking_bus(url, namespace=namespace, key=key, wire=wire)


def _key(context: click.Context, param: click.Parameter, key: str | None) -> str | None:
    """The key. Redis takes none, so one that only stands in the environment is not meant for it."""
    is_http = str(context.params.get("url", "")).lower().startswith(("http://", "https://"))
    if is_http and key is None:
        raise click.BadParameter(
            "expected the key that the server was started with, got none; --key or MESA_API_KEY gives it",
            param=param,
        )
    is_typed = context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    return key if is_typed or is_http else None


def _wire(context: click.Context, param: click.Parameter, wire: str) -> str:
    """The wire. A server's API speaks it for us, so what only stands in the environment is not meant."""
    is_http = str(context.params.get("url", "")).lower().startswith(("http://", "https://"))
    is_typed = context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    return wire if is_typed or not is_http else "native"

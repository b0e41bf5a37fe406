"""`mesa check-config`: would `mesa serve` start with what it reads?"""

import os
import secrets
from pathlib import Path
from typing import Any

import click
import msgspec

from ..backend.redis import Address
from .application import application_server
from .config.resolve import DEFAULT_FILE, Resolved, resolve
from .config.schema import SECRETS, Configuration
from .config.setting import SETTINGS
from .flags import given_flags, setting_flags
from .serve import build

_MASK = "***"


@click.command("check-config", short_help="Check the settings that `mesa serve` reads.")
@click.argument("application", metavar="[APP:server]", required=False)
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    envvar="MESA_CONFIG",
    help="The TOML file.  [MESA_CONFIG; default: mesa.toml, if it is there]",
)
@setting_flags
@click.option("--json", "as_json", is_flag=True, help="Print every setting as it would be, secrets masked.")
@click.pass_context
def check_config(context: click.Context, application: str | None, file: Path | None, as_json: bool) -> None:
    """Check what `mesa serve` would read and refuse: the TOML file, the environment, and flags.

    Takes the same arguments as `mesa serve`, with which an application, if one is named, is imported.
    Says ok, or what is wrong and where. Nothing is started and nothing is connected to; whether a port
    is free and whether Redis answers is seen when the server starts.
    """
    resolved = resolve(given_flags(context), os.environ, file)
    configuration = resolved.configuration
    found = application_server(application, resolved) if application is not None else None
    build(configuration, found, configuration.api.key or secrets.token_urlsafe(24))
    if as_json:
        click.echo(msgspec.json.encode(shown(configuration)))
    else:
        click.echo(f"ok: {_sources(resolved, file)}")


def shown(configuration: Configuration) -> dict[str, Any]:
    """The configuration as builtin types, with nothing in it that is secret."""
    settings: dict[str, Any] = msgspec.to_builtins(configuration)
    for path in SECRETS:
        table, _, name = path.partition(".")
        if settings[table][name] is not None:
            settings[table][name] = _MASK
    if configuration.redis is not None:
        settings["redis"] = Address.of(configuration.redis).label
    return settings


def _sources(resolved: Resolved, file: Path | None) -> str:
    named = file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    variables = sum(1 for setting in SETTINGS.values() if os.environ.get(setting.variable))
    in_file = f"{len(resolved.file)} settings from {named}" if named else f"no {DEFAULT_FILE} here"
    flags = f", {len(resolved.flags)} from flags" if resolved.flags else ""
    return f"{in_file}, {variables} from the environment{flags}"

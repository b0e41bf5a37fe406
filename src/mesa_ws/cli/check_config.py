"""`mesa check-config`: is everything right that `mesa serve` would read?"""

import os
from pathlib import Path
from typing import Any

import click
import msgspec

from ..backend.redis import Address
from .config.resolve import DEFAULT_FILE, Resolved, resolve
from .config.schema import SECRETS, Configuration
from .config.setting import SETTINGS
from .tokens import TokenAuthenticator

_MASK = "***"


@click.command("check-config", short_help="Check the settings that `mesa serve` reads.")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    envvar="MESA_CONFIG",
    help="The TOML file.  [MESA_CONFIG; default: mesa.toml, if it is there]",
)
@click.option("--json", "as_json", is_flag=True, help="Print every setting as it would be, secrets masked.")
def check_config(file: Path | None, as_json: bool) -> None:
    """Check the TOML file and the environment as `mesa serve` reads them.

    Says ok, or what is wrong and where. Nothing is started and nothing is connected to.
    """
    resolved = resolve({}, os.environ, file)
    if resolved.configuration.jwt.is_wanted:
        TokenAuthenticator(resolved.configuration.jwt)
    if as_json:
        click.echo(msgspec.json.encode(shown(resolved.configuration)))
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
    return f"{in_file}, {variables} from the environment"

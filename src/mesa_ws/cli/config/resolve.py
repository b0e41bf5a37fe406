"""One configuration out of every source: a flag beats the environment, which beats the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import InvalidInput
from .schema import TABLES, Configuration
from .sources import Given, Layer, of_environment, of_file

DEFAULT_FILE = Path("mesa.toml")
"""Read if it is there and no other is named."""

_SWITCHED_ON_BY_USE = ("heartbeat", "reconnect")
"""Features that are off by default. To name one of their settings is to want them."""

_ALTERNATIVES = {"jwt.secret": "jwt.secret_file", "jwt.secret_file": "jwt.secret"}
"""Settings of which a later source's replaces the other of an earlier one."""


class Resolved(NamedTuple):
    """The outcome.

    Attributes:
        configuration: what is to be done.
        given: everything that was said, by path.
        file: what its file says, by path.
        flags: what its flags say, by path.
    """

    configuration: Configuration
    given: Layer
    file: Layer
    flags: Layer


def resolve(flags: Layer, environment: Mapping[str, str], file: Path | None = None) -> Resolved:
    """Put together what flags, environment and file say.

    Args:
        flags: checked by whoever read them.
        environment: variables, of which those that name a setting count.
        file: the TOML file; None for `mesa.toml` in the working directory, if there is one.

    Raises:
        InvalidInput: something is wrong; the error names the source.
        Unsupported: this version does not have what is asked for.
    """
    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    in_file = of_file(file) if file else {}
    merged: Layer = {}
    for layer in (in_file, of_environment(environment), flags):
        _overlay(merged, layer)
    _check_authentication(merged)
    values = {path: given.value for path, given in merged.items()}
    return Resolved(Configuration.of(_nested(values)), merged, in_file, flags)


def _overlay(merged: Layer, layer: Layer) -> None:
    for path, other in _ALTERNATIVES.items():
        if path in layer and other not in layer:
            merged.pop(other, None)
    for feature in _SWITCHED_ON_BY_USE:
        used = [given for path, given in layer.items() if path.startswith(f"{feature}.")]
        if used:
            merged[f"{feature}.enabled"] = Given(used[0].where, True)
    merged.update(layer)


def _check_authentication(merged: Layer) -> None:
    """Refuse tokens and demo authentication together; one would silently undo the other."""
    token = merged.get("jwt.secret") or merged.get("jwt.secret_file")
    for path in ("insecure_demo_auth", "insecure_demo_auth_anywhere"):
        demo = merged.get(path)
        if token and demo and demo.value:
            raise InvalidInput(f"{demo.where}: expected it or {token.where}, got both; take one out")


def _nested(values: Mapping[str, object]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in values.items():
        table, _, name = path.rpartition(".")
        if table in TABLES:
            nested.setdefault(table, {})[name] = value
        else:
            nested[path] = value
    return nested

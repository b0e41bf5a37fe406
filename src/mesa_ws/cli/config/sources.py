"""Where values come from. Each is checked where it is read, so that an error names its source."""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ...errors import InvalidInput, InvalidSettings, Unsupported
from .schema import TABLES
from .setting import SETTINGS, Setting


class Given(NamedTuple):
    """A value and where it was given, such as `mesa.toml: port`, `MESA_PORT` or `--port`."""

    where: str
    value: object


Layer = dict[str, Given]
"""What one source gives, by the path of the setting."""


def of_environment(environment: Mapping[str, str]) -> Layer:
    """Read the variables that name a setting; an empty one counts as absent.

    Raises:
        InvalidSettings: a value is wrong.
        Unsupported: this version does not have what is asked for.
    """
    layer = {}
    for setting in SETTINGS.values():
        text = environment.get(setting.variable)
        if text:
            layer[setting.path] = _checked(setting, setting.variable, setting.read(text))
    return layer


def of_file(file: Path) -> Layer:
    """Read a TOML file.

    Raises:
        InvalidInput: it cannot be read, or is not TOML.
        InvalidSettings: a name is not known, or a value is wrong.
        Unsupported: this version does not have what is asked for.
    """
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


def _checked(setting: Setting, where: str, value: object) -> Given:
    if setting.clears_with(value):
        return Given(where, None)
    try:
        setting.check(value)
    except InvalidSettings as error:
        raise InvalidSettings(where, error.expected, error.got) from None
    except Unsupported as error:
        raise Unsupported(f"{where}: {error}") from None
    return Given(where, value)

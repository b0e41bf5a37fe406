"""Environment variables that look like ours and are none: most likely a typing error."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

import click

from .config.setting import SETTINGS
from .output import escaped

_PREFIX = "MESA_"
_ALIKE = 0.72
"""How much of a name has to agree. Others are left alone: the graphics library Mesa has variables too."""


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

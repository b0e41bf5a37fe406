"""What a command line says wrong is a usage error, also when the library is who finds it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from click.core import ParameterSource

from ..errors import BackendError, ConnectFailed, InvalidInput, MesaError
from .output import escaped

_ADDRESS = "mesa_ws.address"


@contextmanager
def from_command_line() -> Iterator[None]:
    """Report input that cannot be used as a wrong command line, with exit code 2."""
    try:
        yield
    except InvalidInput as error:
        raise click.UsageError(said(error)) from error


def note_address(context: click.Context, param: click.Parameter, url: str) -> str:
    """Remember where the address comes from that a command uses; the callback of its option."""
    context.meta[_ADDRESS] = _source(context, param)
    return url


def said(error: MesaError) -> str:
    """What an error says, on one line; if it is about the address, with the place that names it."""
    context = click.get_current_context(silent=True)
    where: str | None = context.meta.get(_ADDRESS) if context is not None else None
    text = str(error)
    if where is not None and text.startswith("url: "):
        text = f"{where}: {text.removeprefix('url: ')}"
    elif where is not None and isinstance(error, BackendError | ConnectFailed):
        text = f"{text} (address: {where})"
    return escaped(text)


def _source(context: click.Context, param: click.Parameter) -> str:
    source = context.get_parameter_source(param.name or "")
    variables: Any = param.envvar
    names: list[str] = [variables] if isinstance(variables, str) else list(variables or ())
    if source is ParameterSource.ENVIRONMENT:
        return next(name for name in names if os.environ.get(name))
    option = param.opts[0]
    if source is ParameterSource.COMMANDLINE:
        return option
    return f"the default; {option} or {' or '.join(names)} names another"

"""What a command line says wrong is a usage error, also when the library is who finds it."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..errors import InvalidInput
from .output import escaped


@contextmanager
def from_command_line() -> Iterator[None]:
    """Report input that cannot be used as a wrong command line, with exit code 2."""
    try:
        yield
    except InvalidInput as error:
        raise click.UsageError(escaped(str(error))) from error

"""`mesa` and its subcommands; a foreseeable problem becomes one line and an exit code."""

import os
from typing import Any

import click

from ..errors import MesaError
from ..version import __version__
from .config import warn_of_unknown
from .demo import demo
from .dispatch import disconnect, dispatch, request, revoke
from .outbox import outbox
from .output import said
from .portal import portal
from .presence import presence
from .serve import check_config, serve
from .tail import tail


class _Commands(click.Group):
    """Subcommands that report an error in one line.

    Exit codes: 0 for success, 1 for a failure, 2 for a wrong command line.
    """

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except MesaError as error:
            raise click.ClickException(said(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mesa")
def main() -> None:
    """Realtime messages to users over WebSockets.

    `mesa demo` shows what it does. `mesa serve --help` says how to run a server.
    """
    warn_of_unknown(os.environ, main)


for command in (
    *(serve, check_config, dispatch, disconnect, revoke, request),
    *(presence, outbox, portal, tail, demo),
):
    main.add_command(command)

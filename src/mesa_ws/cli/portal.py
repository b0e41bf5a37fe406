"""`mesa portal`: a portal of an application as a process, and a look at what waits for portals."""

from typing import Any

import click

from ..errors import BackendUnavailable
from .application import application_portal
from .config.schema import Log
from .dead_letters import dead_letters
from .logs import start_logging
from .output import escaped, print_json
from .portal_status import status


@click.group()
def portal() -> None:
    """Handle what clients do, in a process of its own."""


@portal.command()
@click.argument("application", metavar="APP:portal")
@click.option("--json", "as_json", is_flag=True, help="Print that it has started as JSON.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    envvar="MESA_LOG_LEVEL",
    help="The least that is logged.  [MESA_LOG_LEVEL; default: info]",
)
@click.option(
    "--log-json", is_flag=True, envvar="MESA_LOG_JSON", help="Log one JSON object a line.  [MESA_LOG_JSON]"
)
def run(application: str, as_json: bool, log_level: Any, log_json: bool) -> None:
    """Run the Portal object of your application, such as main:portal, until SIGINT, SIGTERM or SIGQUIT.

    What is being handled then is finished, and the rest is left to other portals. The wire of the
    servers is an argument of the Portal object, as everything else is.
    """
    found = application_portal(application)
    log_everything = start_logging(Log(level=log_level, json=log_json))

    def announce() -> None:
        if as_json:
            print_json({"portal": found.portal_id})
        else:
            click.echo(f"portal {found.portal_id} is up")
        log_everything()

    try:
        found.run(announce)
    except BackendUnavailable as error:
        raise click.ClickException(escaped(error.problem)) from error


portal.add_command(dead_letters)
portal.add_command(status)

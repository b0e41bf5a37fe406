"""`--url` and `--namespace` of commands about portals: the Redis whose inbox they look into."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, get_args

import click

from ..backend.inbox import Attendance
from ..portal.seats import DEFAULT_URL, NOTHING_KEPT, seat_at
from ..settings import Wire
from .usage import from_command_line, note_address

Result = TypeVar("Result")


def seat_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as `url`, `namespace` and `as_json`."""
    for option in (
        click.option(
            "--namespace", envvar="MESA_NAMESPACE", help="The namespace of the servers.  [MESA_NAMESPACE]"
        ),
        click.option(
            "--url",
            envvar="MESA_REDIS",
            default=DEFAULT_URL,
            is_eager=True,
            callback=note_address,
            help=f"The Redis of the servers.  [MESA_REDIS; default: {DEFAULT_URL}]",
        ),
        click.option(
            "--wire",
            envvar="MESA_WIRE",
            type=click.Choice(get_args(Wire)),
            default="native",
            expose_value=False,
            callback=_check_wire,
            help="How the servers talk through Redis; only native keeps events.  "
            "[MESA_WIRE; default: native]",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print a JSON document."),
    ):
        command = option(command)
    return command


def ask(url: str, namespace: str | None, work: Callable[[Attendance], Awaitable[Result]]) -> Result:
    """Do something at a portal's seat, without taking part."""
    with from_command_line():
        seat_at(url, namespace=namespace)  # what is wrong with the address is said as such

    async def work_there() -> Result:
        seat = seat_at(url, namespace=namespace)
        try:
            return await work(seat)
        finally:
            await seat.aclose()

    return asyncio.run(work_there())


def _check_wire(context: click.Context, param: click.Parameter, wire: str) -> None:
    if wire != "native":
        raise click.UsageError(NOTHING_KEPT)

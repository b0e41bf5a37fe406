"""`mesa demo`: see it work, in a few seconds."""

import asyncio
from contextlib import suppress

import click

from ...backend.redis import Address
from ..interruptible import Interrupted, run
from ..output import print_json
from ..usage import from_command_line, note_address
from .control import control
from .keep import kept
from .processes import DemoFailed
from .report import Report
from .stage import REPLICAS, play

_SETTING = {
    "memory": "One server, with outboxes in its memory; with redis-server 7 installed they outlive it.",
    "own redis": f"{REPLICAS} servers on a redis-server of the demo's own.",
    "redis": f"{REPLICAS} servers on your Redis.",
}


@click.command(short_help="Show all of it at work in a few seconds.")
@click.option(
    "--redis",
    metavar="URL",
    envvar="MESA_REDIS",
    callback=note_address,
    help=f"Play it with {REPLICAS} replicas on this Redis instead of one server on the embedded backend.  "
    "[MESA_REDIS]",
)
@click.option(
    "--keep",
    is_flag=True,
    help="Print the address of a page to play with, and stay until Ctrl-C: two users in a browser, "
    "dispatches, and servers to kill.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_context
def demo(context: click.Context, redis: str | None, keep: bool, as_json: bool) -> None:
    """Start a server, connect clients, dispatch from another process, show who received what.

    Clients 0, 1 and 2 are connected. Messages go to ["0", "1"], to everybody but 1, and to
    everybody, each from a process of its own. Succeeds only if everybody received exactly what
    was for them. Everything that was started is stopped at the end.
    """
    if redis is not None:
        with from_command_line():
            Address.of(redis)
    if keep:
        with suppress(Interrupted):
            run(_stay(redis, as_json))
        return
    try:
        report = run(play(redis))
    except Interrupted as interrupted:
        context.exit(interrupted.exit_code)
    show(report, redis, as_json)


def show(report: Report, redis: str | None, as_json: bool) -> None:
    """Print the outcome.

    Raises:
        DemoFailed: somebody received something else than what was for them.
    """
    if as_json:
        print_json(report.document)
    else:
        _print(report, redis)
    if report.problems:
        raise DemoFailed(f"the demo went otherwise than it had to: {'; '.join(report.problems)}")
    if not as_json:
        click.echo("ok: everybody received exactly what was for them.")
        click.echo("In a browser: make demo KEEP=1, or mesa demo --keep")


async def _stay(redis: str | None, as_json: bool) -> None:
    """Serve the page until the task is cancelled."""
    async with kept(redis) as stage, control(stage) as url:
        if as_json:
            servers = [each.url for each in stage.servers]
            print_json({"page": url, "servers": servers, "storage": stage.storage})
        else:
            click.echo(f"See it at {url} (Ctrl-C stops everything)")
            click.echo(_SETTING[stage.storage])
        await asyncio.Event().wait()


def _print(report: Report, redis: str | None) -> None:
    if redis is None:
        click.echo(f"One server on the embedded backend, at {report.seats['0']}.")
    else:
        seats = ", ".join(f"client {id} at {url}" for id, url in report.seats.items())
        click.echo(f"{REPLICAS} replicas on {Address.of(redis).label}: {seats}.")
    report.print()

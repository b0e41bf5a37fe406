"""`mesa portal run` and `mesa portal dead-letters`: what clients do, and what could not be handled."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, get_args

import click
import msgspec
from rich.table import Table

from ..backend.inbox import MAX_DEAD, Attendance, DeadLetter
from ..errors import BackendUnavailable
from ..portal.seats import DEFAULT_URL, NO_DEAD_LETTERS, seat_at
from ..settings import Wire
from .application import application_portal
from .config.schema import Log
from .logs import start_logging
from .output import console, escaped, plain, print_json
from .usage import from_command_line

_LONGEST = 60
"""Characters that a table shows of a reason or of data."""

Result = TypeVar("Result")


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
    help="The least that is logged.  [default: info]",
)
def run(application: str, as_json: bool, log_level: Any) -> None:
    """Run the Portal object of your application, such as main:portal, until SIGINT or SIGTERM.

    What is being handled then is finished, and the rest is left to other portals. The wire of the
    servers is an argument of the Portal object, as everything else is.
    """
    found = application_portal(application)
    log_everything = start_logging(Log(level=log_level))

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


@portal.group("dead-letters")
def dead_letters() -> None:
    """See what could not be handled; have it handled again, or drop it."""


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--namespace", envvar="MESA_NAMESPACE", help="The namespace of the servers.  [MESA_NAMESPACE]"
        ),
        click.option(
            "--url",
            envvar="MESA_REDIS",
            default=DEFAULT_URL,
            help=f"The Redis of the servers.  [MESA_REDIS; default: {DEFAULT_URL}]",
        ),
        click.option(
            "--wire",
            envvar="MESA_WIRE",
            type=click.Choice(get_args(Wire)),
            default="native",
            expose_value=False,
            callback=_check_wire,
            help="How the servers talk through Redis; only native keeps dead letters.  "
            "[MESA_WIRE; default: native]",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print a JSON document."),
    ):
        command = option(command)
    return command


def _check_wire(context: click.Context, param: click.Parameter, wire: str) -> None:
    if wire != "native":
        raise click.UsageError(NO_DEAD_LETTERS)


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--all", "is_all", is_flag=True, help="All of them."),
        click.argument("letters", metavar="[LETTER]...", nargs=-1),
    ):
        command = option(command)
    return command


@dead_letters.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, help="How many to show.  [default: 20]")
@_options
def list_(limit: int, as_json: bool, url: str, namespace: str | None) -> None:
    """Show the oldest dead letters: what happened, and why it could not be handled."""
    found = _ask(url, namespace, lambda seat: seat.dead_letters(limit))
    if as_json:
        print_json([_document(each) for each in found])
        return
    if not found:
        click.echo("there are no dead letters")
        return
    table = Table("letter", "given up", "what", "id", "data", "deliveries", "reason")
    for each in found:
        letter = each.letter
        died = datetime.fromtimestamp(each.died, UTC).strftime("%Y-%m-%d %H:%M:%S")
        data, reason = _short(letter.data.decode(errors="replace")), _short(each.reason)
        table.add_row(
            each.place, died, letter.kind, plain(letter.id or ""), data, str(each.deliveries), reason
        )
    console().print(table)


@dead_letters.command()
@_chosen
@_options
def retry(letters: tuple[str, ...], is_all: bool, as_json: bool, url: str, namespace: str | None) -> None:
    """Have dead letters handled again, after what waits now. Their key stays the same."""
    count = _ask(url, namespace, _on(letters, is_all, lambda seat, places: seat.revive(places)))
    _tell("retried", count, as_json)


@dead_letters.command()
@_chosen
@_options
def drop(letters: tuple[str, ...], is_all: bool, as_json: bool, url: str, namespace: str | None) -> None:
    """Drop dead letters. They are gone."""
    count = _ask(url, namespace, _on(letters, is_all, lambda seat, places: seat.drop(places)))
    _tell("dropped", count, as_json)


def _on(
    letters: tuple[str, ...], is_all: bool, do: Callable[[Attendance, list[str]], Awaitable[int]]
) -> Callable[[Attendance], Awaitable[int]]:
    if is_all == bool(letters):
        raise click.UsageError("expected letters, as `list` names them, or --all")
    for letter in letters:
        milliseconds, _, number = letter.partition("-")
        if not (milliseconds.isdecimal() and number.isdecimal()):
            raise click.UsageError(f"LETTER: expected a name such as 1718000000000-0, got {letter!r}")

    async def work(seat: Attendance) -> int:
        places = [each.place for each in await seat.dead_letters(MAX_DEAD)] if is_all else list(letters)
        return await do(seat, places) if places else 0

    return work


def _ask(url: str, namespace: str | None, work: Callable[[Attendance], Awaitable[Result]]) -> Result:
    with from_command_line():
        seat_at(url, namespace=namespace)  # what is wrong with the address is said as such

    async def ask() -> Result:
        seat = seat_at(url, namespace=namespace)
        try:
            return await work(seat)
        finally:
            await seat.aclose()

    return asyncio.run(ask())


def _tell(what: str, count: int, as_json: bool) -> None:
    if as_json:
        print_json({what: count})
    else:
        click.echo(f"{what} {count} {'letter' if count == 1 else 'letters'}")


def _document(dead: DeadLetter) -> dict[str, Any]:
    letter = dead.letter
    return {
        "letter": dead.place,
        "died": dead.died,
        "deliveries": dead.deliveries,
        "reason": dead.reason,
        "type": letter.kind,
        "id": letter.id,
        "connection_id": letter.connection_id,
        "key": letter.key,
        "time": dead.at,
        "data": _data(letter.data),
    }


def _data(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data) if data else None
    except msgspec.DecodeError:
        return data.decode(errors="replace")


def _short(text: str) -> Any:
    return plain(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ...")

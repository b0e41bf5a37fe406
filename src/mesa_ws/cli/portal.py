"""`mesa portal`: a portal of an application as a process, and a look at what waits for portals."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, get_args

import click
import msgspec
from rich.table import Table

from ..backend.inbox import MAX_DEAD, Backlog, DeadLetter, PortalConsumer
from ..backend.urls import DEFAULT_URL, NOTHING_KEPT, portal_consumer
from ..errors import BackendUnavailable
from ..settings import Wire
from .config import Log
from .output import console, escaped, from_command_line, note_address, plain, print_json
from .process import start_logging
from .serve import application_portal

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


def ask(url: str, namespace: str | None, work: Callable[[PortalConsumer], Awaitable[Result]]) -> Result:
    """Do something at a portal's seat, without taking part."""
    with from_command_line():
        portal_consumer(url, namespace=namespace)  # what is wrong with the address is said as such

    async def work_there() -> Result:
        seat = portal_consumer(url, namespace=namespace)
        try:
            return await work(seat)
        finally:
            await seat.aclose()

    return asyncio.run(work_there())


def _check_wire(context: click.Context, param: click.Parameter, wire: str) -> None:
    if wire != "native":
        raise click.UsageError(NOTHING_KEPT)


_LONGEST = 60
"""Characters that a table shows of a reason or of data."""


@click.group("dead-letters")
def dead_letters() -> None:
    """See what could not be handled; have it handled again, or drop it."""


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--all", "is_all", is_flag=True, help="All of them."),
        click.argument("letters", metavar="[LETTER]...", nargs=-1),
    ):
        command = option(command)
    return command


@dead_letters.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, help="How many to show.  [default: 20]")
@seat_options
def list_(limit: int, as_json: bool, url: str, namespace: str | None) -> None:
    """Show the oldest dead letters: what happened, and why it could not be handled."""
    found = ask(url, namespace, lambda seat: seat.dead_letters(limit))
    if as_json:
        print_json([_letter_document(each) for each in found])
        return
    if not found:
        click.echo("there are no dead letters")
        return
    table = Table("letter", "given up", "what", "id", "data", "deliveries", "reason")
    for each in found:
        letter = each.event
        died = datetime.fromtimestamp(each.died, UTC).strftime("%Y-%m-%d %H:%M:%S")
        data, reason = _short(letter.data.decode(errors="replace")), _short(each.reason)
        table.add_row(
            each.offset, died, letter.kind, plain(letter.id or ""), data, str(each.deliveries), reason
        )
    console().print(table)


@dead_letters.command()
@_chosen
@seat_options
def retry(letters: tuple[str, ...], is_all: bool, as_json: bool, url: str, namespace: str | None) -> None:
    """Have dead letters handled again, after what waits now. Their key stays the same."""
    count = ask(url, namespace, _on(letters, is_all, lambda seat, places: seat.revive(places)))
    _tell("retried", count, as_json)


@dead_letters.command()
@_chosen
@seat_options
def drop(letters: tuple[str, ...], is_all: bool, as_json: bool, url: str, namespace: str | None) -> None:
    """Drop dead letters. They are gone."""
    count = ask(url, namespace, _on(letters, is_all, lambda seat, places: seat.drop(places)))
    _tell("dropped", count, as_json)


def _on(
    letters: tuple[str, ...], is_all: bool, do: Callable[[PortalConsumer, list[str]], Awaitable[int]]
) -> Callable[[PortalConsumer], Awaitable[int]]:
    if is_all == bool(letters):
        raise click.UsageError("expected letters, as `list` names them, or --all")
    for letter in letters:
        milliseconds, _, number = letter.partition("-")
        if not (milliseconds.isdecimal() and number.isdecimal()):
            raise click.UsageError(f"LETTER: expected a name such as 1718000000000-0, got {letter!r}")

    async def work(seat: PortalConsumer) -> int:
        places = [each.offset for each in await seat.dead_letters(MAX_DEAD)] if is_all else list(letters)
        return await do(seat, places) if places else 0

    return work


def _tell(what: str, count: int, as_json: bool) -> None:
    if as_json:
        print_json({what: count})
    else:
        click.echo(f"{what} {count} {'letter' if count == 1 else 'letters'}")


def _letter_document(dead: DeadLetter) -> dict[str, Any]:
    letter = dead.event
    return {
        "letter": dead.offset,
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


@click.command()
@seat_options
def status(as_json: bool, url: str, namespace: str | None) -> None:
    """Tell which portals live, how many events wait and for how long, and what became of bad ones."""
    found, now = ask(url, namespace, lambda seat: seat.backlog()), time.time()
    if as_json:
        print_json(_status_document(found, now))
        return
    click.echo(
        f"{_number(len(found.portals), 'portal')}, {_number(found.waiting, 'event')} waiting"
        f"{_since(found.oldest, now)}, {_number(found.dead, 'dead letter')}, {found.rejected} rejected"
    )
    table = Table("portal", "queues", "waiting", "oldest")
    owners = filter(None, (queue.owner for queue in found.queues))
    for owner in dict.fromkeys((*found.portals, *owners, None)):
        share = found._replace(queues=tuple(queue for queue in found.queues if queue.owner == owner))
        if owner is not None or share.waiting:
            numbers = " ".join(str(queue.partition) for queue in share.queues)
            age = "" if share.oldest is None else f"{_age(share.oldest, now):.1f} s"
            table.add_row(plain(owner or "nobody"), numbers, str(share.waiting), age)
    if table.rows:
        console().print(table)


def _status_document(found: Backlog, now: float) -> dict[str, Any]:
    return {
        "portals": found.portals,
        "waiting": found.waiting,
        "oldest_seconds": None if found.oldest is None else _age(found.oldest, now),
        "dead_letters": found.dead,
        "rejected": found.rejected,
        "queues": [
            {
                "queue": queue.partition,
                "portal": queue.owner,
                "waiting": queue.waiting,
                "oldest_seconds": None if queue.oldest is None else _age(queue.oldest, now),
            }
            for queue in found.queues
        ],
    }


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _since(oldest: float | None, now: float) -> str:
    return "" if oldest is None else f" for up to {_age(oldest, now):.1f} seconds"


def _age(at: float, now: float) -> float:
    return max(0.0, round(now - at, 3))


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

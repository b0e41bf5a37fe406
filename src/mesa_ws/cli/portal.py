"""`mesa portal`: run an application's portal as a process, and inspect the events that wait for portals."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, get_args

import click
import msgspec
from rich.table import Table

from ..backend.inbox import MAX_DEAD, Backlog, DeadLetter, PortalConsumer
from ..backend.urls import DEFAULT_URL, NOTHING_KEPT, portal_consumer
from ..errors import BackendUnavailable
from ..settings import Wire
from ..transports.run import Portal
from .config import Log
from .options import namespace_option, options
from .output import (
    console,
    counted,
    escaped,
    from_command_line,
    note_address,
    plain,
    print_json,
    report,
    short,
    shown_time,
)
from .process import start_logging
from .serve import application

Result = TypeVar("Result")


def _check_wire(context: click.Context, param: click.Parameter, wire: str) -> None:
    if wire != "native":
        raise click.UsageError(NOTHING_KEPT)


portal_options = options(
    click.option("--json", "as_json", is_flag=True, help="Print a JSON document."),
    click.option(
        "--wire",
        envvar="MESA_WIRE",
        type=click.Choice(get_args(Wire)),
        default="native",
        expose_value=False,
        callback=_check_wire,
        help="How the servers talk through Redis; only native keeps events.  [MESA_WIRE; default: native]",
    ),
    click.option(
        "--url",
        envvar="MESA_REDIS",
        default=DEFAULT_URL,
        is_eager=True,
        callback=note_address,
        help=f"The Redis of the servers.  [MESA_REDIS; default: {DEFAULT_URL}]",
    ),
    namespace_option,
)
"""The command gets the options as `url`, `namespace` and `as_json`."""


def ask(url: str, namespace: str | None, work: Callable[[PortalConsumer], Awaitable[Result]]) -> Result:
    """Call the backend of portals, without handling events."""
    with from_command_line():
        portal_consumer(url, namespace=namespace)  # a wrong address is an error of the command line

    async def work_there() -> Result:
        consumer = portal_consumer(url, namespace=namespace)
        try:
            return await work(consumer)
        finally:
            await consumer.aclose()

    return asyncio.run(work_there())


@click.group("dead-letters")
def dead_letters() -> None:
    """Show events that portals could not handle; have them handled again, or drop them."""


_chosen = options(
    click.argument("letters", metavar="[LETTER]...", nargs=-1),
    click.option("--all", "is_all", is_flag=True, help="All of them."),
)


@dead_letters.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, help="How many to show.  [default: 20]")
@portal_options
def list_(limit: int, as_json: bool, url: str, namespace: str | None) -> None:
    """Show the oldest dead letters: the event, and why portals could not handle it."""
    found = ask(url, namespace, lambda consumer: consumer.dead_letters(limit))
    if as_json:
        print_json([_dead_letter_document(each) for each in found])
        return
    if not found:
        click.echo("there are no dead letters")
        return
    table = Table("letter", "given up", "what", "id", "data", "deliveries", "reason")
    for each in found:
        event = each.event
        died = shown_time(each.died)
        data, reason = short(event.data.decode(errors="replace")), short(each.reason)
        table.add_row(
            each.offset, died, event.kind, plain(event.id or ""), data, str(each.deliveries), reason
        )
    console().print(table)


@dead_letters.command()
@_chosen
@portal_options
def retry(letters: tuple[str, ...], is_all: bool, as_json: bool, url: str, namespace: str | None) -> None:
    """Have dead letters handled again, after the events that wait now. Their keys stay the same."""
    count = ask(url, namespace, _on(letters, is_all, lambda consumer, offsets: consumer.revive(offsets)))
    _tell("retried", count, as_json)


@dead_letters.command()
@_chosen
@portal_options
def drop(letters: tuple[str, ...], is_all: bool, as_json: bool, url: str, namespace: str | None) -> None:
    """Drop dead letters for good."""
    count = ask(url, namespace, _on(letters, is_all, lambda consumer, offsets: consumer.drop(offsets)))
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

    async def work(consumer: PortalConsumer) -> int:
        offsets = [each.offset for each in await consumer.dead_letters(MAX_DEAD)] if is_all else list(letters)
        return await do(consumer, offsets) if offsets else 0

    return work


def _tell(what: str, count: int, as_json: bool) -> None:
    report(f"{what} {counted(count, 'letter')}", {what: count}, as_json=as_json)


def _dead_letter_document(dead: DeadLetter) -> dict[str, Any]:
    event = dead.event
    return {
        "letter": dead.offset,
        "died": dead.died,
        "deliveries": dead.deliveries,
        "reason": dead.reason,
        "type": event.kind,
        "id": event.id,
        "connection_id": event.connection_id,
        "key": event.key,
        "time": dead.at,
        "data": _data(event.data),
    }


def _data(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data) if data else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return data.decode(errors="replace")


@click.command()
@portal_options
def status(as_json: bool, url: str, namespace: str | None) -> None:
    """Show the running portals, how many events wait and for how long, and how many failed."""
    found, now = ask(url, namespace, lambda consumer: consumer.backlog()), time.time()
    if as_json:
        print_json(_status_document(found, now))
        return
    click.echo(
        f"{counted(len(found.portals), 'portal')}, {counted(found.waiting, 'event')} waiting"
        f"{_since(found.oldest, now)}, {counted(found.dead, 'dead letter')}, {found.rejected} rejected"
    )
    table = Table("portal", "queues", "waiting", "oldest")
    owners = filter(None, (queue.owner for queue in found.queues))
    for owner in dict.fromkeys((*found.portals, *owners, None)):
        share = found._replace(queues=tuple(queue for queue in found.queues if queue.owner == owner))
        if owner is not None or share.waiting:
            numbers = " ".join(str(queue.partition) for queue in share.queues)
            age = "" if share.oldest is None else f"{_age(share.oldest, now):.1f} s"
            table.add_row(plain(owner or "none"), numbers, str(share.waiting), age)
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


def _since(oldest: float | None, now: float) -> str:
    return "" if oldest is None else f" for up to {_age(oldest, now):.1f} seconds"


def _age(at: float, now: float) -> float:
    return max(0.0, round(now - at, 3))


@click.group()
def portal() -> None:
    """Handle the events of clients, in a process apart from the servers."""


@portal.command()
@click.argument("name", metavar="APP:portal")
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
def run(name: str, as_json: bool, log_level: Any, log_json: bool) -> None:
    """Run the Portal object of your application, such as main:portal, until SIGINT, SIGTERM or SIGQUIT.

    Then it finishes the events that it is handling, and leaves the rest to other portals. The wire of
    the servers is an argument of the Portal object, like all other settings.
    """
    found = application(name, Portal, "main:portal")
    log_everything = start_logging(Log(level=log_level, json=log_json))

    def announce() -> None:
        report(f"portal {found.portal_id} is up", {"portal": found.portal_id}, as_json=as_json)
        log_everything()

    try:
        found.run(announce)
    except BackendUnavailable as error:
        raise click.ClickException(escaped(error.problem)) from error


portal.add_command(dead_letters)
portal.add_command(status)

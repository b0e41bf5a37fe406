"""`mesa portal dead-letters`: what could not be handled."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich.table import Table

from ..backend.inbox import MAX_DEAD, Attendance, DeadLetter
from .output import console, plain, print_json
from .seat import ask, seat_options

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

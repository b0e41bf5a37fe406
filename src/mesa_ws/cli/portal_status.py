"""`mesa portal status`: who takes part, and what waits."""

import time
from typing import Any

import click
from rich.table import Table

from ..backend.inbox import Backlog
from .output import console, plain, print_json
from .seat import ask, seat_options


@click.command()
@seat_options
def status(as_json: bool, url: str, namespace: str | None) -> None:
    """Tell which portals live, how many events wait and for how long, and what became of bad ones."""
    found, now = ask(url, namespace, lambda seat: seat.backlog()), time.time()
    if as_json:
        print_json(_document(found, now))
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


def _document(found: Backlog, now: float) -> dict[str, Any]:
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

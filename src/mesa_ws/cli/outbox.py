"""`mesa outbox show` and `mesa outbox purge`: the messages that wait for an id."""

from typing import Any

import click
import msgspec
from rich.table import Table

from ..backend.base import BlockingBus
from ..backend.queries import Heads, Peek
from ..errors import Unsupported
from ..messages.receipt import OutboxHead, Stored
from .options import address_options, connected
from .output import compact, console, counted, escaped, plain, print_json, report, short, shown_time


@click.group()
def outbox() -> None:
    """Show the messages that wait for an id, or drop them."""


@outbox.command()
@click.argument("id", metavar="ID")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, help="How many messages to show.  [default: 20]"
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
@address_options
def show(id: str, limit: int, as_json: bool, **address: Any) -> None:
    """Show the messages that wait for ID, the oldest first, and the state of its outbox.

    A client has received the messages that are marked as acknowledged; they stay for a while for
    other devices of ID. The command changes nothing.
    """
    with connected(**address) as bus:
        head, messages = _look(bus, id, limit)
    if as_json:
        print_json(_document(id, head, messages))
    else:
        _print(id, head, messages)


@outbox.command()
@click.argument("id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document; does not ask.")
@address_options
def purge(id: str, yes: bool, as_json: bool, **address: Any) -> None:
    """Drop every message that waits for ID, for good.

    Clients that know their position learn how many messages they lost.
    """
    with connected(**address) as bus:
        if not yes and not as_json:
            click.confirm(f"Drop all messages that wait for {escaped(id)}?", abort=True, err=True)
        purged = bus.purge(id)
    report(f"dropped {counted(purged, 'message')}", {"id": id, "purged": purged}, as_json=as_json)


def _look(bus: BlockingBus, id: str, limit: int) -> tuple[OutboxHead | None, list[Stored]]:
    """Return the state of an outbox, and its messages; on the wire of 1.x only the messages."""
    try:
        head = bus.query(Heads([id]))[id]
    except Unsupported:
        return None, bus.query(Peek(id, limit))
    return head, bus.query(Peek(id, limit)) if head is not None else []


def _document(id: str, head: OutboxHead | None, messages: list[Stored]) -> dict[str, Any]:
    shown = [
        each._asdict() | {"body": msgspec.Raw(each.body), "acknowledged": _is_acknowledged(head, each)}
        for each in messages
    ]
    return {"id": id, "outbox": head and head._asdict(), "messages": shown}


def _print(id: str, head: OutboxHead | None, messages: list[Stored]) -> None:
    output = console()
    if head is None and not messages:
        output.print(f"{escaped(id)} has no outbox", markup=False)
        return
    if messages:
        table = Table("sequence", "acknowledged", "stored", "expires", "type", "data")
        for each in messages:
            mark = "yes" if _is_acknowledged(head, each) else ""
            table.add_row(str(each.sequence), mark, *_times(each), *_told(each.body))
        output.print(table)
    if head is None:
        return
    output.print(
        f"{counted(head.length, 'message')}, up to {head.top} "
        f"of epoch {escaped(head.epoch)}; acknowledged up to {head.acknowledged}",
        markup=False,
    )


def _is_acknowledged(head: OutboxHead | None, message: Stored) -> bool:
    """Whether a client has the message; it stays for other devices of the id."""
    return head is not None and message.sequence <= head.acknowledged


def _told(body: bytes) -> tuple[Any, Any]:
    """Return the type and the data of a stored frame, as far as they fit into the table."""
    try:
        frame = msgspec.json.decode(body)
        type, data = str(frame.get("t", "")), compact(frame.get("d"))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, AttributeError):
        type, data = "", escaped(body.decode(errors="replace"))
    return plain(type), short(data)


def _times(message: Stored) -> list[str]:
    return [shown_time(seconds) if seconds else "" for seconds in (message.at, message.expires)]

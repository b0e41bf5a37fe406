"""`mesa dispatch`, `mesa disconnect` and `mesa request`: one message from the shell."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import click

from ..dispatcher import Dispatch, Dispatcher
from ..messages.message import DISCONNECT_CLIENT, DispatchEvent, Message
from ..messages.request import DEFAULT_REQUEST_TIMEOUT
from ..settings import Wire
from .options import address_options, recipient_options, recipients_of
from .output import (
    compact,
    escaped,
    from_command_line,
    print_json,
    print_receipt,
    read_json,
    receipt_document,
)


class _Destination(NamedTuple):
    """The cluster and the recipients of a dispatch."""

    url: str
    key: str | None
    namespace: str | None
    wire: Wire
    to: tuple[str, ...]
    everybody: bool
    excluding: tuple[str, ...]
    as_json: bool


def _destination_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON.")(command)
    return recipient_options(address_options(command))


@click.command()
@click.argument("type", metavar="TYPE")
@click.argument("data", metavar="JSON")
@click.option("--opcode", type=int, default=0, help="Opcode of the message.  [default: 0]")
@click.option("--sync", is_flag=True, help="Keep it for ids that are away.")
@click.option(
    "--idempotency-key", metavar="KEY", help="A name for the message; repeating it sends no second message."
)
@_destination_options
def dispatch(
    type: str, data: str, opcode: int, sync: bool, idempotency_key: str | None, **destination: Any
) -> None:
    """Send a message to clients and print the receipt.

    TYPE is the message's type; JSON is its data, or - to read it from stdin. Name the recipients with
    --to, or with --all.

    \b
      mesa dispatch STATUS_UPDATE '{"status": "online"}' --to 0,1
      mesa dispatch NEW_MESSAGE '{"content": "hi"}' --all --excluding 1

    It fails when the backend did not accept the message. For an id without a connection it succeeds;
    the receipt shows that.
    """
    where = _Destination(**destination)
    recipients = recipients_of(where.to, where.everybody)
    with from_command_line():
        message = Message(opcode, read_json(data, "JSON"), type)
        _dispatch(Dispatch(message, recipients, where.excluding, idempotency_key), where, sync=sync)


@click.command()
@_destination_options
def disconnect(**destination: Any) -> None:
    """Close every connection of clients, with code 1000.

    \b
      mesa disconnect --to 0
    """
    where = _Destination(**destination)
    recipients = recipients_of(where.to, where.everybody)
    with from_command_line():
        _dispatch(Dispatch(DispatchEvent(DISCONNECT_CLIENT), recipients, where.excluding), where)


def _dispatch(dispatch: Dispatch, where: _Destination, *, sync: bool = False) -> None:
    with Dispatcher(
        where.url, namespace=where.namespace, key=where.key, sync=sync, wire=where.wire
    ) as dispatcher:
        began, at = time.perf_counter(), time.time()
        [receipt] = dispatcher.dispatch_many([dispatch])
        took_ms = (time.perf_counter() - began) * 1000
    if where.as_json:
        print_json(receipt_document(receipt, at, took_ms))
    else:
        print_receipt(receipt, took_ms)


@click.command()
@click.argument("id", metavar="ID")
@click.argument("type", metavar="TYPE")
@click.argument("data", metavar="JSON")
@click.option("--opcode", type=int, default=0, help="Opcode of the message.  [default: 0]")
@click.option(
    "--timeout",
    type=float,
    default=DEFAULT_REQUEST_TIMEOUT,
    metavar="SECONDS",
    help=f"How long to wait for the answer.  [default: {DEFAULT_REQUEST_TIMEOUT:g}]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as a JSON document.")
@address_options
def request(
    id: str, type: str, data: str, opcode: int, timeout: float, as_json: bool, **address: Any
) -> None:
    """Ask the clients of an ID, and print the first answer.

    TYPE is the message's type; JSON is its data, or - to read it from stdin.

    \b
      mesa request 0 LOCATION null --timeout 5

    It fails when the id is not connected, when no client answers in time, and when the answer is an
    error.
    """
    with from_command_line(), Dispatcher(**address) as dispatcher:
        answer = dispatcher.request(id, Message(opcode, read_json(data, "JSON"), type), timeout)
    if as_json:
        print_json({"opcode": answer.opcode, "type": answer.type, "data": answer.data})
    else:
        name = [] if answer.type is None else [escaped(answer.type)]
        click.echo(" ".join([*name, compact(answer.data)]))

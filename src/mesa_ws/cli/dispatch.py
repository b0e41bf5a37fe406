"""`mesa dispatch`, `mesa disconnect` and `mesa request`: one message from the shell."""

import time
from typing import Any

import click

from ..dispatcher import Dispatch, Dispatcher
from ..messages.message import DISCONNECT_CLIENT, DispatchEvent, Message
from ..messages.request import DEFAULT_REQUEST_TIMEOUT
from .options import address_options, options, recipient_options, recipients_of
from .output import (
    compact,
    escaped,
    from_command_line,
    print_json,
    print_receipt,
    read_json,
    receipt_document,
    report,
)

_destination_options = options(
    recipient_options,
    address_options,
    click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON."),
)


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
    type: str,
    data: str,
    opcode: int,
    sync: bool,
    idempotency_key: str | None,
    to: tuple[str, ...],
    everybody: bool,
    excluding: tuple[str, ...],
    as_json: bool,
    **address: Any,
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
    recipients = recipients_of(to, everybody)
    with from_command_line():
        message = Message(opcode, read_json(data, "JSON"), type)
        planned = Dispatch(message, recipients, excluding, idempotency_key)
        _dispatch(planned, as_json=as_json, sync=sync, **address)


@click.command()
@_destination_options
def disconnect(
    to: tuple[str, ...], everybody: bool, excluding: tuple[str, ...], as_json: bool, **address: Any
) -> None:
    """Close every connection of clients, with code 1000.

    \b
      mesa disconnect --to 0
    """
    recipients = recipients_of(to, everybody)
    with from_command_line():
        planned = Dispatch(DispatchEvent(DISCONNECT_CLIENT), recipients, excluding)
        _dispatch(planned, as_json=as_json, **address)


def _dispatch(planned: Dispatch, *, as_json: bool, **address: Any) -> None:
    with Dispatcher(**address) as dispatcher:
        began, at = time.perf_counter(), time.time()
        [receipt] = dispatcher.dispatch_many([planned])
        took_ms = (time.perf_counter() - began) * 1000
    if as_json:
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
    document = {"opcode": answer.opcode, "type": answer.type, "data": answer.data}
    name = [] if answer.type is None else [escaped(answer.type)]
    report(" ".join([*name, compact(answer.data)]), document, as_json=as_json)

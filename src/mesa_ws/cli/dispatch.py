"""`mesa dispatch`, `disconnect`, `revoke` and `request`: one message or order from the shell."""

import time
from typing import Any

import click

from ..close import CloseCode
from ..dispatcher import Dispatch, Dispatcher
from ..messages.message import DISCONNECT_CLIENT, DispatchEvent, Message
from ..messages.order import OrderReceipt
from ..messages.request import DEFAULT_REQUEST_TIMEOUT
from .options import address_options, options, read_ids, recipient_options, recipients_of
from .output import (
    compact,
    counted,
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


_reason_option = click.option("--reason", default="", help="Text of the close frame.")


@click.command()
@click.option("--code", type=int, metavar="CODE", help="Close code.  [default: 1000]")
@_reason_option
@_destination_options
def disconnect(
    code: int | None,
    reason: str,
    to: tuple[str, ...],
    everybody: bool,
    excluding: tuple[str, ...],
    as_json: bool,
    **address: Any,
) -> None:
    """Close every connection of clients, also at servers that are cut off at the moment.

    \b
      mesa disconnect --to 0
      mesa disconnect --to 0 --code 4100 --reason "moved to another shop"
    """
    recipients = recipients_of(to, everybody)
    with from_command_line():
        if code is not None or reason:
            if everybody or "*" in to or excluding:
                raise click.UsageError(
                    "expected ids with --to for a code or a reason, got --all or --excluding"
                )
            with Dispatcher(**address) as dispatcher:
                order = dispatcher.disconnect(recipients, CloseCode.NORMAL if code is None else code, reason)
            _print_order(order, as_json=as_json)
            return
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
@click.option(
    "--issued-before",
    type=float,
    metavar="TIME",
    help="End only logins that were issued until this time, in seconds since 1970.  [default: now]",
)
@_reason_option
@click.option(
    "--to",
    callback=read_ids,
    metavar="ID,...",
    multiple=True,
    required=True,
    help="Ids, with commas between.",
)
@address_options
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON.")
def revoke(
    issued_before: float | None, reason: str, to: tuple[str, ...], as_json: bool, **address: Any
) -> None:
    """End the logins of clients, and refuse them for a day.

    A client needs a login that was issued later, such as a new token, to come back.

    \b
      mesa revoke --to 0
    """
    with from_command_line(), Dispatcher(**address) as dispatcher:
        _print_order(dispatcher.revoke(to, issued_before, reason=reason), as_json=as_json)


def _print_order(order: OrderReceipt, *, as_json: bool) -> None:
    text = f"order {order.message_id} carried out by {counted(len(order.done), 'server')}"
    if order.pending:
        text += f"; still pending at {counted(len(order.pending), 'server')}, cut off at the moment"
    report(text, order._asdict(), as_json=as_json)


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

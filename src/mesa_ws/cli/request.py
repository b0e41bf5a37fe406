"""`mesa request`: ask a connected client from the shell."""

from typing import Any

import click

from ..dispatcher import Dispatcher
from ..inquiry import DEFAULT_TIMEOUT
from ..message import Message
from .address import address_options
from .output import compact, escaped, print_json
from .payload import read_json
from .usage import from_command_line


@click.command()
@click.argument("id", metavar="ID")
@click.argument("type", metavar="TYPE")
@click.argument("data", metavar="JSON")
@click.option("--opcode", type=int, default=0, help="Opcode of the message.  [default: 0]")
@click.option(
    "--timeout",
    type=float,
    default=DEFAULT_TIMEOUT,
    metavar="SECONDS",
    help=f"How long to wait for the answer.  [default: {DEFAULT_TIMEOUT:g}]",
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

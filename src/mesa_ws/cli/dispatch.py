"""`mesa dispatch` and `mesa disconnect`: one dispatch from the shell."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from ..dispatcher import Dispatcher
from ..message import DISCONNECT_CLIENT, DispatchEvent, Message
from .output import print_json
from .payload import read_json
from .receipt import print_receipt, receipt_document
from .recipients import recipient_options, recipients_of
from .usage import from_command_line


class _Destination(NamedTuple):
    """Where to dispatch, and to whom."""

    url: str
    key: str | None
    namespace: str | None
    to: tuple[str, ...]
    everybody: bool
    excluding: tuple[str, ...]
    as_json: bool


def _key(context: click.Context, param: click.Parameter, key: str | None) -> str | None:
    """The key. Redis takes none, so one that only stands in the environment is not meant for it."""
    is_http = str(context.params.get("url", "")).lower().startswith(("http://", "https://"))
    if is_http and key is None:
        raise click.BadParameter("expected the key that the server was started with, got none", param=param)
    is_typed = context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    return key if is_typed or is_http else None


def _destination_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON."),
        click.option(
            "--namespace", envvar="MESA_NAMESPACE", help="The namespace of the servers.  [MESA_NAMESPACE]"
        ),
        click.option(
            "--key",
            envvar="MESA_API_KEY",
            callback=_key,
            help="The key of the server's dispatch API.  [MESA_API_KEY]",
        ),
        click.option(
            "--url",
            envvar="MESA_URL",
            is_eager=True,
            default="http://127.0.0.1:4001",
            help="A server's dispatch API (http://, https://), or the Redis of the servers (redis://, "
            "rediss://, unix://, redis+sentinel://).  [MESA_URL; default: http://127.0.0.1:4001]",
        ),
    ):
        command = option(command)
    return recipient_options(command)


@click.command()
@click.argument("type", metavar="TYPE")
@click.argument("data", metavar="JSON")
@click.option("--opcode", type=int, default=0, help="Opcode of the message.  [default: 0]")
@_destination_options
def dispatch(type: str, data: str, opcode: int, **destination: Any) -> None:
    """Send a message to clients and print what became of it.

    TYPE is the message's type; JSON is its data, or - to read it from stdin. Say whom it is for with
    --to, or with --all.

    \b
      mesa dispatch STATUS_UPDATE '{"status": "online"}' --to 0,1
      mesa dispatch NEW_MESSAGE '{"content": "hi"}' --all --excluding 1

    It fails when the message was not taken. To an id that nobody is connected with, it succeeds;
    the receipt says so.
    """
    where = _Destination(**destination)
    recipients = recipients_of(where.to, where.everybody)
    with from_command_line():
        _dispatch(Message(opcode, read_json(data, "JSON"), type), recipients, where)


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
        _dispatch(DispatchEvent(DISCONNECT_CLIENT), recipients, where)


def _dispatch(message: Message | DispatchEvent, recipients: Sequence[str], where: _Destination) -> None:
    with Dispatcher(where.url, namespace=where.namespace, key=where.key) as dispatcher:
        began, at = time.perf_counter(), time.time()
        receipt = dispatcher.dispatch(message, recipients, where.excluding)
        took_ms = (time.perf_counter() - began) * 1000
    if where.as_json:
        print_json(receipt_document(receipt, at, took_ms))
    else:
        print_receipt(receipt, took_ms)

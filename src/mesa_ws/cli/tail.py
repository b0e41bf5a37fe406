"""`mesa tail`: connect as a client, and print the messages."""

from datetime import UTC, datetime
from typing import Any

import click
from click.core import ParameterSource

from ..client import Client, ConnectionInfo
from ..messages.message import Message
from ..transports.run import Interrupted
from .output import compact, escaped, from_command_line, note_address, read_json, report
from .process import run


@click.command()
@click.option(
    "--url",
    envvar="MESA_WS_URL",
    default="ws://127.0.0.1:4000",
    callback=note_address,
    help="Where the server is, ws:// or wss://.  [MESA_WS_URL; default: ws://127.0.0.1:4000]",
)
@click.option("--id", help="""Authenticate by {"id": ID}, for servers with demo authentication.""")
@click.option("--token", envvar="MESA_TOKEN", help="""Authenticate by {"token": TOKEN}.  [MESA_TOKEN]""")
@click.option("--auth", metavar="JSON", help="Authenticate by this JSON object, or - to read it from stdin.")
@click.option("--count", type=click.IntRange(min=1), help="End after this many messages.")
@click.option("--json", "as_json", is_flag=True, help="Print each message as a JSON document on one line.")
@click.pass_context
def tail(
    context: click.Context,
    url: str,
    id: str | None,
    token: str | None,
    auth: str | None,
    count: int | None,
    as_json: bool,
) -> None:
    """Connect as a client and print messages as they come.

    Without --id, --token or --auth it stays anonymous, and receives the messages to everybody. It
    reopens a lost connection. Ends with Ctrl-C, or after --count messages.
    """
    credentials = _credentials(context, id, token, auth)
    with from_command_line():
        client = Client(url)
    try:
        run(_tail(client, credentials, count, as_json))
    except Interrupted:
        return


def _credentials(
    context: click.Context, id: str | None, token: str | None, auth: str | None
) -> dict[str, Any] | None:
    """Return the credentials. An option on the command line beats the environment."""
    if (
        token is not None
        and context.get_parameter_source("token") is not ParameterSource.COMMANDLINE
        and (id or auth)
    ):
        token = None
    given = {"id": id, "token": token, "auth": auth}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise click.UsageError(f"expected one of --id, --token and --auth, got --{' and --'.join(named)}")
    if auth is not None:
        data: Any = read_json(auth, "--auth")
        if not isinstance(data, dict):
            raise click.BadParameter(f"expected a JSON object, got {compact(data)}", param_hint="--auth")
        return data
    return {name: given[name] for name in named} or None


async def _tail(client: Client, credentials: dict[str, Any] | None, count: int | None, as_json: bool) -> None:
    client.on_connected(_tell_connected)
    client.on_disconnected(_tell_disconnected)
    async with client:
        if credentials is not None:
            _tell(f"authenticated as {compact(await client.authenticate(credentials))}")
        seen = 0
        async for message in client:
            _print(message, as_json)
            seen += 1
            if seen == count:
                return


def _print(message: Message, as_json: bool) -> None:
    now = datetime.now(UTC)
    opcode = f" (op {message.opcode})" if message.opcode else ""
    clock = now.astimezone().isoformat(" ", "milliseconds")[11:23]
    document = {
        "time": now.isoformat(timespec="milliseconds"),
        "opcode": message.opcode,
        "type": message.type,
        "data": message.data,
    }
    text = f"{clock} {escaped(message.type or '-')}{opcode} {compact(message.data)}"
    report(text, document, as_json=as_json)


def _tell_connected(info: ConnectionInfo) -> None:
    _tell("connected again" if info.is_automatic_reconnection else "connected")


def _tell_disconnected(code: int, reason: str, will_reconnect: bool) -> None:
    if will_reconnect:
        _tell(f"disconnected ({code}{f': {escaped(reason)}' if reason else ''}); connecting again")


def _tell(text: str) -> None:
    click.echo(text, err=True)

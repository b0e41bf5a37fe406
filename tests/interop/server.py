"""Application of the interop cases, in a process of its own.

    python tests/interop/server.py --port 4000 --path /ws [--redis redis://127.0.0.1] [--namespace n]
                                   [--wire mesa1]

A client that authenticates with `{"id": X}` becomes X, except for `bad`. A number becomes text as an
id, and stays a number in the user object. The server answers `PING` with `PONG`, `ECHO` with the same
data, and at `SEND` it sends to the recipients in the data.
"""

import sys
from collections.abc import Iterable
from typing import Any, Literal, NoReturn

import click

from mesa_ws import (
    Connection,
    Endpoint,
    Heartbeat,
    InvalidInput,
    MesaError,
    Message,
    Reconnect,
    Refused,
    Server,
    User,
)
from mesa_ws.backend.mesa1.payloads import name_of
from mesa_ws.messages.recipients import id_problem

HEARTBEAT = Heartbeat(enabled=True, interval=0.3, max_attempts=3)
RECONNECT = Reconnect(enabled=True, interval=0.2)
HELLO = (
    '{"op":10,"d":{"c_heartbeat_interval":300,"c_reconnect_interval":200,'
    '"c_authentication_timeout":10000,"rules":["sends_user_object"],"v":2}}'
)
"""Settings of HELLO."""


def application(redis: str | None, namespace: str | None, wire: Literal["native", "mesa1"]) -> Server:
    """Return a server with the handlers that interop cases rely on."""
    server = Server(
        redis,
        namespace=namespace,
        wire=wire,
        heartbeat=HEARTBEAT,
        reconnect=RECONNECT,
        sync=True,
        portals=True,
    )

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        id = data.get("id") if isinstance(data, dict) else None
        if not id or id == "bad":
            raise Refused
        try:
            return User(name_of(id), {"id": id})  # type: ignore[arg-type]
        except InvalidInput as error:
            raise Refused(str(error)) from None

    @server.on_message("PING")
    async def pong(message: Message, connection: Connection) -> None:
        connection.send(Message(0, {}, "PONG"))

    @server.on_message("ECHO")
    async def echo(message: Message, connection: Connection) -> None:
        connection.send(Message(0, message.data, "ECHO"))

    @server.on_message("SEND")
    async def send(message: Message, connection: Connection) -> None:
        order = message.data
        recipients = order.get("recipients")
        await server.send(
            Message(0, order.get("data"), order.get("type")),
            ["*"] if recipients is None else _somebody(recipients),
            [id for id in _somebody(order.get("excluding") or ()) if id != "*"],
        )

    return server


def _somebody(ids: Iterable[object]) -> list[str]:
    """Return the valid ones of these recipients; 1.x ignores the others, which Mesa would refuse."""
    named = map(name_of, ids)
    return [id for id in named if id is not None and (id == "*" or id_problem(id) is None)]


@click.command(help=__doc__)
@click.option("--port", type=int, required=True, help="0 for a free one.")
@click.option("--path", default="/", show_default=True)
@click.option("--redis", help="Redis URI; without it the server is on its own.")
@click.option("--namespace", help="Empty or left out for none.")
@click.option("--wire", type=click.Choice(["native", "mesa1"]), default="native", show_default=True)
def main(
    port: int, path: str, redis: str | None, namespace: str | None, wire: Literal["native", "mesa1"]
) -> None:
    try:
        server = application(redis or None, namespace or None, wire)
        server.run(port=port, path=path, on_start=_announce)
    except MesaError as error:
        _fail(str(error), 1)


def _announce(endpoint: Endpoint) -> None:
    """Print on stdout where the server accepts connections."""
    click.echo(endpoint.url)


def _fail(why: str, exit_code: int) -> NoReturn:
    click.echo(why, err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()

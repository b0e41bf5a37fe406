"""The application of `mesa serve` in a rolling restart: any id may log in; default settings.

`REDIS` and `NAMESPACE` say where; `JOURNAL` is the file that it writes `["shook"]` to for each handshake, and
`["online", id]` and `["offline", id]`. `COMING_BACK` replaces that of `mesa_ws.server.fanout`.
"""

import os
from typing import Any

from mesa_ws import Connection, Server, User
from mesa_ws.server import fanout
from tests.faults.chaos.journal import write

fanout.COMING_BACK = int(os.environ["COMING_BACK"])
server = Server(os.environ["REDIS"], namespace=os.environ["NAMESPACE"], sync=True)
journal = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


@server.authenticator
async def authenticate(data: Any, _: Connection) -> User:
    return User(data["id"])


@server.on_connection
async def on_connection(_: Connection) -> None:
    write(["shook"], journal)


@server.on_online
async def on_online(id: str) -> None:
    write(["online", id], journal)


@server.on_offline
async def on_offline(id: str) -> None:
    write(["offline", id], journal)

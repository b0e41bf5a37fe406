"""Clients: connections over the WebSocket protocol that are ended, and clients that have to stay."""

import asyncio
import json
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from mesa_ws import Client, Keepalive, Message

REFUSED = 1008

LIMIT = 60.0
"""Seconds within which everything has to have happened that a test waits for."""


class Label(NamedTuple):
    """A message: who dispatched it, and its number among all messages.

    Attributes:
        key: its recipients: `*`, or the name of a group of ids.
        source: number of the node whose round dispatched it.
        number: higher than that of each message that was dispatched before.
        is_stored: whether it may not be lost.
    """

    key: str
    source: int
    number: int
    is_stored: bool


class Login(NamedTuple):
    """Who a client says it is."""

    id: str
    issued: float
    wire: int


class Listener(Protocol):
    """A client that is logged in.

    Attributes:
        login: its login.
        got: messages that it received.
        code: close code, once its connection has ended.
        since: number of the last message before it was logged in.
    """

    login: Login
    got: list[Label]
    code: int | None
    since: int

    async def leave(self) -> None:
        """End the connection."""
        ...


class Socket:
    """A connection of a client that is not ours; it answers heartbeats, so on wire 1 it acknowledges."""

    def __init__(self, login: Login, socket: ClientConnection) -> None:
        self.login = login
        self.got: list[Label] = []
        self.code: int | None = None
        self.since = 0
        self._socket = socket
        self._is_in = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def join(cls, url: str, login: Login) -> "Socket":
        """Connect and log in; `code` is set where the server closed instead of accepting."""
        peer = cls(login, await connect(url, proxy=None, ping_interval=None, compression=None))
        frame: dict[str, Any] = {
            "op": 2,
            "d": {"id": login.id, "issued": login.issued, "shouldSync": login.wire == 1},
        }
        with suppress(ConnectionClosed):
            await peer._socket.send(json.dumps(frame | ({"x": {"v": 2}} if login.wire == 2 else {})))
        async with asyncio.timeout(LIMIT):
            await peer._is_in.wait()
        return peer

    async def leave(self) -> None:
        """End the connection."""
        await self._socket.close()
        await self._reader

    async def _read(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                frame = json.loads(await self._socket.recv())
                if frame["op"] == 0:
                    self.got.append(Label(*frame["d"]))
                elif frame["op"] == 22:
                    self._is_in.set()
                elif frame["op"] == 1:
                    await self._socket.send('{"op":11,"d":{}}')
        self.code = self._socket.close_code
        self._is_in.set()


class Ours:
    """A client of this project on wire 2, which does not come back."""

    def __init__(self, login: Login, client: Client) -> None:
        self.login = login
        self.got: list[Label] = []
        self.code: int | None = None
        self.since = 0
        self._client = client

    @classmethod
    async def join(cls, url: str, login: Login) -> "Ours":
        """Connect and log in.

        Raises:
            MesaError: the server did not accept it.
        """
        client = Client(url, reconnect=False, keepalive=Keepalive(interval=LIMIT, timeout=LIMIT))
        ours = cls(login, client)

        @client.on_message
        def got(message: Message) -> None:
            ours.got.append(Label(*message.data))

        @client.on_disconnected
        def closed(code: int, reason: str, will_reconnect: bool) -> None:
            ours.code = code

        @client.on_forked
        def forked() -> None:
            """Be told, and stay: nothing that was confirmed is missing."""

        await client.connect()
        try:
            await client.authenticate({"id": login.id, "issued": login.issued})
        except BaseException:
            await client.aclose()
            raise
        return ours

    async def leave(self) -> None:
        """End the connection."""
        await self._client.aclose()

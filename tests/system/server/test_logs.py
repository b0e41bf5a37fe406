"""What logs tell of clients."""

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any

import pytest

from mesa_ws.errors import Refused, RequestError
from mesa_ws.message import Message
from mesa_ws.server.connection import Connection
from mesa_ws.server.middleware import Middleware

from .conftest import Joining, Serving, accepting
from .peer import RawPeer


async def test_logs_hold_no_secret_of_a_client_at_any_level(
    serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1, "mesa_ws")
    endpoint = await serving(accepting())
    peer = await join(endpoint, additional_headers={"Authorization": "Bearer SECRET"})
    await peer.send(data={"id": {"password": "SECRET"}}, op=2)
    assert await peer.closed() == 1011
    garbled = await join(endpoint)
    await garbled.raw('{"op":0,"d":"SECRET"')
    assert await garbled.closed() == 1007
    async with RawPeer.connect(endpoint.host, endpoint.port) as raw:
        with suppress(asyncio.IncompleteReadError):
            await raw.request("GET /?token=SECRET HTTP/1.0")
    assert "SECRET" not in caplog.text
    assert any(record.levelno == logging.ERROR for record in caplog.records)


class Verbose(Middleware):
    """Says no, and quotes the client."""

    async def before_authentication(self, data: Any, connection: Connection) -> Any:
        raise Refused(f"nobody is {data['id']}")

    async def before_message(self, message: Message, connection: Connection) -> Message | None:
        match message.type:
            case "REFUSED":
                raise Refused(f"no {message.data}")
            case "RATIONED":
                raise RequestError(f"too much {message.data}")
        return message

    def before_send(self, message: Message, connection: Connection | None) -> Message | None:
        raise Refused(f"not about {message.data}")


async def test_what_an_application_says_of_a_client_stays_on_one_line(
    serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1, "mesa_ws")
    server, lie = accepting(), "x\n2026-01-01 ERROR mesa_ws.server: forged"
    server.use(Verbose)
    server.on_message(lambda message, connection: message.data)
    peer = await join(await serving(server))
    for n, type in enumerate(["REFUSED", "RATIONED", "ANSWERED"]):
        await peer.raw(json.dumps({"op": 0, "d": lie, "t": type, "x": {"r": str(n)}}))
        assert "error" in (await peer.until(op=0))["x"]
    await peer.send(data={"id": lie}, op=2)
    assert await peer.closed() == 1008
    told = [record.getMessage() for record in caplog.records]
    assert sum("forged" in text for text in told) == 3
    assert not any("\n" in text for text in told)

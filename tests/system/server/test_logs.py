"""Log lines about clients."""

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any

import pytest

from mesa_ws.errors import Refused, RequestError
from mesa_ws.messages.message import Message
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
        raise Refused(f"no user has the id {data['id']}")

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


async def test_at_debug_logins_dispatches_and_deliveries_are_told_by_type_and_id(
    serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mesa_ws")
    server = accepting(sync=True)
    endpoint = await serving(server)
    missed = await server.send(Message(0, "SECRET", "MISSED"), ["anna"])
    peer = await join(endpoint, "anna")
    await peer.until(t="MISSED")
    sent = await server.send(Message(0, "SECRET", "NE\nWS"), ["anna", "bob"])
    await peer.until(t="NE\nWS")
    announced = await server.send(Message(0, "SECRET", "ALERT"))
    await peer.until(t="ALERT")
    told = [record.getMessage() for record in caplog.records]
    for text in (
        "login of <Connection id='anna' from 127.0.0.1> on wire 1",
        f"dispatch {missed.message_id}: 'MISSED' to 'anna'; 0 connections on 0 servers, stored for 1 ids",
        "delivery from the backend to 'anna': 1 of 'MISSED'",
        f"dispatch {sent.message_id}: 'NE\\nWS' to 'anna', 'bob'; "
        "1 connections on 1 servers, stored for 2 ids",
        f"delivery {sent.message_id}: 'NE\\nWS' to 'anna'; 1 connections here",
        f"delivery {announced.message_id}: 'ALERT' to everybody; 1 connections here",
    ):
        assert told.count(text) == 1, (text, told)
    assert "SECRET" not in caplog.text


async def test_at_info_no_message_is_told(
    serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mesa_ws")
    server = accepting(sync=True)
    peer = await join(await serving(server), "anna")
    await server.send(Message(0, 1, "NEWS"), ["anna"])
    await peer.until(t="NEWS")
    assert "NEWS" not in caplog.text

"""What logs tell of clients."""

import asyncio
import logging
from contextlib import suppress

import pytest

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

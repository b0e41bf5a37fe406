"""A name with several addresses, of which some do not answer."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import Any

import pytest

from mesa_ws.client import Client, ClientLimits
from mesa_ws.errors import ConnectFailed
from mesa_ws.transports.run import Endpoint

SILENT = ("127.9.9.1", "127.9.9.2")
"""Addresses of this machine that tests make silent."""

Naming = Callable[..., str]


@pytest.fixture
async def url(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Naming:
    """The URL of the server by a name that has the given addresses."""
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    def named(*addresses: str) -> str:
        async def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
            hosts = addresses if host == "mesa.test" else (host,)
            return [found for one in hosts for found in await resolve(one, *args, **options)]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        return f"ws://mesa.test:{endpoint.port}"

    return named


@pytest.fixture
async def silent(endpoint: Endpoint) -> AsyncIterator[None]:
    """Nothing is heard of who connects to these addresses: the queue of who waits there is full."""
    with ExitStack() as stack:
        for address in SILENT:
            listener = stack.enter_context(socket.create_server((address, endpoint.port), backlog=0))
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(listener.getsockname())
        yield


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("before", [SILENT[:1], SILENT])
async def test_an_address_that_does_not_answer_is_not_waited_for(
    url: Naming, before: tuple[str, ...]
) -> None:
    limits = ClientLimits(connect_timeout=5.0)
    async with Client(url(*before, "127.0.0.1"), limits=limits) as client:
        assert client.is_connected


async def test_an_address_that_refuses_is_passed_over(url: Naming) -> None:
    async with Client(url(SILENT[0], "127.0.0.1")) as client:
        assert client.is_connected


async def test_a_server_that_refuses_on_every_address_is_named_once(url: Naming) -> None:
    with pytest.raises(ConnectFailed, match=r"cannot connect to ws://mesa\.test:\d+: connection refused;"):
        await Client(url(*SILENT)).connect()


@pytest.mark.usefixtures("silent")
async def test_silence_on_every_address_ends_within_the_limit(url: Naming) -> None:
    with pytest.raises(ConnectFailed, match=r"no answer within 0\.4 s"):
        await Client(url(*SILENT), limits=ClientLimits(connect_timeout=0.4)).connect()

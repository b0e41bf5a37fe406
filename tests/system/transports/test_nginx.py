"""The nginx configuration of `docs/howto/deploy.md`, run by a real nginx in front of two servers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib.resources import files
from pathlib import Path

import httpcore
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from mesa_ws import Server, serve
from tests.nginx import Nginx


class Site:
    """nginx with the configuration of the page, and its two servers."""

    def __init__(self, nginx: Nginx) -> None:
        self._running = AsyncExitStack()
        self.nginx = nginx

    async def start_servers(self) -> None:
        for port in self.nginx.servers:
            await self._running.enter_async_context(serve(Server(), port=port, path="/ws"))

    async def stop_servers(self) -> None:
        await self._running.aclose()

    async def enter(self) -> ClientConnection:
        return await connect(f"ws://127.0.0.1:{self.nginx.port}/ws", proxy=None, compression=None)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with Nginx(tmp_path).running() as nginx:
        site = Site(nginx)
        yield site
        await site.stop_servers()


async def test_when_all_servers_were_away_the_first_client_after_that_gets_in(site: Site) -> None:
    await site.start_servers()
    for _ in range(2):
        async with await site.enter() as client:
            assert '"op":10' in str(await client.recv())
    await site.stop_servers()
    for _ in range(4):  # each server has failed for nginx by now
        with pytest.raises(InvalidStatus, match="502"):
            await site.enter()
    await site.start_servers()
    async with await site.enter() as client:
        assert '"op":10' in str(await client.recv())
    assert "no live upstreams" not in site.nginx.errors


async def test_a_client_gets_in_while_one_of_two_servers_is_away(site: Site) -> None:
    async with serve(Server(), port=site.nginx.servers[1], path="/ws"):
        for _ in range(4):
            async with await site.enter() as client:
                assert '"op":10' in str(await client.recv())


@pytest.mark.parametrize("name", ["mesa.js", "mesa.mjs"])
async def test_a_page_gets_the_client_for_browsers(site: Site, name: str) -> None:
    await site.start_servers()
    url = f"http://127.0.0.1:{site.nginx.port}/{name}"
    async with httpcore.AsyncConnectionPool() as http:
        got = await http.request("GET", f"{url}?v=1")
        assert (got.status, got.content) == (200, files("mesa_ws").joinpath("browser", name).read_bytes())
        fields = dict(got.headers)
        assert fields[b"Content-Type"] == b"text/javascript; charset=utf-8"
        assert (await http.request("HEAD", url)).status == 200
        again = await http.request("GET", url, headers={"If-None-Match": fields[b"ETag"]})
        assert (again.status, again.content) == (304, b"")
        assert (await http.request("GET", f"{url}/")).status == 404


async def test_a_server_that_trusts_nginx_sees_the_address_of_the_client(site: Site) -> None:
    servers = [Server(trusted_proxies=["127.0.0.1/32"]) for _ in site.nginx.servers]
    async with AsyncExitStack() as running:
        for server, port in zip(servers, site.nginx.servers, strict=True):
            await running.enter_async_context(serve(server, port=port, path="/ws"))
        url = f"ws://127.0.0.1:{site.nginx.port}/ws"
        spoofed = {"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.7"}
        async with connect(
            url, proxy=None, local_addr=("127.0.0.2", 0), additional_headers=spoofed
        ) as client:
            await client.recv()
            [connection] = [each for server in servers for each in server.connections]
            assert connection.request.remote_address == ("127.0.0.2", 0)

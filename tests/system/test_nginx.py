"""The nginx configuration of `docs/howto/deploy.md`, run by a real nginx in front of two servers."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from mesa_ws import Server, serve
from tests.ports import free_port

PAGE = Path(__file__).parents[2] / "docs/howto/deploy.md"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
LIMIT = 20.0

pytestmark = pytest.mark.skipif(
    NGINX is None, reason="there is no nginx on the PATH; on Debian: apt-get install nginx-light"
)

AROUND = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {configuration}
}}
"""


class Site:
    """nginx as the page says, and the two servers that it names."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running = AsyncExitStack()
        self.port = free_port()
        self.servers = (free_port(), free_port())

    async def start_nginx(self, stack: AsyncExitStack) -> None:
        [block] = re.findall(r"^```nginx\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
        for shown, real in (
            ("127.0.0.1:4000", f"127.0.0.1:{self.servers[0]}"),
            ("127.0.0.1:4010", f"127.0.0.1:{self.servers[1]}"),
            ("listen 443 ssl;", f"listen 127.0.0.1:{self.port};"),
        ):
            assert block.count(shown) == 1
            block = block.replace(shown, real)
        file = self._directory / "nginx.conf"
        file.write_text(AROUND.format(directory=self._directory, configuration=block))
        assert NGINX is not None
        process = await asyncio.create_subprocess_exec(
            NGINX, "-p", str(self._directory), "-e", str(self._directory / "error.log"), "-c", str(file)
        )
        stack.push_async_callback(process.wait)
        stack.callback(process.terminate)
        async with asyncio.timeout(LIMIT):
            while not await self._listens():
                assert process.returncode is None, self.errors
                await asyncio.sleep(0.02)

    async def start_servers(self) -> None:
        for port in self.servers:
            await self._running.enter_async_context(serve(Server(), port=port, path="/ws"))

    async def stop_servers(self) -> None:
        await self._running.aclose()

    async def enter(self) -> ClientConnection:
        return await connect(f"ws://127.0.0.1:{self.port}/ws", proxy=None, compression=None)

    @property
    def errors(self) -> str:
        return (self._directory / "error.log").read_text()

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        site = Site(tmp_path)
        await site.start_nginx(stack)
        stack.push_async_callback(site.stop_servers)
        yield site


async def test_when_all_servers_were_away_the_first_client_after_that_gets_in(site: Site) -> None:
    await site.start_servers()
    for _ in range(2):
        async with await site.enter() as client:
            assert '"op":10' in str(await client.recv())
    await site.stop_servers()
    for _ in range(4):  # nginx has now seen each server fail
        with pytest.raises(InvalidStatus, match="502"):
            await site.enter()
    await site.start_servers()
    async with await site.enter() as client:
        assert '"op":10' in str(await client.recv())
    assert "no live upstreams" not in site.errors


async def test_a_client_gets_in_while_one_of_two_servers_is_away(site: Site) -> None:
    async with serve(Server(), port=site.servers[1], path="/ws"):
        for _ in range(4):
            async with await site.enter() as client:
                assert '"op":10' in str(await client.recv())

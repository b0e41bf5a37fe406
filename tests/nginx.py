"""nginx with the configuration of `docs/howto/deploy.md`, in front of two servers."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.ports import free_port

PAGE = Path(__file__).parents[1] / "docs/howto/deploy.md"

LIMIT = 20.0
"""Seconds within which nginx has to start."""

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


def find_nginx() -> str:
    """Return the path of nginx; skip the test where nginx is missing."""
    path = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        pytest.skip("there is no nginx on the PATH; on Debian: apt-get install nginx-light")
    return path


def documented(port: int, servers: Sequence[int]) -> str:
    """Return the configuration that the page shows, with other ports and without TLS."""
    block: str
    [block] = re.findall(r"^```nginx\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    for shown, real in (
        ("127.0.0.1:4000", f"127.0.0.1:{servers[0]}"),
        ("127.0.0.1:4010", f"127.0.0.1:{servers[1]}"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port};"),
    ):
        assert block.count(shown) == 1
        block = block.replace(shown, real)
    return block


class Nginx:
    """nginx with the configuration of the page.

    Attributes:
        port: port that nginx listens on, at the path `/ws`.
        servers: ports of the two servers behind it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = free_port()
        self.servers = (free_port(), free_port())

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Nginx"]:
        """Run nginx until the end of the context; skip the test where nginx is missing."""
        program, file = find_nginx(), self._directory / "nginx.conf"
        block = documented(self.port, self.servers)
        file.write_text(AROUND.format(directory=self._directory, configuration=block))
        process = await asyncio.create_subprocess_exec(
            program, "-p", str(self._directory), "-e", str(self._directory / "error.log"), "-c", str(file)
        )
        try:
            async with asyncio.timeout(LIMIT):
                while not await self._listens():
                    assert process.returncode is None, self.errors
                    await asyncio.sleep(0.02)
            yield self
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    @property
    def errors(self) -> str:
        """Return the lines of the error log."""
        return (self._directory / "error.log").read_text()

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

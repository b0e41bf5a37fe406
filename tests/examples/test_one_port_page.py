"""The page about one port: each program under a server of the page, until it is stopped."""

import asyncio
import os
import re
import shlex
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesa_ws import AsyncDispatcher, Client, MesaError, Message

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/one-port.md").read_text()
SECTIONS = dict(re.findall(r"^##+ (\w.*?)\n(.*?)(?=^##+ |\Z)", PAGE, re.DOTALL | re.MULTILINE))
LIMIT = 30.0
KEY = "0123456789abcdef"

DJANGO = "SECRET_KEY, ROOT_URLCONF, ALLOWED_HOSTS, MIDDLEWARE = 'x', 'shop.urls', ['*'], []"

FILES = {"Django": ("shop/asgi.py", "shop/urls.py")}
"""Where a section has its programs saved."""

LOGGED = "import logging\nlogging.basicConfig(level='INFO')\n"


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", SECTIONS[section], re.DOTALL | re.MULTILINE)


def block(section: str, language: str) -> str:
    [found] = blocks(section, language)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@asynccontextmanager
async def running(command: str, port: int, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command of the page on a free port; its output is in a file."""
    words = shlex.split(command.replace("\\\n", " ").replace("8000", str(port)))
    with (folder / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name(words[0])),
            *words[1:],
            cwd=folder,
            env=os.environ | {"MESA_API_KEY": KEY, "PYTHONPATH": str(folder)},
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def ask(port: int, method: str, path: str, **fields: str) -> int:
    """Send a request; return the status of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Length: 0", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


async def connected(url: str) -> Client:
    """A client of a server that may not listen yet."""
    async with asyncio.timeout(LIMIT):
        while True:
            client = Client(url)
            try:
                await client.connect()
            except MesaError:
                await client.aclose()
                await asyncio.sleep(0.1)
            else:
                return client


@pytest.mark.parametrize(
    ("framework", "carrier"),
    [("FastAPI", "uvicorn"), ("Starlette", "Granian"), ("Litestar", "Hypercorn"), ("Django", "uvicorn")],
)
async def test_each_framework_and_each_server_carries_websockets(
    framework: str, carrier: str, tmp_path: Path
) -> None:
    files = FILES.get(framework, ("main.py",))
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/settings.py").write_text(DJANGO)
    for file, program in zip(files, blocks(framework, "python"), strict=True):
        (tmp_path / file).write_text(LOGGED + program)
    port = free_port()
    command = block(carrier, "sh").replace("main", files[0].removesuffix(".py").replace("/", "."))
    async with running(command, port, tmp_path) as process:
        client = await connected(f"ws://127.0.0.1:{port}/ws/")
        async with asyncio.timeout(LIMIT):
            await client.authenticate({"id": "1"})
            assert await ask(port, "POST", "/alerts?text=hi") == 202
            message = await anext(aiter(client))
            assert (message.type, message.data) == ("ALERT", {"text": "hi"})
            requests = {"/ws/mesa.js": 200, "/ws/": 426, "/nothing": 404}
            assert {path: await ask(port, "GET", path) for path in requests} == requests
            foreign = {"Upgrade": "websocket", "Sec_WebSocket_Version": "13", "Cookie": "a=b"}
            foreign |= {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==", "Origin": "https://evil.test"}
            status = await ask(port, "GET", "/ws/", **foreign | {"Connection": "Upgrade"})
            assert status == 403
            process.terminate()
            await process.wait()
        await client.aclose()
    log = (tmp_path / "log").read_text()
    in_traceback = "src/mesa_ws/" in log
    assert (log.count("is up"), log.count("is down"), in_traceback) == (1, 1, False), log


async def test_mesa_serve_answers_everything_on_one_port(tmp_path: Path) -> None:
    command = block("mesa serve", "console").splitlines()[0].partition("mesa ")[2]
    port = free_port()
    async with running(f"mesa {command}", port, tmp_path):
        client = await connected(f"ws://127.0.0.1:{port}/")
        async with asyncio.timeout(LIMIT), AsyncDispatcher(f"http://127.0.0.1:{port}", key=KEY) as dispatcher:
            await client.authenticate({"id": "1"})
            await dispatcher.dispatch(Message(0, 7, "N"), ["1"])
            assert (await anext(aiter(client))).data == 7
            key = {"Authorization": f"Bearer {KEY}"}
            for path, fields, status in (
                *[("/mesa.mjs", {}, 200), ("/health/live", {}, 200), ("/health/ready", {}, 200)],
                *[("/metrics", {}, 401), ("/metrics", key, 200), ("/v1/nothing", {}, 404), ("/", {}, 426)],
            ):
                assert (path, await ask(port, "GET", path, **fields)) == (path, status)
        await client.aclose()


def test_the_page_gives_the_reason_of_each_test_that_is_native() -> None:
    table = PAGE.partition("| what a test needs |")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
    named = {reason for row in rows for reason in row.split(", ")}
    texts = [path.read_text() for path in (ROOT / "tests/system").rglob("test_*.py")]
    assert {reason for text in texts for reason in re.findall(r'mark\.native\("(.*?)"\)', text)} == named

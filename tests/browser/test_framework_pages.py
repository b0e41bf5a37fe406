"""The pages about FastAPI, Django and Flask: from an empty folder to a message in a browser.

What a page says is saved and typed, on one port and on two: only the Redis, the ports and our wheel are
replaced. With `MESA_WALK=1` each begins with a new environment and the `pip install` of its page; otherwise
the programs are those of the environment of the tests. The end of the run prints the seconds.
"""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from redis import Redis

from tests.closing_report import ClosingReport
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.wheel import ROOT, build_wheel

from .chromium import PATIENCE, Windows
from .walking import IS_TIMED, Walk

if TYPE_CHECKING:
    from playwright.async_api import Page

LIMIT = 600 if IS_TIMED else 60
"""Seconds for one page."""

HEADING = re.compile(r"^## ", re.MULTILINE)
FENCE = re.compile(r'^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```', re.DOTALL | re.MULTILINE)
FILE = re.compile(r"`([\w/]+\.py)`")
"""A file whose text is the next block."""

ASSIGNMENT = re.compile(r"(?:export )?(\w+)=\$\(.*\)")
SERVER = re.compile(r"uvicorn|flask|mesa serve|python realtime|python manage\.py run")
SUPERUSER = re.compile(r"DJANGO_SUPERUSER_PASSWORD=(\S+) .* --username (\S+)")


def steps_of(page: str, sections: tuple[str, ...], changes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what a page has a reader do, in its order: a file and its text, or "" and a line to type.

    Args:
        page: name of the page.
        sections: their titles; "" is what comes before the first.
        changes: texts, and what takes their place.
    """
    text = (ROOT / "docs/howto" / page).read_text()
    for before, after in changes.items():
        text = text.replace(before, after)
    first, *others = HEADING.split(text)
    parts = {"": first} | {part.partition("\n")[0]: part for part in others}
    for part in map(parts.__getitem__, sections):
        end = 0
        for found in FENCE.finditer(part):
            language, title, code = found.groups()
            if language in {"python", "html"}:
                yield title or FILE.findall(part, end, found.start())[-1], code
            else:
                yield from (("", line.removeprefix("$ ")) for line in code.replace("\\\n", "").splitlines())
            end = found.end()


ONE_PORT = "From nothing to a message"

CASES = {
    "FastAPI on one port": ("one-port.md", ("FastAPI", ONE_PORT), 'ALERT {"text":"hi"}'),
    "Django on one port": ("one-port.md", ("Django", ONE_PORT), 'ALERT {"text":"hi"}'),
    "Flask on one port": ("one-port.md", ("Flask", ONE_PORT), 'ALERT {"text":"hi"}'),
    "FastAPI on two": (
        "fastapi.md",
        ("", "Who is calling", "The API", "The server"),
        'NOTE {"from":"anna","text":"hi"}',
    ),
    "Django on two": ("django.md", ("", ONE_PORT), 'STATUS_UPDATE {"order":1,"status":"shipped"}'),
    "Flask on two": ("flask.md", ("", "Run it"), 'STATUS_UPDATE {"order":"1","status":"shipped"}'),
}


@pytest.fixture(scope="module")
def module_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    redis.start()
    yield redis
    redis.stop()


@pytest.fixture
def redis(module_redis: RedisServer) -> str:
    """An empty Redis: the pages share a namespace, users and keys."""
    with Redis.from_url(module_redis.url) as client:
        client.flushall()
    return module_redis.url


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    return build_wheel(tmp_path_factory.mktemp("dist")) if IS_TIMED else None


@pytest_asyncio.fixture(loop_scope="session")
async def walk(tmp_path: Path) -> AsyncIterator[Walk]:
    async with AsyncExitStack() as stack:
        yield Walk(tmp_path, stack)


class Reader:
    """Does what a page says, with a browser.

    Args:
        walk: the shell.
        windows: the browser.
        web: port of the application.
        ports: all ports that servers of the page listen on.
    """

    def __init__(self, walk: Walk, windows: Windows, web: int, ports: list[int]) -> None:
        self.page: Page | None = None
        self._login: tuple[str, str] | None = None
        self._walk = walk
        self._windows = windows
        self._web = web
        self._ports = ports

    async def save(self, name: str, text: str) -> None:
        path = self._walk.folder / name
        if name == "shop/settings.py":  # "at the end of"
            text = path.read_text() + text
        path.write_text(text)

    async def type(self, line: str) -> None:
        if found := ASSIGNMENT.fullmatch(line):
            self._walk.settings[found[1]] = (await self._walk.type(f'{line}; echo "${found[1]}"')).strip()
        elif SERVER.match(line):
            await self._walk.run(line)
        elif line.startswith("mesa tail"):
            await self._open(f"#{self._walk.settings['TOKEN']}")
        else:
            if found := SUPERUSER.match(line):
                self._login = found[2], found[1]
            if line.startswith("curl") and self.page is None:
                await self._open("")
            await self._walk.type(line)

    async def _open(self, fragment: str) -> None:
        async with asyncio.timeout(PATIENCE):
            for port in self._ports:
                await listening(port)
        address = (self._walk.folder / "page.html").as_uri() + fragment
        page = self.page = await (await self._windows.open()).new_page()
        if self._login:
            address = f"http://localhost:{self._web}/"
            await page.goto(f"{address}admin/")
            for field, value in zip(("username", "password"), self._login, strict=True):
                await page.fill(f"input[name={field}]", value)
            await page.click("input[type=submit]")
        await page.goto(address)
        await page.wait_for_function("document.title == 'Mesa: open'")
        self._walk.done("start")


async def listening(port: int) -> None:
    """Wait until a server listens."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


@pytest.mark.timeout(LIMIT)
@pytest.mark.skipif(shutil.which("curl") is None, reason="the pages use curl")
@pytest.mark.parametrize("name", CASES)
async def test_from_an_empty_folder_to_a_message(
    name: str, walk: Walk, redis: str, wheel: Path | None, windows: Windows, pytestconfig: pytest.Config
) -> None:
    document, sections, expected = CASES[name]
    web, mesa, api = free_port(), free_port(), free_port()
    changes = {
        "redis://localhost:6379": redis,
        "localhost:5000": f"localhost:{web}",
        "localhost:8000": f"localhost:{web}",
        "localhost:4000": f"localhost:{mesa}",
        "--port 8000": f"--port {web}",
        "manage.py runserver": f"manage.py runserver {web}",
        "manage.py runmesa": f"manage.py runmesa --port {mesa}",
    }
    walk.settings |= {"PORT": f"{mesa}", "MESA_PORT": f"{mesa}", "MESA_API_PORT": f"{api}"}
    walk.settings |= {"FLASK_RUN_PORT": f"{web}", "FLASK_MESA__url": redis}
    windows.expect("favicon.ico")
    reader = Reader(walk, windows, web, [web] if document == "one-port.md" else [web, mesa])
    for file, text in steps_of(document, sections, changes):
        if file:
            await reader.save(file, text)
        elif not text.startswith("pip install"):
            await reader.type(text)
        elif wheel:
            await walk.install(text, wheel)
    assert reader.page is not None
    await reader.page.wait_for_function("document.getElementById('messages').textContent")
    walk.done("first message")
    assert await reader.page.inner_text("#messages") == f"{expected}\n"
    await reader.page.close()  # stop it before its server
    seconds = ", ".join(f"{step} {spent:.2f} s" for step, spent in walk.seconds.items())
    ClosingReport.of(pytestconfig).add("the pages about frameworks", f"{name}: {seconds}")

"""Clients that log what they receive: tabs of Chromium, and a program of Node."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from tests.browser.chromium import asleep
from tests.interop.npm_packages import PROJECT

from .verdict import Note

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

KEEPALIVE = 1.0
"""Seconds of silence after which a client probes the server, and for which it waits for the answer."""

FOLDER = Path(__file__).parent

CLIENT = PROJECT / "src/mesa_ws/browser/mesa.mjs"


class Client(Protocol):
    """A client in a storm.

    Attributes:
        name: for tables.
        user: its user.
    """

    name: str
    user: str

    async def newest(self) -> int:
        """Return the highest number that the client received, or -1."""
        ...

    async def said(self) -> tuple[int, int]:
        """Return the number of messages that the client sent, and how many of them were written."""
        ...

    async def notes(self) -> Sequence[Note]:
        """Return all notes of the client."""
        ...


class Tab:
    """A page of Chromium.

    Args:
        name: for tables.
        user: its user.
        page: the page of Chromium.
    """

    def __init__(self, name: str, user: str, page: "Page") -> None:
        self.name = name
        self.user = user
        self._page = page

    @classmethod
    async def open(
        cls, name: str, user: str, context: "BrowserContext", page_url: str, **options: str
    ) -> "Tab":
        """Open a tab.

        Args:
            name: for tables.
            user: its user.
            context: the browser context, whose tabs share storage.
            page_url: of `tab.html`.
            options: its query: `url` of the server, `client`, a module, and where `positions` are kept.
        """
        page = await context.new_page()
        await page.goto(f"{page_url}?{urlencode({**options, 'user': user, 'interval': KEEPALIVE})}")
        return cls(name, user, page)

    async def newest(self) -> int:
        newest: int = await self._page.evaluate("window.newest?.() ?? -1")
        return newest

    async def say(self) -> None:
        """Send messages for some hundred milliseconds."""
        await self._page.evaluate("say()")

    async def said(self) -> tuple[int, int]:
        sent, written = await self._page.evaluate("window.said?.() ?? [0, 0]")
        return sent, written

    async def notes(self) -> Sequence[Note]:
        return [Note(*note) for note in await self._page.evaluate("journal()")]

    async def reload(self, after: float) -> None:
        """Reload the page while its application is in the middle of handling a message."""
        async with self._page.expect_navigation():
            await self._page.evaluate("reload", 1000 * after)

    async def leads(self) -> bool:
        """Whether the tab leads others over a shared connection."""
        leads: bool = await self._page.evaluate("leads()")
        return leads

    async def sleep(self, seconds: float, *, is_told: bool) -> None:
        """Suspend the tab for a while; `is_told` as in `asleep`."""
        async with asleep(self._page, is_told=is_told):
            await asyncio.sleep(seconds)


class NodeClient:
    """A process of Node.

    Args:
        user: its user.
        process: the process that writes notes to its stdout.
    """

    def __init__(self, user: str, process: asyncio.subprocess.Process) -> None:
        self.name = f"{user}, Node"
        self.user = user
        self._notes: list[Note] = []
        self._process = process

    @classmethod
    @asynccontextmanager
    async def running(cls, node: str, user: str, url: str) -> AsyncIterator["NodeClient"]:
        """Run the process until the end of the context."""
        program = str(FOLDER / "node_client.mjs")
        command = [node, *flags(node), program, CLIENT.as_uri(), url, user, str(KEEPALIVE)]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        client = cls(user, process)
        reading = asyncio.create_task(client._read())
        try:
            yield client
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await reading

    async def newest(self) -> int:
        assert self._process.returncode is None, f"Node has ended with {self._process.returncode}"
        return max((int(note.value) for note in self._notes if note.kind == "number"), default=-1)

    async def said(self) -> tuple[int, int]:
        return 0, 0

    async def notes(self) -> Sequence[Note]:
        return self._notes

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._notes.append(Note(*json.loads(line)))


def flags(node: str) -> Sequence[str]:
    """Return the option that gives Node a WebSocket class, which it has by default from 22 on."""
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"v(\d+)", version)
    return ["--experimental-websocket"] if found and int(found[1]) < 22 else []

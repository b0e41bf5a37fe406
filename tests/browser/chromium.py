"""The installed Chromium, started once, and browser contexts whose pages may not log errors."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # a slow import, which every process of a run would pay for
    from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, WebError

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

FLAGS = ("--disable-dev-shm-usage",)
"""Options; containers have little shared memory."""

PATIENCE = 20.0
"""Seconds to wait for any condition in a page."""


def find_chromium() -> str:
    """Return the path of Chromium; skip the test where Chromium is missing."""
    for program in PROGRAMS:
        if path := shutil.which(program):
            return path
    pytest.skip("there is no Chromium on the PATH; on Debian: apt-get install chromium")


@asynccontextmanager
async def running_chromium() -> AsyncIterator["Browser"]:
    """Run a headless Chromium until the end of the context."""
    path = find_chromium()
    api = pytest.importorskip(
        "playwright.async_api", reason="playwright is not installed: it has no wheel here"
    )
    async with api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS, timeout=60_000)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def asleep(page: "Page", *, is_told: bool = True) -> AsyncIterator[None]:
    """Suspend a page until the end of the context, and assert that it stands still.

    The debugger stops the page: driven pages stay visible, and Chromium freezes no visible page.

    Args:
        page: the page; others go on.
        is_told: whether the page gets a `freeze` event, as from a browser, or none, as when a machine sleeps.
    """
    session = await page.context.new_cdp_session(page)

    async def read(expression: str) -> Any:
        return (await session.send("Runtime.evaluate", {"expression": expression}))["result"].get("value")

    if is_told:
        await read("document.dispatchEvent(new Event('freeze'))")
    await read("window.beats = 0; window.heart = setInterval(() => beats++, 20)")
    stopped = asyncio.Event()
    session.on("Debugger.paused", lambda _: stopped.set())
    await session.send("Debugger.enable")
    await session.send("Debugger.pause")
    async with asyncio.timeout(PATIENCE):
        await stopped.wait()
    beats = await read("beats")
    try:
        yield
        assert await read("beats") == beats, "the page did not stand still"
    finally:
        await session.send("Debugger.resume")
        await session.send("Debugger.disable")
        await page.wait_for_function("beats => window.beats > beats", arg=beats)
        await read("clearInterval(heart)")
        if is_told:
            await read("document.dispatchEvent(new Event('resume'))")
        await session.detach()


class Windows:
    """Browser contexts of one test, and the errors of their pages.

    Args:
        browser: the browser to open them in.

    Attributes:
        complaints: unexpected errors that pages wrote to the console or did not catch.
    """

    def __init__(self, browser: "Browser") -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._expected: list[re.Pattern[str]] = []
        self.complaints: list[str] = []

    def expect(self, pattern: str) -> None:
        """Allow errors that match a pattern, as where connections are cut."""
        self._expected.append(re.compile(pattern))

    async def open(self, **options: Any) -> "BrowserContext":
        """Open a context, like `Browser.new_context`; two contexts share nothing, like two browsers."""
        context = await self._browser.new_context(**options)
        context.set_default_timeout(PATIENCE * 1000)
        context.on("console", self._on_console)
        context.on("weberror", self._on_error)
        self._contexts.append(context)
        return context

    async def page(self, url: str, **options: Any) -> "Page":
        """Open a page in a context of its own."""
        page = await (await self.open(**options)).new_page()
        await page.goto(url)
        return page

    async def aclose(self) -> None:
        """Close all contexts."""
        for context in self._contexts:
            await context.close()

    def _on_console(self, message: "ConsoleMessage") -> None:
        if message.type == "error":
            self._complain(f"{message.text} ({message.location.get('url', '')})")

    def _on_error(self, error: "WebError") -> None:
        self._complain(error.error.stack or error.error.message)

    def _complain(self, text: str) -> None:
        if not any(pattern.search(text) for pattern in self._expected):
            self.complaints.append(text)

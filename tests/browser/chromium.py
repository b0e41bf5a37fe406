"""The Chromium that is installed, started once, and contexts whose pages may not complain."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # it takes a while to import, and every process of a run would do so
    from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, WebError

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

FLAGS = ("--disable-dev-shm-usage",)
"""Containers have little shared memory."""

PATIENCE = 20.0
"""Seconds for which anything in a page is waited for."""


def find_chromium() -> str:
    """Return the path of Chromium; skip the test where there is none."""
    for program in PROGRAMS:
        if path := shutil.which(program):
            return path
    pytest.skip("there is no Chromium on the PATH; on Debian: apt-get install chromium")


@asynccontextmanager
async def running_chromium() -> AsyncIterator["Browser"]:
    """Run a Chromium without a window until the end of the context."""
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
    """Let a page stand still until the end of the context, and see that it does.

    The debugger stops it: pages that are driven stay visible, and Chromium freezes none that is.

    Args:
        page: which one; others go on.
        is_told: whether it hears of it, as when a browser freezes a tab, or not, as when a machine sleeps.
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
    """Browser contexts of one test, and what their pages complained about.

    Args:
        browser: in which they are opened.

    Attributes:
        complaints: errors that pages wrote to the console or did not catch, apart from expected ones.
    """

    def __init__(self, browser: "Browser") -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._expected: list[re.Pattern[str]] = []
        self.complaints: list[str] = []

    def expect(self, pattern: str) -> None:
        """Let pages complain about what a pattern finds, as they do where connections are cut."""
        self._expected.append(re.compile(pattern))

    async def open(self, **options: Any) -> "BrowserContext":
        """Open a context, as with `Browser.new_context`; two contexts share nothing, as two browsers."""
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

"""Fixtures for tests in a browser: one Chromium, windows and pages of a test, and a site for its pages.

Such tests are in the folders of `BROWSER`, so that one process runs them all, with one Chromium.
They run in one event loop, that of Chromium, and so must their async fixtures:
`@pytest_asyncio.fixture(loop_scope="session")`. An error that a page writes to the console or does not
catch fails the test, unless `windows.expect(pattern)` was called.
"""

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.lanes import BROWSER

from .chromium import Windows, running_chromium
from .web import Web

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(BROWSER) and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator["Browser"]:
    """The one Chromium; skips the test where Chromium is missing."""
    async with running_chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def windows(request: pytest.FixtureRequest, browser: "Browser") -> AsyncIterator[Windows]:
    """Contexts of this test; unexpected errors of their pages fail it."""
    assert request.node.nodeid.startswith(BROWSER), f"tests in a browser belong to {' or '.join(BROWSER)}"
    windows = Windows(browser)
    yield windows
    await windows.aclose()
    assert not windows.complaints, "pages complained:\n" + "\n".join(windows.complaints)


@pytest_asyncio.fixture(loop_scope="session")
async def context(windows: Windows) -> "BrowserContext":
    """A context whose pages share storage, locks and channels."""
    return await windows.open()


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: "BrowserContext") -> "Page":
    """An empty page."""
    return await context.new_page()


@pytest.fixture
def web() -> Iterator[Web]:
    """A site for the pages of this test."""
    with Web.serving() as web:
        yield web

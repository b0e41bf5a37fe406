"""Assumptions of the tests in a browser about the browser."""

import asyncio
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import TYPE_CHECKING

from .chromium import Windows, find_chromium
from .web import Web

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page

PAGE = "<!doctype html><title>Page</title><h1>Hello</h1>"


async def test_a_page_is_loaded_and_runs_its_script(page: "Page", web: Web) -> None:
    await page.goto(web.add("/page.html", PAGE))
    assert await page.inner_text("h1") == "Hello"
    assert await page.evaluate("[isSecureContext, typeof navigator.locks]") == [True, "object"]


async def test_it_is_the_chromium_that_is_installed(browser: "Browser") -> None:
    version = await asyncio.create_subprocess_exec(find_chromium(), "--version", stdout=PIPE)
    assert browser.version in (await version.communicate())[0].decode()


async def test_errors_of_a_page_are_noticed(windows: Windows, web: Web) -> None:
    script = "console.error('one'); Promise.reject(Error('two')); setTimeout(() => { throw Error('three') })"
    await windows.page(web.add("/page.html", f"{PAGE}<img src=/absent.svg><script>{script}</script>"))
    await _until_complaints(windows, 4)
    assert [any(word in text for text in windows.complaints) for word in ("one", "two", "three", "404")] == [
        True
    ] * 4
    windows.complaints.clear()


async def test_an_expected_error_is_ignored(windows: Windows, web: Web) -> None:
    windows.expect("^one")
    await windows.page(
        web.add("/page.html", f"{PAGE}<script>console.error('one'); console.error('two')</script>")
    )
    await _until_complaints(windows, 1)
    assert ["two" in text for text in windows.complaints] == [True]
    windows.complaints.clear()


async def test_two_origins_share_nothing(context: "BrowserContext", web: Web) -> None:
    web.add("/page.html", PAGE)
    here, there = await context.new_page(), await context.new_page()
    await here.goto(web.url + "/page.html")
    await there.goto(web.other_url + "/page.html")
    await here.evaluate("localStorage.setItem('key', 'value')")
    assert await there.evaluate("localStorage.getItem('key')") is None


def test_files_of_a_folder_are_found_and_none_beside_it(tmp_path: Path, web: Web) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file.js").write_text("1")
    web.mount("/files", tmp_path / "folder")
    assert web.find("/files/file.js") == b"1"
    assert web.find("/files/../secret.txt") is None
    assert web.find("/filesfile.js") is None


async def _until_complaints(windows: Windows, count: int) -> None:
    async with asyncio.timeout(10):
        while len(windows.complaints) < count:
            await asyncio.sleep(0.01)

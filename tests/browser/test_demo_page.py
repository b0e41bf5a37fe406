"""The page of `mesa demo --keep`, as a user operates it, and its pictures for the documentation.

`MESA_PICTURES=1 pytest tests/browser/test_demo_page.py` takes the picture of the documentation, and
more pictures in `.cache/pictures`.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.system.cli.mesa_process import MesaProcess

from .chromium import Windows

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

ROOT = Path(__file__).parents[2]

PICTURE = ROOT / "docs/images/demo.png"
"""The picture of the documentation: light and wide."""

LARGEST = 150_000
"""Largest size of a picture in bytes."""

SIZES = {"wide": (1280, 760), "narrow": (360, 760), "narrowest": (320, 640)}

SERVER_IS_DEAD = r"WebSocket connection to 'ws://127\.0\.0\.1:\d+/' failed: .*(REFUSED|RESET)"
"""Errors that Chromium logs for a page whose server was killed."""


class DemoPage:
    """The page, and the actions of its user."""

    def __init__(self, page: "Page") -> None:
        self.page = page

    async def fill(self, to: str, type: str, data: str = '{"n": 1}', excluding: str = "") -> None:
        await self.page.get_by_role("radio", name=to, exact=True).check(force=True)
        for id in ("0", "1"):
            await self.page.get_by_role("checkbox", name=id).set_checked(id in excluding, force=True)
        await self.page.get_by_label("Type").fill(type)
        await self.page.get_by_label("Data").fill(data)

    async def press(self, name: str) -> None:
        await self.page.get_by_role("button", name=name, exact=True).click()

    async def dispatch(self, to: str, type: str, data: str = '{"n": 1}', excluding: str = "") -> None:
        await self.fill(to, type, data, excluding)
        await self.press("Dispatch")

    async def outcome(self, text: str) -> None:
        await self.page.get_by_role("status").get_by_text(text).wait_for()

    def user(self, id: str) -> "Locator":
        return self.page.get_by_role("region", name=f"User {id}")

    async def state(self, id: str, word: str) -> None:
        await self.user(id).locator(".word").get_by_text(word).wait_for()

    async def counts(self, id: str, **expected: str) -> None:
        """Wait until the card of a user shows a text."""
        for name, text in expected.items():
            exactly = re.compile(f"^{re.escape(text)}$")
            await self.user(id).locator(f"[data-count={name}]").filter(has_text=exactly).wait_for()

    async def outbox(self, id: str, text: str) -> None:
        await self.user(id).locator(".waiting").get_by_text(text, exact=True).wait_for()

    async def types(self, id: str) -> list[str]:
        """Return the types of the messages in the log of a user, oldest first."""
        return list(reversed(await self.user(id).get_by_role("log").locator("strong").all_inner_texts()))

    async def tab(self, key: str = "Tab") -> str:
        """Move the focus, and return the focused element."""
        await self.page.keyboard.press(key)
        return await self.focused()

    async def focused(self) -> str:
        """Return role and name of the focused element."""
        snapshot = await self.page.locator(":focus").aria_snapshot()
        [named] = re.findall(r'^- (\w+ "[^"]*")', snapshot)
        return str(named)


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a demo with two servers and a redis-server of its own."""
    with MesaProcess(tmp_path_factory.mktemp("demo"), "demo", "--keep", "--json") as demo:
        assert demo.document()["storage"] == "own redis"
        yield demo.document()["page"]


@pytest_asyncio.fixture(loop_scope="session")
async def demo(replicated: str, windows: Windows) -> DemoPage:
    return await _open(replicated, windows)


async def _open(url: str, windows: Windows) -> DemoPage:
    windows.expect(SERVER_IS_DEAD)
    width, height = SIZES["wide"]
    viewport = {"width": width, "height": height}
    demo = DemoPage(await windows.page(url, viewport=viewport, reduced_motion="reduce"))
    for id in ("0", "1"):
        await demo.state(id, "connected")
    return demo


async def test_messages_that_are_json_reach_those_whom_they_are_dispatched_to(demo: DemoPage) -> None:
    await demo.dispatch("0", "BROKEN", "{")
    await demo.page.get_by_text("Data is no JSON").wait_for()
    assert await demo.focused() == 'textbox "Data"'
    await demo.dispatch("0", "FIRST")
    await demo.outcome("Stored for 0 as #")
    await demo.dispatch("everybody", "SECOND")
    await demo.outcome("Sent to everybody.")
    await demo.dispatch("0 and 1", "THIRD", excluding="0")
    await demo.outcome("Stored for 1 as #")
    await demo.dispatch("everybody", "FOURTH", excluding="1")
    await demo.outcome("Sent to everybody but 1.")
    await demo.dispatch("1", "FIFTH", excluding="1")
    await demo.outcome("Sent to no user")
    await demo.counts("0", received="3 of 3", replayed="0")
    await demo.counts("1", received="2 of 2", replayed="0")
    assert await demo.types("0") == ["FIRST", "SECOND", "FOURTH"]
    assert await demo.types("1") == ["SECOND", "THIRD"]
    for id in ("0", "1"):
        await demo.outbox(id, "empty")


async def test_a_user_who_is_offline_or_reloads_gets_what_came_in_between(demo: DemoPage) -> None:
    await demo.user("1").get_by_role("button", name="Go offline").click()
    await demo.state("1", "offline")
    await demo.dispatch("everybody", "ALERT")
    await demo.dispatch("0 and 1", "MISSED")
    await demo.counts("0", received="2 of 2")
    await demo.counts("1", received="0 of 2")
    await demo.user("1").get_by_role("button", name="Go online").click()
    await demo.counts("1", received="2 of 2", replayed="2")
    assert sorted(await demo.types("1")) == ["ALERT", "MISSED"]
    await demo.user("0").get_by_role("button", name="Go offline").click()
    await demo.dispatch("0 and 1", "MISSED")
    await demo.counts("1", received="3 of 3")
    await demo.page.reload()
    await demo.counts("0", received="1 of 1", replayed="1")
    await demo.counts("1", received="0 of 0")
    for id in ("0", "1"):
        await demo.outbox(id, "empty")


async def test_a_user_goes_on_at_the_other_server(demo: DemoPage) -> None:
    await demo.dispatch("0", "BEFORE")
    await demo.counts("0", received="1 of 1")
    await demo.user("0").get_by_label("Server").select_option(label="Server B")
    await demo.user("0").get_by_text("connected to server B").wait_for()
    await demo.dispatch("0", "AFTER")
    await demo.counts("0", received="2 of 2", replayed="0")
    assert await demo.types("0") == ["BEFORE", "AFTER"]
    await demo.outbox("0", "empty")


async def test_the_keyboard_reaches_everything_in_order(demo: DemoPage) -> None:
    assert [await demo.tab() for _ in range(15)] == [
        'radio "0 and 1"',
        'checkbox "0"',
        'checkbox "1"',
        'combobox "Type"',
        'textbox "Data"',
        'button "Dispatch"',
        'button "10 at once"',
        'button "kill -9 server A"',
        'button "kill -9 server B"',
        'combobox "Server"',
        'button "Go offline"',
        'log "Messages of user 0"',
        'combobox "Server"',
        'button "Go offline"',
        'log "Messages of user 1"',
    ]


async def test_by_the_keyboard_a_server_is_killed_and_what_it_missed_is_replayed(demo: DemoPage) -> None:
    keyboard = demo.page.keyboard
    await demo.page.get_by_role("button", name="kill -9 server A").focus()
    await keyboard.press("Space")
    await demo.outcome("Server A was killed.")
    await demo.user("0").get_by_text("connection lost (1006)").wait_for()
    assert await demo.focused() == 'button "Start server A"'
    assert await demo.tab("Shift+Tab") == 'button "10 at once"'
    await keyboard.press("Enter")
    await demo.counts("1", received="10 of 10", replayed="0")
    await demo.outbox("0", "10 not acknowledged")
    await demo.counts("0", received="0 of 10")
    assert await demo.user("0").locator(".outbox li").count() == 8  # seven numbers, and "+3"
    assert await demo.tab() == 'button "Start server A"'
    await keyboard.press("Space")
    await demo.outcome("Server A runs again.")
    assert await demo.focused() == 'button "kill -9 server A"'
    await demo.counts("0", received="10 of 10", replayed="10")
    for id in ("0", "1"):
        await demo.outbox(id, "empty")
    height = await demo.page.evaluate("document.documentElement.scrollHeight")
    assert height == SIZES["wide"][1], "messages scroll in their log, and controls stay in sight"
    counts = demo.user("0").locator("[data-count=position], [data-count=acknowledged]")
    assert len(set(await counts.all_inner_texts())) == 1


async def test_without_redis_the_page_says_what_a_kill_costs(windows: Windows, tmp_path: Path) -> None:
    with MesaProcess(tmp_path, "demo", "--keep", "--json", environment={"PATH": str(tmp_path)}) as process:
        demo = await _open(process.document()["page"], windows)
        await demo.page.get_by_text("kill it, and what waits there is gone").wait_for()
        await demo.dispatch("0 and 1", "FIRST")
        await demo.outbox("0", "empty")
        await demo.user("0").get_by_role("button", name="Go offline").click()
        await demo.dispatch("0 and 1", "FORGOTTEN")
        await demo.counts("1", received="2 of 2")
        await demo.press("kill -9 server A")
        await demo.outbox("0", "unknown while the server is down")
        windows.expect("503")
        await demo.press("Dispatch")
        await demo.outcome("Not dispatched: ")
        await demo.press("Start server A")
        await demo.outcome("Server A runs again.")
        await demo.user("0").get_by_role("button", name="Go online").click()
        await (
            demo.user("0")
            .get_by_text("reset: the server has lost its outboxes; 1 dispatched message went")
            .wait_for()
        )
        await demo.user("1").get_by_text("reset: the server has lost its outboxes. An application").wait_for()
        await demo.dispatch("0 and 1", "AFTER")
        await demo.counts("0", received="2 of 3")
        await demo.counts("1", received="3 of 3")
        assert await demo.types("0") == ["FIRST", "AFTER"]


async def test_the_page_fits_and_is_worth_a_picture(demo: DemoPage) -> None:
    await demo.dispatch("0 and 1", "STATUS_UPDATE", '{"status": "online"}')
    await demo.counts("0", received="1 of 1")
    await demo.dispatch("everybody", "GLOBAL_ALERT", '{"text": "maintenance at 18:00"}')
    await demo.counts("0", received="2 of 2")
    await demo.user("0").get_by_role("button", name="Go offline").click()
    await demo.dispatch("0", "NEW_MESSAGE", '{"from": "Ada", "text": "Are you there?"}')
    await demo.dispatch("0 and 1", "NEW_MESSAGE", '{"from": "Ada", "text": "See you at six"}')
    await demo.counts("1", received="3 of 3")
    await demo.user("0").get_by_role("button", name="Go online").click()
    await demo.counts("0", received="4 of 4", replayed="2")
    for id in ("0", "1"):
        await demo.outbox(id, "empty")
    await demo.press("kill -9 server A")
    await demo.dispatch("0 and 1", "STATUS_UPDATE", '{"status": "away"}')
    await demo.press("Dispatch")
    await demo.outbox("0", "2 not acknowledged")
    await demo.outbox("1", "empty")
    for size in SIZES:
        for scheme in ("light", "dark"):
            await _look(demo.page, size, scheme)
    await demo.press("Start server A")
    await demo.outbox("0", "empty")


async def _look(page: "Page", size: str, scheme: Any) -> None:
    """Assert that a window size needs no horizontal scrolling, and take its picture on request."""
    width, height = SIZES[size]
    await page.set_viewport_size({"width": width, "height": height})
    await page.emulate_media(color_scheme=scheme)
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    texts = "[...document.querySelectorAll('button, dd, dt, .word, .title')]"
    clipped = f"{texts}.filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent)"
    assert await page.evaluate(clipped) == []
    assert (
        await page.evaluate("[...document.querySelectorAll('button')].filter((e) => e.offsetHeight > 36)")
        == []
    )
    if os.environ.get("MESA_PICTURES"):
        is_shown = (scheme, size) == ("light", "wide")
        picture = PICTURE if is_shown else ROOT / f".cache/pictures/demo-{scheme}-{size}.png"
        await page.screenshot(path=picture, full_page=size != "wide")
        assert picture.stat().st_size < LARGEST

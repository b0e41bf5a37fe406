"""Tabs of Chromium that share a connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from mesa_ws.backend.queries import Heads
from mesa_ws.messages.message import Message
from mesa_ws.transports.run import Server, serve
from tests.system.server.sync import send, storing
from tests.system.waiting import until

from .bundles import CLIENT, bundle
from .chromium import asleep
from .web import Web

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

PAGE = """<!doctype html><title>Tab</title>
<script type="module">
  import {{ SharedClient, sessionPositions }} from "/bundle/shared.mjs";
  window.given = JSON.parse(sessionStorage.getItem("given")) ?? [];
  window.resets = 0;
  window.mesa = new SharedClient("{url}", {{ token: {{ id: "1" }}, positions: sessionPositions() }});
  mesa.on("N", (n) => {{
    given.push(n);
    sessionStorage.setItem("given", JSON.stringify(given));
  }});
  mesa.onRequest("WHO", () => document.title);
  mesa.onReset(() => void resets++);
</script>"""


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    bundle(CLIENT / "src/shared/whole.ts", folder / "shared.mjs")
    return folder


class Site:
    """A server, and tabs of one user."""

    def __init__(self, server: Server, context: "BrowserContext", address: str) -> None:
        self.server = server
        self._context = context
        self._address = address
        self._sent = 0
        self.said: list[Any] = []
        server.on_message("SAY")(lambda message, connection: self.said.append(message.data))
        server.on_message("ECHO")(lambda message, connection: message.data)

    async def open(self) -> "Page":
        page = await self._context.new_page()
        await page.goto(self._address)
        await self.usable(page)
        return page

    async def usable(self, page: "Page") -> None:
        await page.wait_for_function("window.mesa?.state == 'open'")

    async def send(self, count: int) -> None:
        await send(self.server, *range(self._sent + 1, self._sent + count + 1))
        self._sent += count

    async def check(self, *pages: "Page") -> None:
        """Assert that each tab received every message once, in order, over one connection."""
        for page in pages:
            await page.wait_for_function("n => given[given.length - 1] == n", arg=self._sent)
            assert await page.evaluate("given") == [*range(1, self._sent + 1)]
            assert await page.evaluate("resets") == 0
        assert len(self.server.connections) == 1

    async def leader(self, *pages: "Page") -> "Page":
        """Return the tab that has the connection."""
        held = "navigator.locks.query().then(({held}) => held.find(({name}) => name.endsWith('%s')).clientId)"
        leader = await pages[0].evaluate(held % "leader")
        mine = f"navigator.locks.request('me', () => {held % 'me'})"
        for page in pages:
            if await page.evaluate(mine) == leader:
                return page
        raise AssertionError("none of them leads")


@pytest_asyncio.fixture(loop_scope="session")
async def site(context: "BrowserContext", web: Web, bundles: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        server = storing()
        endpoint = await stack.enter_async_context(serve(server))
        web.mount("/bundle", bundles)
        yield Site(server, context, web.add("/tab.html", PAGE.format(url=endpoint.url)))


async def test_four_tabs_have_one_connection_and_every_message(site: Site) -> None:
    pages = [await site.open() for _ in range(4)]
    await site.send(100)
    await site.check(*pages)
    async with asyncio.timeout(10):
        await until(lambda: _is_acknowledged(site.server))


async def test_the_leader_is_closed(site: Site) -> None:
    leader, *others = [await site.open() for _ in range(4)]
    assert await site.leader(leader, *others) == leader
    await site.send(10)
    await asyncio.gather(leader.close(), site.send(50))
    await site.check(*others)
    assert await site.leader(*others) in others


async def test_a_tab_crashes(site: Site) -> None:
    leader, *others = [await site.open() for _ in range(3)]
    await site.send(10)
    session = await leader.context.new_cdp_session(leader)
    async with leader.expect_event("crash"):
        crash = asyncio.ensure_future(session.send("Page.crash"))
        await site.send(50)
    await site.check(*others)
    crash.cancel()


async def test_a_tab_reloads(site: Site) -> None:
    leader, other = [await site.open() for _ in range(2)]
    await site.send(10)
    for page in (other, leader):
        await asyncio.gather(page.reload(), site.send(10))
        await site.usable(page)
    await site.check(leader, other)


async def test_a_frozen_leader_is_replaced_and_catches_up(site: Site) -> None:
    leader, other = [await site.open() for _ in range(2)]
    await site.send(10)
    async with asleep(leader):
        await site.send(10)
        await site.check(other)
        assert await site.leader(other) == other
    await site.send(10)
    await site.check(leader, other)


async def test_followers_send_and_ask_through_the_leader(site: Site) -> None:
    leader, follower = [await site.open() for _ in range(2)]
    for page in (leader, follower):
        assert await page.evaluate("mesa.send('SAY', 'hello').then(() => mesa.request('ECHO', 1))") == 1
    assert site.said == ["hello", "hello"]
    answer = await site.server.request("1", Message(0, None, "WHO"))
    assert answer.data == "Tab"


async def _is_acknowledged(server: Server) -> bool:
    head = (await server.bus.query(Heads(["1"])))["1"]
    return head is not None and head.acknowledged == head.top

"""The page about browsers, step by step: from `pip install` to a message, then the promises of each section.

uv installs the wheel into a fresh environment. The end of the run prints the seconds of that and of the
later steps. With `MESA_WALK=1`, `python -m venv` and pip do it, as for a newcomer.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from redis import Redis

from mesa_ws import (
    Connection,
    Message,
    RedisBackend,
    Refused,
    RequestError,
    RequestFailed,
    Server,
    User,
    serve,
)
from tests.closing_report import ClosingReport
from tests.redis_server import RedisServer
from tests.system.server.sync import unproven, until_unproven
from tests.wheel import ROOT, build_wheel

from .chromium import PATIENCE, Windows
from .walking import Walk
from .web import Web

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

TEXT = (ROOT / "docs/howto/browser.md").read_text()

BLOCKS = re.findall(r"^```(\w+)[^\n]*\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)

START, HTML, DISPATCH, TOKEN, MISSING, SENDING = (code for _, code in BLOCKS)

[PLAIN_SCRIPT] = re.findall(r'`(<script src="http://localhost:4000/mesa.js"></script>)`', TEXT)


async def test_from_nothing_to_a_message(
    windows: Windows, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    wheel = await asyncio.to_thread(build_wheel, tmp_path / "dist")
    async with AsyncExitStack() as stack:
        walk = Walk(tmp_path, stack)
        install, start = START.splitlines()
        await walk.install(install, wheel)
        server = await walk.run(start, MESA_PORT="0", MESA_API_PORT="0")
        assert server.stdout is not None
        async with asyncio.timeout(PATIENCE):
            said = (await server.stdout.readline()).decode()
        [port] = re.findall(r"ws://127\.0\.0\.1:(\d+)/", said)
        [api] = re.findall(r"http://127\.0\.0\.1:\d+", said)
        walk.done("server")
        (tmp_path / "page.html").write_text(HTML.replace("localhost:4000", f"localhost:{port}"))
        page = await windows.page((tmp_path / "page.html").as_uri())
        await page.wait_for_function("document.title == 'Mesa: open'")
        walk.done("page")
        assert re.search(r"0 +│ 1 +│ sent", await walk.type(DISPATCH, MESA_URL=api))
        await page.get_by_role("listitem").get_by_text('STATUS_UPDATE {"status":"online"}').wait_for()
        assert await page.get_by_role("listitem").count() == 1
        walk.done("message")
        await page.close()  # stop it before its server
    steps = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in walk.seconds.items())
    ClosingReport.of(pytestconfig).add("the page about browsers", steps)


class Site:
    """A server, and pages that connect to it.

    Attributes:
        logins: data of authentications.
        said: data of `TYPING` messages.
        url: URL for clients.
    """

    def __init__(self, server: Server, url: str, web: Web) -> None:
        self.server = server
        self.logins: list[Any] = []
        self.said: list[Any] = []
        self.url = url
        self._web = web
        web.add("/token", "alice")

        @server.authenticator
        async def authenticate(data: Any, connection: Connection) -> User:
            self.logins.append({name: value for name, value in data.items() if name != "shouldSync"})
            if "bad" in str(data):
                raise Refused("unknown token")
            return User(data.get("token") or data["id"])

        @server.on_message("TYPING")
        async def typing(message: Message, connection: Connection) -> None:
            self.said.append(message.data)

        @server.on_message("MEMBERS")
        async def members(message: Message, connection: Connection) -> list[str]:
            if message.data != {"room": 7}:
                raise RequestError("no such room", "no_room")
            return ["alice", "bob"]

    @classmethod
    @asynccontextmanager
    async def open(cls, web: Web, backend: Any = None, **sync: Any) -> AsyncIterator["Site"]:
        server = Server(backend, sync={"enabled": True, "max_messages": 5} | sync)
        async with serve(server) as endpoint:
            yield cls(server, endpoint.url.rstrip("/"), web)

    def address(self, script: str) -> str:
        """Make a page whose script has the client as `Mesa`, and return its address."""
        plain = PLAIN_SCRIPT.replace("http://localhost:4000", self.url.replace("ws:", "http:"))
        own = f"<script type=module>{script}</script>".replace('"/ws"', f'"{self.url}"')
        return self._web.add("/page.html", f"<!doctype html><title>Page</title>{plain}{AROUND}{own}")

    def answer(self, path: str, text: str) -> None:
        """Make the application answer pages that fetch a path."""
        self._web.add(path, text)

    async def send(self, id: str, *data: Any) -> None:
        for each in data:
            await self.server.send(Message(0, each, "N"), [id])


AROUND = """
<script>
  const { MesaClient, RequestError, sessionPositions, localPositions } = Mesa;
  window.shown = [];
  const show = (what) => void shown.push(what);
</script>
"""


async def shown(page: "Page", *expected: Any) -> None:
    """Wait until a page has shown as many texts, and compare."""
    await page.wait_for_function("count => shown.length >= count", arg=len(expected))
    assert await page.evaluate("shown") == list(expected)


@pytest_asyncio.fixture(loop_scope="session")
async def site(web: Web) -> AsyncIterator[Site]:
    async with Site.open(web) as site:
        yield site


async def test_the_scripts_do_what_the_page_says_of_them(page: "Page", web: Web, tmp_path: Path) -> None:
    assert [language for language, _ in BLOCKS] == ["sh", "html", "sh", "js", "js", "js"]
    script = f'{TOKEN}mesa.on("N", show);{MISSING}{SENDING}window.members = members;'
    redis, warnings = RedisServer(tmp_path, "--appendonly", "yes"), list[str]()
    redis.start()
    page.on("console", lambda message: warnings.append(message.text))
    try:
        async with Site.open(web, RedisBackend(redis.url, lease=0.9)) as site:
            await site.send("alice", *range(8))
            await page.goto(site.address(script))
            await page.wait_for_function("window.members")
            assert await page.evaluate("members") == ["alice", "bob"]
            assert site.logins == [{"token": "alice"}]
            assert site.said == [{"room": 7}]
            await shown(page, 3, 4, 5, 6, 7)
            assert warnings == ["3 messages were dropped"]
            answer = await site.server.request("alice", Message(0, None, "WHERE_ARE_YOU"))
            assert answer.data == "/page.html"
            site.answer("/state", '"as it is after the fork"')
            redis.stop()
            redis.start()
            await shown(page, 3, 4, 5, 6, 7, "as it is after the fork")
            site.answer("/state", '"as it is after the reset"')
            with Redis.from_url(redis.url) as other:
                other.flushall()
            await shown(page, 3, 4, 5, 6, 7, "as it is after the fork", "as it is after the reset")
    finally:
        redis.stop()


async def test_who_the_user_is(site: Site, page: "Page") -> None:
    await page.goto(site.address(""))
    script = """async (url) => {
      const refused = async (token) => {
        const mesa = new MesaClient(url, { token, reconnect: { maxPause: 0.01 } });
        const { code, error } = await mesa.closed;
        return [mesa.state, code, error.code];
      };
      let asked = 0;
      const anonymous = new MesaClient(url);
      await anonymous.send("TYPING", "anonymous");
      const bob = new MesaClient(url, { token: { id: "bob" } });
      await bob.send("TYPING", "bob");
      return [await refused("bad"), await refused(async () => `bad ${asked++}`), anonymous.user, bob.state];
    }"""
    refused = ["closed", 1008, "refused"]
    assert await page.evaluate(script, site.url) == [refused, refused, None, "open"]
    tokens = ["bad", *(f"bad {n}" for n in range(4))]
    assert site.logins == [{"id": "bob"}, *({"token": token} for token in tokens)]
    assert site.said == ["anonymous", "bob"]


async def test_what_counts_as_handled(site: Site, page: "Page") -> None:
    await page.goto(site.address('window.mesa = new MesaClient("/ws", { token: "alice" });'))
    await site.send("alice", 1, 2, 3)
    await page.evaluate("mesa.request('MEMBERS', { room: 7 })")  # its answer comes after the messages
    assert await unproven(site.server, "alice") == 3
    await page.evaluate("""() => {
      mesa.onError((error) => show(error.message));
      mesa.on("N", async (n) => {
        show(`begin ${n}`);
        await mesa.request("MEMBERS", { room: 7 });
        show(`end ${n}`);
        if (n == 2) throw Error("failed");
      });
    }""")
    await shown(page, "begin 1", "end 1", "begin 2", "end 2", "failed", "begin 3", "end 3")
    await until_unproven(site.server, 0, "alice")


POSITIONS = """
  const kind = new URLSearchParams(location.search).get("positions");
  const positions = { session: sessionPositions, local: () => localPositions("alice") }[kind]?.();
  window.mesa = new MesaClient("/ws", { token: "alice", positions });
  mesa.onLost((count) => show(`${count} lost`));
  mesa.on("N", show);
"""


async def test_what_is_kept_of_a_position(context: "BrowserContext", site: Site) -> None:
    address = site.address(POSITIONS)

    async def open(kind: str, page: "Page | None" = None) -> "Page":
        page = page or await context.new_page()
        await page.goto(f"{address}?positions={kind}")
        await page.wait_for_function("mesa.state == 'open'")
        return page

    async def each_gets(pages: list["Page"], **expected: list[int]) -> None:
        for page, numbers in zip(pages, expected.values(), strict=True):
            await shown(page, *numbers)
        await until_unproven(site.server, 0, "alice")

    other = await open("none")
    tabs = [await open(kind) for kind in ("none", "session", "local", "local")]
    await site.send("alice", 1, 2)
    await each_gets(tabs, none=[1, 2], session=[1, 2], local=[1, 2], second_local=[1, 2])
    for tab in tabs:
        await tab.goto("about:blank")
    await site.send("alice", 3)
    await each_gets([other], other=[1, 2, 3])
    for kind, tab in zip(("none", "session", "local", "local"), tabs, strict=True):
        await open(kind, tab)
    await site.send("alice", 4)
    await each_gets(tabs, none=[4], session=[3, 4], local=[3, 4], second_local=[3, 4])
    for tab in tabs:
        await tab.close()
    await site.send("alice", 5)
    await each_gets([other], other=[1, 2, 3, 4, 5])
    tabs = [await open(kind) for kind in ("none", "session", "local", "local")]
    await site.send("alice", 6)
    await each_gets(tabs, none=[6], session=[6], local=[5, 6], second_local=[5, 6])


async def test_who_comes_later_is_told_how_much_was_missed(context: "BrowserContext", web: Web) -> None:
    async with Site.open(web, resume_window=0) as site:
        address = site.address(POSITIONS)
        tab, other = [await context.new_page() for _ in range(2)]
        for page in (tab, other):
            await page.goto(f"{address}?positions=session")
        await site.send("alice", 1)
        await shown(tab, 1)
        await tab.goto("about:blank")
        await site.send("alice", 2, 3)
        await shown(other, 1, 2, 3)
        await until_unproven(site.server, 0, "alice")
        await tab.goto(f"{address}?positions=session")
        await shown(tab, "2 lost")
        await site.send("alice", 4)
        await shown(tab, "2 lost", 4)


async def test_sending_and_asking(site: Site, page: "Page") -> None:
    await page.goto(site.address(""))
    script = """async (url) => {
      let enter;
      const token = () => new Promise((resolve) => (enter = () => resolve("alice")));
      window.mesa = new MesaClient(url, { token, queueSize: 2 });
      const codes = (promise) => promise.catch((error) => [error.name, error.code, error.message]);
      const sent = [mesa.send("TYPING", 1), mesa.send("TYPING", 2)];
      const more = (await codes(mesa.send("TYPING", 3))).slice(0, 2);
      while (!enter) await new Promise((resolve) => setTimeout(resolve, 5));
      enter();
      await Promise.all(sent);
      mesa.onRequest("WHERE_ARE_YOU", () => { throw new RequestError("hidden", "not for you"); });
      return [more, await codes(mesa.request("MEMBERS", { room: 8 }))];
    }"""
    more, refusal = await page.evaluate(script, site.url)
    assert more == ["MesaError", "queue_full"]
    assert refusal == ["RequestError", "no_room", "no such room"]
    assert site.said == [1, 2]
    with pytest.raises(RequestFailed, match="not for you") as caught:
        await site.server.request("alice", Message(0, None, "WHERE_ARE_YOU"))
    assert caught.value.code == "hidden"


async def test_the_connection_and_numbers(site: Site, page: "Page") -> None:
    await page.goto(
        site.address("""
          window.mesa = new MesaClient("/ws", { token: "alice", reconnect: { interval: 600 } });
          mesa.onStateChange(show);
          mesa.on("N", show);
        """)
    )
    await site.send("alice", 2**53 + 1, str(2**53 + 1))
    expected: list[Any] = ["connecting", "open", 2**53, str(2**53 + 1)]
    await shown(page, *expected)
    for event in (
        "window.dispatchEvent(new Event('online'))",
        "document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))",
    ):
        [connection] = site.server.connections
        connection.disconnect(1012)
        await shown(page, *expected, "waiting")
        await page.evaluate(event)
        expected += ["waiting", "connecting", "open"]
        await shown(page, *expected)
    await page.evaluate("mesa.close()")
    await shown(page, *expected, "closed")
    assert await page.evaluate("mesa.state") == "closed"


async def test_the_plain_script_has_all_that_the_module_has(site: Site, page: "Page") -> None:
    await page.goto(site.address(""))
    names = "url => import(`${url}/mesa.mjs`).then((module) => [Object.keys(module), Object.keys(Mesa)])"
    module, plain = await page.evaluate(names, site.url.replace("ws:", "http:"))
    assert sorted(module) == sorted(plain)
    assert set(re.findall(r"\b(\w+Positions|MesaClient|RequestError)\b", TEXT)) <= set(plain)


def test_the_numbers_of_the_page_are_those_of_the_client() -> None:
    source = "".join(path.read_text() for path in sorted((ROOT / "clients/js/src").glob("*.ts")))

    def number(pattern: str) -> int:
        [found] = re.findall(pattern, source)
        return int(found)

    interval, timeout = number(r"{ interval = (\d+),"), number(r"{ interval = .* timeout = (\d+) }")
    assert number(r"MAX_WAIT = (\d+)") == 1
    assert number(r"MAX_REFUSALS = (\d+)") == 3
    for promise in (
        f"once a second or every {number(r'MAX_MESSAGES = (.+);')} messages",
        f"keeps {number(r'MAX_WAITING = (.+);'):_} that wait".replace("_", " "),
        f"up to `queueSize` ({number(r'queueSize = (.+?),')})",
        f"pause of {number(r'maxPause = (.+) }')} seconds at most",
        f"within {interval + timeout} seconds, and within {number(r'WAKE_PATIENCE = (.+);')} when",
    ):
        assert promise in " ".join(TEXT.split())

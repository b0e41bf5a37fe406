"""The components of `mesa-ws/react` in Chromium, with each supported React."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Server, serve
from tests.system.waiting import until

from .bundles import ROOT, bundle
from .web import Web

if TYPE_CHECKING:
    from playwright.async_api import Page

HOWTO = ROOT / "docs/howto/react.md"

PAGE = (
    '<!doctype html><title>App</title><div id="root"></div><script type="module" src="/app/app.mjs"></script>'
)

SWITCHES = """
import { StrictMode, useEffect, useState, version } from "react";
import { createRoot } from "react-dom/client";
import { MesaClient } from "mesa-ws";
import { MesaProvider, useMesa, useMessage } from "mesa-ws/react";
import { SharedClient } from "mesa-ws/shared";

window.version = version;
window.seen = [];
window.created = 0;
const create = () => (created++, new SharedClient("/ws", { token: "alice" }));
const own = new MesaClient("/ws", { token: "bob" });
window.own = own;

function Busy() {
  const [count, setCount] = useState(0);
  useMessage("CHAT", (data) => { seen.push([data.text, count]); setCount((n) => n + 1); });
  const { client, state } = useMesa();
  useEffect(() => { window.client = client; }, [client]);
  return <p role="status">{state}, {count}</p>;
}

function App() {
  const [what, setWhat] = useState("none");
  window.show = setWhat;
  if (what == "create") return <MesaProvider create={create}><Busy /></MesaProvider>;
  if (what == "client") return <MesaProvider client={own}><Busy /></MesaProvider>;
  return <p role="status">none</p>;
}

createRoot(document.getElementById("root")).render(<StrictMode><App /></StrictMode>);
"""


class App:
    """A page with an application, and its server."""

    def __init__(self, server: Server, url: str, web: Web, folder: Path, page: "Page") -> None:
        self.server = server
        self.page = page
        self.logins: list[str] = []
        self.said: list[Any] = []
        self._url = url
        self._web = web
        self._folder = folder

        @server.authenticator
        async def authenticate(data: Any, connection: Connection) -> User:
            self.logins.append(data["token"])
            return User(data["token"])

        server.on_message("SAY")(lambda message, connection: self.said.append(message.data))

    async def load(self, source: str, react: str) -> None:
        entry = self._folder / "app.jsx"
        entry.write_text(source.replace('"/ws"', f'"{self._url}"'))
        other = () if react == "19" else ("--alias:react=react-18", "--alias:react-dom=react-dom-18")
        development = "--define:process.env.NODE_ENV='development'"
        bundle(entry, self._folder / "app.mjs", "--jsx=automatic", development, *other)
        self._web.mount("/app", self._folder)
        self._web.add("/token", "alice")
        await self.page.goto(self._web.add("/index.html", PAGE))

    async def send(self, type: str, *texts: str, to: str = "alice") -> None:
        for text in texts:
            await self.server.send(Message(0, {"text": text}, type), [to])

    async def status(self, text: str) -> None:
        await self.page.get_by_role("status").get_by_text(text, exact=True).wait_for()


@pytest_asyncio.fixture(loop_scope="session")
async def app(page: "Page", web: Web, tmp_path: Path) -> AsyncIterator[App]:
    async with AsyncExitStack() as stack:
        server = Server(sync=True)
        endpoint = await stack.enter_async_context(serve(server))
        yield App(server, endpoint.url, web, tmp_path, page)


@pytest.mark.parametrize("react", ["18", "19"])
async def test_the_application_of_the_guide(app: App, react: str) -> None:
    found = re.search(r'```jsx title="app.jsx"\n(.*?)\n```', HOWTO.read_text(), re.DOTALL)
    assert found
    await app.load(found[1], react)
    await app.status("alice is open")
    texts = [f"line {n}" for n in range(1, 201)]
    await app.send("CHAT", *texts)
    await app.send("ALERT", "careful")
    await app.page.get_by_role("alert").get_by_text("careful").wait_for()
    assert await app.page.get_by_role("listitem").all_inner_texts() == texts
    await app.page.get_by_label("Text").fill("hello")
    await app.page.get_by_role("button", name="Say").click()
    await until(lambda: app.said == [{"text": "hello"}])
    assert app.logins == ["alice"], "strict mode has connected once"


@pytest.mark.parametrize("react", ["18", "19"])
async def test_a_created_client_lives_as_long_as_its_provider(app: App, react: str) -> None:
    await app.load(SWITCHES, react)
    assert (await app.page.evaluate("version")).startswith(react)
    await until(lambda: app.logins == ["bob"])
    for times in (1, 2):
        await app.page.evaluate("show('create')")
        await app.status("open, 0")
        await app.send("CHAT", *(f"{times}.{n}" for n in range(50)))
        await app.status("open, 50")
        seen = await app.page.evaluate("seen.splice(0)")
        assert [text for text, _ in seen] == [f"{times}.{n}" for n in range(50)]
        await app.send("CHAT", "later")
        await app.status("open, 51")
        assert await app.page.evaluate("seen.splice(0)") == [["later", 50]], (
            "by the handler of the latest rendering"
        )
        assert await app.page.evaluate("created") == times
        await app.page.evaluate("show('none')")
        await until(lambda: len(app.server.connections) == 1)
        assert await app.page.evaluate("client.state") == "closed"
    assert app.logins == ["bob", "alice", "alice"]


async def test_a_client_of_the_application_stays_open(app: App) -> None:
    await app.load(SWITCHES, "19")
    for _ in range(2):
        await app.page.evaluate("show('client')")
        await app.status("open, 0")
        await app.page.evaluate("show('none')")
        await app.status("none")
    await app.send("CHAT", "while nothing is mounted", to="bob")
    await app.page.evaluate("show('client')")
    await app.status("open, 1")
    assert await app.page.evaluate("own.state") == "open"
    assert app.logins == ["bob"]

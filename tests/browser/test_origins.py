"""A page of another site, in the browser of a user who is logged in by a cookie."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from mesa_ws import Connection, Refused, Server, User, serve

from .chromium import Windows
from .web import Web

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext

PAGE = "<!doctype html><title>Page</title>"

LOGIN = """url => new Promise(done => {
    const socket = new WebSocket(url)
    socket.onmessage = ({ data }) => {
        const { op, d } = JSON.parse(data)
        if (op === 10) socket.send('{"op":2,"d":{}}')
        if (op === 22) { done(d.id); socket.close() }
    }
    socket.onclose = ({ code }) => done(code)
})"""


@pytest_asyncio.fixture(loop_scope="session")
async def port() -> AsyncIterator[int]:
    """A server that trusts cookies."""
    server = Server()

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        name, _, session = connection.request.headers.get("Cookie", "").partition("=")
        if name != "session":
            raise Refused("expected a session, got none")
        return User(session)

    async with serve(server, "127.0.0.1") as endpoint:
        yield endpoint.port


async def test_only_a_page_of_its_own_host_uses_the_cookie(
    context: "BrowserContext", windows: Windows, web: Web, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Both pages are of one site to the browser, which sends the cookie for either."""
    windows.expect("WebSocket connection to")
    web.add("/page.html", PAGE)
    own, foreign = (f"http://{name}.app.localhost:{web.port}" for name in ("ws", "evil"))
    await context.add_cookies([{"name": "session", "value": "ann", "url": own}])
    answers = {}
    for origin in (own, foreign):
        page = await context.new_page()
        await page.goto(origin + "/page.html")
        answers[origin] = await page.evaluate(LOGIN, f"ws://ws.app.localhost:{port}/")
    assert answers == {own: "ann", foreign: 1006}
    assert f"refused a page of {foreign} with a cookie" in caplog.text

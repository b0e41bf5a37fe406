"""The page about logging users out, run block after block, and its promises."""

import asyncio
import json
import math
import os
import pickle
import re
import shlex
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from click.testing import CliRunner
from redis.asyncio import Redis

from mesa_ws import (
    AuthenticationFailed,
    Client,
    Connection,
    ConnectionClosed,
    Message,
    RedisBackend,
    Server,
    User,
    serve,
)
from mesa_ws.cli import main
from mesa_ws.http_server.server import DispatchApi
from mesa_ws.tokens import Secrets, TokenAuthenticator
from tests.examples.programs import LIMIT, ended
from tests.http_site import KEY
from tests.redis_server import RedisServer
from tests.system.proxy import Proxy
from tests.system.waiting import until

ROOT = Path(__file__).parents[2]
BROWSER = ROOT / "src/mesa_ws/browser/mesa.mjs"
BLOCKS = re.findall(
    r"^```(\w+)\n(.*?)^```", (ROOT / "docs/howto/log-out.md").read_text(), re.DOTALL | re.MULTILINE
)
REVOKE, DISCONNECT, RECEIPT, SERVER, TOKEN = (code for kind, code in BLOCKS if kind == "python")
[SCRIPT] = (code for kind, code in BLOCKS if kind == "js")
COMMANDS, CURL = (code for kind, code in BLOCKS if kind == "sh")
SECRET = "a-secret-of-at-least-32-characters"
SOON = {"interval": 0.01, "max_pause": 0.01}


class Page:
    """The Python of the page, on the Redis of the tests."""

    def __init__(self, redis_url: str, namespace: str) -> None:
        self.names: dict[str, Any] = {}
        self._redis_url = redis_url
        self._namespace = namespace

    def run(self, block: str) -> None:
        code = block.replace("redis://localhost:6379", self._redis_url)
        exec(compile(code.replace('"api"', repr(self._namespace)), "log-out.md", "exec"), self.names)

    def close(self) -> None:
        if "dispatcher" in self.names:
            self.names["dispatcher"].close()


class Sessions:
    """The sessions of the page's application: a session is its user, and when it was made."""

    async def find(self, session: list[Any]) -> Any:
        id, created = session
        return SimpleNamespace(user_id=id, created_at=SimpleNamespace(timestamp=lambda: created))


class User42:
    """A client of user 42 with a session."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.ended: list[tuple[int, str, bool]] = []
        client.on_disconnected(lambda *why: self.ended.append(why))

    @property
    def codes(self) -> list[int]:
        return [code for code, _, _ in self.ended]

    async def ended_with(self, code: int) -> None:
        """Wait until a connection has ended with a code."""
        await until(lambda: code in self.codes)

    async def closed(self) -> int:
        """Return the code with which the client has ended for good."""
        with pytest.raises((ConnectionClosed, AuthenticationFailed)):
            async with asyncio.timeout(LIMIT):
                await self.client.wait_closed()
        await until(lambda: bool(self.codes))  # handlers may be called a little later
        return self.codes[-1]


class Site:
    """A server, and clients of it."""

    def __init__(self, server: Server, url: str, stack: AsyncExitStack) -> None:
        self.server = server
        self.url = url
        self._stack = stack

    @classmethod
    async def of(cls, server: Server, stack: AsyncExitStack) -> "Site":
        return cls(server, (await stack.enter_async_context(serve(server))).url, stack)

    async def user(self, login: Any) -> User42:
        """Log in with data, or with a function that returns some."""
        user = User42(await self._stack.enter_async_context(Client(self.url, reconnect=SOON)))
        await user.client.authenticate(login)
        return user


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def page(redis_url: str, namespace: str, stack: AsyncExitStack) -> Page:
    page = Page(redis_url, namespace)
    stack.callback(page.close)
    return page


@pytest.fixture
async def site(page: Page, stack: AsyncExitStack) -> Site:
    """The server of the page."""
    page.run(SERVER)
    page.names["sessions"] = Sessions()
    server: Server = page.names["server"]

    @server.on_message("UPDATE")
    async def update(message: Message, connection: Connection) -> None:
        connection.update_user(User("42"))
        connection.send(message)

    return await Site.of(server, stack)


async def test_revoke_refuses_what_was_issued_before_and_disconnect_refuses_nothing(
    page: Page, site: Site
) -> None:
    now = time.time()
    old, other = await site.user({"session": ["42", now - 5]}), await site.user({"session": ["7", now - 5]})
    newer = lambda: {"session": ["42", time.time() - 5]}  # noqa: E731 - a function that has no better one
    asked = await site.user(newer)
    await asyncio.to_thread(page.run, REVOKE)
    assert [await user.closed() for user in (old, asked)] == [1008, 1008]
    assert [user.ended for user in (old, asked)] == [[(1008, "", False)]] * 2  # even with a function
    with pytest.raises(AuthenticationFailed):
        await site.user({"session": ["42", now - 5]})
    new = await site.user({"session": ["42", time.time() + 1]})
    await asyncio.to_thread(page.run, DISCONNECT)
    await until(lambda: bool(new.ended))
    assert new.ended == [(4100, "the shop is closed", True)]
    await until(lambda: len(site.server.connections) == 2)  # it has come back, and the other one stayed
    assert other.ended == []
    await asyncio.to_thread(page.run, RECEIPT)
    assert page.names["progress"].pending == ()
    receipt = pickle.loads(pickle.dumps(page.names["receipt"]))
    status = await asyncio.to_thread(page.names["dispatcher"].status, receipt)
    assert (status.done, receipt.pending) == ((site.server.backend.node_id,), ())
    await new.client.send(Message(0, None, "UPDATE"))
    async with asyncio.timeout(LIMIT):
        await anext(new.client)
    await site.server.revoke(["42"], issued_before=1.0)  # before any login whose time is known
    assert await new.closed() == 1008
    await site.server.revoke(["7"], issued_before=1.0)
    assert other.ended == []


async def test_a_token_of_the_next_second_is_let_in_and_one_of_this_second_or_none_is_not(
    page: Page, stack: AsyncExitStack
) -> None:
    server = Server()
    server.authenticator(TokenAuthenticator(Secrets(SECRET)))
    site = await Site.of(server, stack)
    page.names |= {"jwt": jwt, "time": time, "SECRET": SECRET}
    now = int(time.time())
    await server.revoke(["42"], issued_before=now)
    page.run(TOKEN)
    for claims in ({"sub": "42", "iat": now}, {"sub": "42"}):
        with pytest.raises(AuthenticationFailed):
            await site.user({"token": jwt.encode(claims, SECRET, "HS256")})
    for token in (page.names["token"], jwt.encode({"sub": "7"}, SECRET, "HS256")):
        assert (await site.user({"token": token})).ended == []


async def test_what_a_server_does_that_is_cut_off(
    page: Page, redis_server: RedisServer, namespace: str, stack: AsyncExitStack
) -> None:
    proxy = await stack.enter_async_context(Proxy.to(redis_server.port))
    server = Server(RedisBackend(proxy.url, namespace=namespace, lease=4.0))

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"], issued_at=1000.0)

    @server.on_message("ECHO")
    async def echo(message: Message, connection: Connection) -> int:
        return 1

    site = await Site.of(server, stack)
    user, other = await site.user({"id": "42"}), await site.user({"id": "7"})
    got = list[Any]()
    user.client.on_message(lambda message: got.append(message.data))
    proxy.is_shut = True
    proxy.cut()
    await asyncio.to_thread(page.run, REVOKE)
    dispatcher, receipt = page.names["dispatcher"], page.names["receipt"]
    assert (receipt.done, receipt.pending) == ((), (server.backend.node_id,))
    await asyncio.to_thread(dispatcher.dispatch, Message(0, "later"), ["42"])
    await until(
        lambda: asyncio.to_thread(lambda: dispatcher.status(receipt).pending == ())
    )  # its lease is over
    assert (await user.client.request(Message(0, None, "ECHO"))).data == 1
    proxy.is_shut = False
    assert (await user.closed(), got) == (1008, [])
    assert other.ended == []
    proxy.is_shut = True
    proxy.cut()
    async with Redis.from_url(redis_server.url) as client:
        keys = [key async for key in client.scan_iter(f"*{namespace}*")]
        assert await client.delete(*keys) == len(keys)
    proxy.is_shut = False
    await other.ended_with(4004)
    await until(lambda: len(server.connections) == 1)  # it has logged in again


async def test_what_clients_do_after_other_codes(stack: AsyncExitStack) -> None:
    server = Server()

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"], issued_at=data["issued"])

    site = await Site.of(server, stack)
    times = iter([1000.0, *[3000.0] * 9])
    fixed = await site.user({"id": "fixed", "issued": 1000.0})
    asked = await site.user(lambda: {"id": "asked", "issued": next(times)})
    await server.revoke(["fixed", "asked"], issued_before=2000.0, code=4004)
    assert (await fixed.closed(), fixed.codes) == (1008, [4004, 1008])
    for code in (1000, 4100):
        await until(lambda: any(connection.id == "asked" for connection in server.connections))
        await server.disconnect(["asked"], code)
        await asked.ended_with(code)
    await until(lambda: any(connection.id == "asked" for connection in server.connections))
    await server.disconnect(["asked"], 4003)
    assert (await asked.closed(), asked.codes) == (4003, [4004, 1000, 4100, 4003])


AROUND = """
const say = (what) => console.log(JSON.stringify(what));
const [, , url, ...tokens] = process.argv;
globalThis.location = { assign: (page) => say({ page }) };
globalThis.fetch = async () => ({ text: async () => tokens.shift() ?? "1000" });
console.log = ((log) => (text) => log(text[0] == "{" ? text : JSON.stringify({ said: text })))(console.log);
"""


async def test_what_a_browser_does(stack: AsyncExitStack, node: str, tmp_path: Path) -> None:
    server = Server()

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User("42", issued_at=float(data["token"]))

    site = await Site.of(server, stack)
    script = f'import {{ MesaClient }} from "{BROWSER.as_uri()}";{AROUND}{SCRIPT}'
    script = script.replace('MesaClient("/ws", {', "MesaClient(url, { reconnect: { maxPause: 0.01 },")
    (tmp_path / "page.mjs").write_text(script)
    process = await asyncio.create_subprocess_exec(
        node,
        "--experimental-websocket",
        str(tmp_path / "page.mjs"),
        site.url,
        "1000",
        "3000",
        stdout=asyncio.subprocess.PIPE,
    )
    stack.push_async_callback(ended, process)
    assert process.stdout is not None

    def is_in() -> bool:
        return any(connection.is_authenticated for connection in server.connections)

    await until(is_in)
    await server.revoke(["42"], issued_before=2000.0, code=4004)
    assert json.loads(await process.stdout.readline()) == {"said": "closed with 4004, coming back"}
    await until(is_in)
    await server.revoke(["42"])
    assert json.loads(await process.stdout.readline()) == {"page": "/login"}
    assert await process.wait() == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page uses curl")
async def test_the_commands_of_the_page(site: Site, stack: AsyncExitStack) -> None:
    api = await stack.enter_async_context(DispatchApi(site.server, key=KEY, port=0))
    environment = {"MESA_URL": api.url, "MESA_API_KEY": KEY}
    for line, code in zip((*COMMANDS.splitlines(), CURL), (1008, 4100, 1008), strict=True):
        user = await site.user({"session": ["42", time.time()]})
        if line.startswith("mesa "):
            run = partial(CliRunner().invoke, main, shlex.split(line)[1:], env=environment)
            assert "carried out by 1 server" in (await asyncio.to_thread(run)).output
        else:
            process = await asyncio.create_subprocess_shell(
                line, stdout=asyncio.subprocess.PIPE, env=os.environ | environment
            )
            said, _ = await process.communicate()
            assert json.loads(said)["done"] == [site.server.backend.node_id]
        await user.ended_with(code)
        await asyncio.sleep(math.ceil(time.time()) - time.time())  # a login of the next second is not revoked

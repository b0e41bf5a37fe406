"""The page about fleeting messages, run block after block: server, Python and JavaScript."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from mesa_ws import AsyncDispatcher, Client, Connection, Message, Server, User, serve
from mesa_ws.backend.queries import Peek
from mesa_ws.backend.redis import BlockingRedisBus
from tests.examples.programs import LIMIT
from tests.system.waiting import until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/howto/fleeting-messages.md").read_text()
BROWSER = ROOT / "src/mesa_ws/browser/mesa.mjs"
SERVER, PYTHON, SLOW = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
[SCRIPT] = re.findall(r"^```js\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)

AROUND = """
const say = (what) => console.log(JSON.stringify(what));
const [, , url, token] = process.argv;
const fetchToken = () => token;
const currentRoom = "hall";
const input = new EventTarget();
const show = (ids) => say({ typing: ids });
const realLater = setTimeout;
let seconds = 0.2; // that the first sign is shown for; the next one stays
globalThis.setTimeout = (call, ms) => {
  if (ms != 5000) return realLater(call, ms);
  const timer = realLater(call, seconds * 1000);
  seconds = 600;
  return timer;
};
"""

AFTERWARDS = """
mesa.onStateChange((state) => say({ state }));
process.stdin.on("data", (word) => {
  if (`${word}`.trim() == "close") mesa.close().then(() => process.exit());
  else input.dispatchEvent(new Event("input"));
});
"""


class Site:
    """The server of the page, with its users."""

    def __init__(self, names: dict[str, Any], url: str) -> None:
        self.names = names
        self.server: Server = names["server"]
        self.url = url


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def site(redis_url: str, namespace: str, stack: AsyncExitStack) -> Site:
    code = SERVER.replace("redis://localhost:6379", redis_url).replace('"api"', repr(namespace))
    names: dict[str, Any] = {}
    exec(compile(code, "fleeting-messages.md", "exec"), names)
    names["members"]["hall"] = {"anna", "ben", "away"}

    server: Server = names["server"]

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["token"])

    endpoint = await stack.enter_async_context(serve(server))
    return Site(names, endpoint.url)


async def join(site: Site, stack: AsyncExitStack, id: str) -> Client:
    client = await stack.enter_async_context(Client(site.url))
    client.on_message(lambda message: None)
    await client.authenticate({"token": id})
    return client


async def test_a_fleeting_message_reaches_connected_users_and_is_not_stored(
    site: Site, stack: AsyncExitStack, redis_url: str, namespace: str
) -> None:
    names: dict[str, Any] = {}
    exec(compile(PYTHON, "fleeting-messages.md", "exec"), names)
    anna, ben = await join(site, stack, "anna"), await join(site, stack, "ben")
    typing = [names["Typing"](client, "hall") for client in (anna, ben)]
    rejected = list[str]()
    site.server.on_rejected(lambda rejection, message, connection: rejected.append(rejection.code))
    await typing[0].key_pressed()
    await typing[0].key_pressed()
    await until(lambda: typing[1].now() == {"anna"})
    assert typing[0].now() == set()
    stranger = await join(site, stack, "stranger")
    await stranger.send(Message(0, {"room": "hall"}, "TYPING"))
    await until(lambda: rejected == ["no_member"])
    with closing(BlockingRedisBus(redis_url, namespace=namespace)) as bus:
        assert [bus.query(Peek(id, 10)) for id in ("anna", "ben", "away")] == [[], [], []]


async def test_a_client_that_keeps_up_gets_what_may_be_dropped_or_replaced(
    site: Site, stack: AsyncExitStack, redis_url: str, namespace: str
) -> None:
    client = await join(site, stack, "0")
    got = list[str | None]()
    client.on_message(lambda message: got.append(message.type))
    names: dict[str, Any] = {}
    code = SLOW.replace("redis://localhost:6379", redis_url).replace('"api"', repr(namespace))
    await asyncio.to_thread(exec, compile(code, "fleeting-messages.md", "exec"), names)
    names["dispatcher"].close()
    await until(lambda: got == ["TYPING", "CURSOR"])


async def test_portals_receive_no_fleeting_message(site: Site, stack: AsyncExitStack) -> None:
    forwarder = site.server.handlers.forwarder
    assert forwarder is not None
    sent = list[str]()
    append = site.server.backend.append

    async def watched(event: Any, capacity: Any) -> Any:
        sent.append(event.kind)
        return await append(event, capacity)

    site.server.backend.append = watched  # type: ignore[method-assign]
    anna = await join(site, stack, "anna")
    await anna.send(Message(0, {"room": "hall"}, "TYPING"))
    await anna.send(Message(0, {"room": "hall", "id": "anna"}, "NEW_MESSAGE"))
    await until(lambda: sent == ["connection", "authentication", "message"])


async def test_a_client_that_is_away_sends_no_fleeting_message_later(namespace: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(PYTHON, "fleeting-messages.md", "exec"), names)
    client = Client("ws://127.0.0.1:1")
    typing = names["Typing"](client, "hall")
    await typing.key_pressed()
    assert typing._quiet_until == 0


async def test_the_script_of_the_page_sends_and_shows_who_types(
    site: Site, stack: AsyncExitStack, node: str, tmp_path: Path, redis_url: str, namespace: str
) -> None:
    script = SCRIPT.replace('"mesa-ws"', json.dumps(BROWSER.as_uri())).replace('"/ws"', "url")
    imported, rest = script.split("\n", 1)
    program = tmp_path / "page.mjs"
    program.write_text(f"{imported}\n{AROUND}\n{rest}\n{AFTERWARDS}")
    anna = await join(site, stack, "anna")
    signs = list[Any]()
    anna.on_message("TYPING")(lambda message: signs.append(message.data))
    process = await asyncio.create_subprocess_exec(
        *(node, "--experimental-websocket", "--no-warnings", str(program), site.url, "ben"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await said(process.stdout, {"state": "open"})
        await anna.send(Message(0, {"room": "hall"}, "TYPING"))
        await said(process.stdout, {"typing": ["anna"]})
        await said(process.stdout, {"typing": []})
        process.stdin.write(b"key\n")
        await until(lambda: signs == [{"room": "hall", "id": "ben"}])
        await anna.send(Message(0, {"room": "hall"}, "TYPING"))
        await said(process.stdout, {"typing": ["anna"]})
        async with AsyncDispatcher(redis_url, namespace=namespace) as dispatcher:
            await dispatcher.dispatch(Message(0, {"id": "anna"}, "NEW_MESSAGE"), ["ben"])
        await said(process.stdout, {"typing": []})
        process.stdin.write(b"close\n")
        async with asyncio.timeout(LIMIT):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def said(stdout: asyncio.StreamReader, wanted: object) -> None:
    """Wait for a line of the program."""
    async with asyncio.timeout(LIMIT):
        while json.loads(await stdout.readline()) != wanted:
            pass

"""The FastAPI application: REST calls that send to users, and a server in its own event loop."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple
from uuid import NAMESPACE_OID, uuid4, uuid5

import jwt
import pytest

from mesa_ws import AuthenticationFailed, Client, Message
from tests.examples.programs import LIMIT, Programs, line
from tests.ports import free_port
from tests.redis_server import RedisServer

FOLDER = Path(__file__).parents[2] / "examples/fastapi_app"
SECRET = "a-secret-of-thirty-two-characters"


def token(id: str, secret: str = SECRET) -> str:
    return jwt.encode({"sub": id, "exp": int(time.time()) + 600}, secret, "HS256")


class Answer(NamedTuple):
    status: int
    content: Any


class Api:
    """Calls a REST API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    async def call(self, method: str, path: str, who: str | None = None, content: object = None) -> Answer:
        """Call, and repeat until the server listens."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {who}"} if who else {})
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        async with asyncio.timeout(LIMIT):
            while True:
                try:
                    return await asyncio.to_thread(_call, request)
                except ConnectionError:
                    await asyncio.sleep(0.05)


def _call(request: urllib.request.Request) -> Answer:
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as response:
            return Answer(response.status, json.loads(response.read()))
    except urllib.error.HTTPError as error:
        return Answer(error.code, json.loads(error.read()))
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionError):
            raise error.reason from error
        raise


async def received(client: Client) -> Message:
    async with asyncio.timeout(LIMIT):
        return await anext(client)


@pytest.fixture
async def shop(programs: Programs, own_redis: RedisServer) -> tuple[Api, str]:
    environment = {"REDIS": own_redis.url, "SECRET": SECRET, "PORT": "0"}
    port = free_port()
    server = await programs.start(str(FOLDER / "realtime.py"), **environment)
    await programs.start(*uvicorn("api:app", port), **environment)
    return Api(port), (await line(server)).removeprefix("clients at ")


def uvicorn(app: str, port: int) -> tuple[str, ...]:
    return ("-m", "uvicorn", app, "--app-dir", str(FOLDER), "--port", str(port), "--log-level", "warning")


async def test_the_recipient_receives_and_nobody_else(shop: tuple[Api, str]) -> None:
    api, url = shop
    async with Client(url) as anna, Client(url) as bert:
        await anna.authenticate({"token": token("anna")})
        await bert.authenticate({"token": token("bert")})
        for to in (["anna"], ["anna", "bert"]):
            answer = await api.call("POST", f"/notes/{uuid4()}", token("carl"), {"to": to, "text": f"{to}"})
            assert answer == (202, dict.fromkeys(to, True))
        assert (await received(anna)).data == {"from": "carl", "text": "['anna']"}
        assert (await received(anna)).data == {"from": "carl", "text": "['anna', 'bert']"}
        assert (await received(bert)).data == {"from": "carl", "text": "['anna', 'bert']"}


async def test_a_repeated_call_sends_once_and_an_absent_user_receives_later(shop: tuple[Api, str]) -> None:
    api, url = shop
    for text in ("first", "first", "second"):
        content = {"to": ["anna"], "text": text}
        path = f"/notes/{uuid5(NAMESPACE_OID, text)}"
        assert (await api.call("POST", path, token("carl"), content)).status == 202
    async with Client(url) as anna:
        await anna.authenticate({"token": token("anna")})
        assert [(await received(anna)).data["text"] for _ in range(2)] == ["first", "second"]


@pytest.mark.parametrize("to", ["*", "", "an\nna"])
async def test_an_invalid_name_reaches_nobody(shop: tuple[Api, str], to: str) -> None:
    api, url = shop
    async with Client(url) as anna:
        await anna.authenticate({"token": token("anna")})
        for who, expected in ((to, 422), ("anna", 202)):
            content = {"to": [who], "text": f"to {who}"}
            assert (await api.call("POST", f"/notes/{uuid4()}", token("carl"), content)).status == expected
        assert (await received(anna)).data["text"] == "to anna"


async def test_presence_can_be_asked_for(shop: tuple[Api, str]) -> None:
    api, url = shop

    async def seen() -> int:
        content: int = (await api.call("GET", "/online/anna", token("carl"))).content
        return content

    assert await seen() == 0
    async with Client(url) as phone, Client(url) as laptop:
        for device in (phone, laptop):
            await device.authenticate({"token": token("anna")})
        assert await seen() == 2


async def test_unknown_users_are_refused_over_http_and_websocket(shop: tuple[Api, str]) -> None:
    api, url = shop
    forged = token("anna", "another-secret-of-thirty-two-characters")
    assert (await api.call("GET", "/online/anna", forged)).status == 401
    assert (await api.call("GET", "/online/anna")).status in (401, 403)
    async with Client(url) as client:
        with pytest.raises(AuthenticationFailed):
            await client.authenticate({"token": forged})


async def test_server_and_api_share_one_event_loop_without_redis(programs: Programs) -> None:
    port, mesa_port = free_port(), free_port()
    process = await programs.start(*uvicorn("together:app", port), SECRET=SECRET, MESA_PORT=str(mesa_port))
    api = Api(port)
    assert (await api.call("POST", "/alerts?text=anonymous")).status in (401, 403)  # the API is up
    async with Client(f"ws://127.0.0.1:{mesa_port}/") as client:
        await client.authenticate({"token": token("anna")})
        assert (await api.call("POST", "/alerts?text=fire", token("carl"))).status == 202
        assert await received(client) == Message(0, {"from": "carl", "text": "fire"}, "ALERT")
        codes: asyncio.Queue[int] = asyncio.Queue()
        client.on_disconnected(lambda code, *_: codes.put_nowait(code))
        process.terminate()
        async with asyncio.timeout(LIMIT):
            assert await codes.get() == 1001

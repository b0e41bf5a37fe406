"""The Django project: views, a Celery worker, the server and a portal, in processes of their own."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from mesa_ws import AuthenticationFailed, Client, Message
from tests.examples.programs import LIMIT, Programs, line
from tests.ports import free_port
from tests.redis_server import RedisServer

PROJECT = Path(__file__).parents[2] / "examples/django_project"
MANAGE = str(PROJECT / "manage.py")
USERS = ("anna", "bert")
ADD_USERS = (
    "from django.contrib.auth.models import User\n"
    f"for name in {USERS}: User.objects.create_user(name, password=f'{{name}}-secret')"
)


class Site:
    """The running project, as a browser sees it."""

    def __init__(self, port: int, url: str) -> None:
        self._http = f"http://127.0.0.1:{port}"
        self.url = url

    async def call(self, path: str, token: str = "", content: object = None) -> tuple[int, Any]:
        """GET, or POST with content; repeat until the server listens."""
        body = None if content is None else json.dumps(content).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._http}/{path}", body, headers)
        async with asyncio.timeout(LIMIT):
            while True:
                try:
                    return await asyncio.to_thread(_call, request)
                except ConnectionError:
                    await asyncio.sleep(0.05)

    async def token(self, name: str) -> str:
        """Sign in."""
        credentials = {"username": name, "password": f"{name}-secret"}
        status, content = await self.call("sign-in", content=credentials)
        assert status == 200
        token: str = content["token"]
        return token


def _call(request: urllib.request.Request) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()) if "json" in error.headers["Content-Type"] else None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionError):
            raise error.reason from error
        raise


SETTINGS = {
    "SECRET_KEY": "a-secret-of-thirty-two-characters",
    "PYTHONPATH": ":".join([str(PROJECT), *sys.path]),
}


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with users and without orders; each test uses a copy."""
    database = tmp_path_factory.mktemp("migrated") / "shop.sqlite3"
    environment = os.environ | SETTINGS | {"DATABASE": str(database), "REDIS": "redis://127.0.0.1:1"}
    for arguments in (("migrate", "--verbosity", "0"), ("shell", "--no-imports", "-c", ADD_USERS)):
        subprocess.run([sys.executable, MANAGE, *arguments], env=environment, timeout=LIMIT, check=True)
    return database


@pytest.fixture
def environment(tmp_path: Path, own_redis: RedisServer, migrated: Path) -> dict[str, str]:
    database = shutil.copy(migrated, tmp_path / "shop.sqlite3")
    return SETTINGS | {"REDIS": own_redis.url, "DATABASE": str(database)}


@pytest.fixture
async def site(programs: Programs, environment: dict[str, str]) -> Site:
    port = free_port()
    server = await programs.start(MANAGE, "runmesa", "--port", "0", **environment)
    await programs.start(MANAGE, "runserver", "--noreload", str(port), **environment)
    return Site(port, (await line(server)).removeprefix("clients at "))


async def statuses(client: Client, count: int) -> list[str]:
    async with asyncio.timeout(LIMIT):
        return [(await anext(client)).data["status"] for _ in range(count)]


async def test_a_committed_order_reaches_its_owner_and_nobody_else(site: Site) -> None:
    anna_token, bert_token = [await site.token(name) for name in USERS]
    async with Client(site.url) as anna, Client(site.url) as bert:
        assert await anna.authenticate({"token": anna_token}) == {"id": "1"}
        await bert.authenticate({"token": bert_token})
        status, content = await site.call("orders", anna_token, {"item": "tea", "price": 0})
        assert (status, content) == (400, {"error": "an order costs something"})
        for token in (anna_token, bert_token):
            status, content = await site.call("orders", token, {"item": "tea", "price": 3})
            assert status == 201
        # Nothing is sent for the rolled back order: each user receives the one order.
        async with asyncio.timeout(LIMIT):
            first, other = (await anext(anna)).data, (await anext(bert)).data
        assert other == {"order": content["order"], "status": "placed"}
        assert first == {"order": content["order"] - 1, "status": "placed"}


async def test_the_progress_of_a_task_reaches_also_a_later_client(
    site: Site, programs: Programs, environment: dict[str, str]
) -> None:
    token = await site.token("anna")
    _, content = await site.call("orders", token, {"item": "tea", "price": 3})
    worker = ("-m", "celery", "--app", "shop.celery", "worker", "--pool", "solo", "--loglevel", "WARNING")
    await programs.start(*worker, **environment)
    assert await site.call(f"orders/{content['order']}/ship", token, {}) == (202, {})
    async with Client(site.url) as anna:
        await anna.authenticate({"token": token})
        assert await statuses(anna, 4) == ["placed", "packed", "handed over", "shipped"]


async def test_a_portal_saves_what_a_user_sends(
    site: Site, programs: Programs, environment: dict[str, str]
) -> None:
    token, stranger = [await site.token(name) for name in USERS]
    _, content = await site.call("orders", token, {"item": "tea", "price": 3})
    path = f"orders/{content['order']}"
    async with Client(site.url) as anna, Client(site.url) as bert:
        await bert.authenticate({"token": stranger})
        await bert.send(Message(0, content, "CONFIRM"))  # of another user
        await anna.authenticate({"token": token})
        await anna.send(Message(0, content, "CONFIRM"))
        await programs.start(MANAGE, "portal", **environment)
        assert await statuses(anna, 2) == ["placed", "confirmed"]
    assert await site.call(path, token) == (200, {"status": "confirmed", "confirmations": 1})
    assert (await site.call(path, stranger))[0] == 404


async def test_an_order_is_saved_while_redis_is_away(site: Site, own_redis: RedisServer) -> None:
    token = await site.token("anna")
    own_redis.stop()
    try:
        status, content = await site.call("orders", token, {"item": "tea", "price": 3})
        assert status == 201
        assert (await site.call(f"orders/{content['order']}", token))[0] == 200
    finally:
        own_redis.start()


async def test_unknown_users_are_refused_over_http_and_websocket(site: Site) -> None:
    assert (await site.call("orders", "forged", {"item": "tea", "price": 3}))[0] == 401
    given: tuple[dict[str, Any], ...] = ({"token": "forged"}, {"token": 5}, {})
    for credentials in given:
        async with Client(site.url) as client:
            with pytest.raises(AuthenticationFailed):
                await client.authenticate(credentials)

"""`mesa demo --keep`: the service behind its page, and what it refuses to others."""

import asyncio
import json
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mesa_ws.cli.demo_page import demo_page
from mesa_ws.cli.demo_servers import running_servers
from mesa_ws.client import Client
from tests.redis_server import RedisServer

from .conftest import Starter
from .mesa_process import LIMIT
from .test_demo import children, is_running

HELLO = {"type": "HELLO", "data": {"n": 1}, "to": ["0"], "excluding": []}


class Page:
    """What the page of a demo does, without a browser."""

    def __init__(self, started: dict[str, Any]) -> None:
        self.started = started
        self.host = urlsplit(self.started["page"]).netloc
        self.html = self.get("/")[1].decode()
        [self.token] = re.findall(r'data-token="([^"]+)"', self.html)

    def get(self, path: str, **headers: str) -> tuple[HTTPResponse, bytes]:
        return self._ask("GET", path, headers)

    def post(self, path: str, document: Any, **headers: str | None) -> tuple[int, Any]:
        """Send a document as the page does; None takes a header away."""
        own = {"x-demo-token": self.token, "origin": f"http://{self.host}"}
        given = {name.replace("_", "-"): value for name, value in {**own, **headers}.items()}
        kept = {name: value for name, value in given.items() if value is not None}
        response, body = self._ask("POST", path, kept, json.dumps(document))
        return response.status, json.loads(body) if body.startswith(b"{") else body.decode()

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Follow the stream of the page until something holds."""
        with closing(HTTPConnection(self.host, timeout=LIMIT)) as connection:
            connection.request("GET", f"/events?token={self.token}")
            for line in connection.getresponse():
                if line.startswith(b"data: ") and condition(state := json.loads(line[6:])):
                    return dict(state)
        raise AssertionError("the stream has ended")

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: str | None = None
    ) -> tuple[HTTPResponse, bytes]:
        with closing(HTTPConnection(self.host, timeout=LIMIT)) as connection:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response, response.read()


@contextmanager
def staying() -> Iterator[Page]:
    """A demo that stays in a thread of this process, with servers that are processes."""
    up: Future[tuple[dict[str, Any], Callable[[], object]]] = Future()

    async def stay() -> None:
        async with running_servers(None, starts_redis=True) as demo, demo_page(demo) as url:
            loop, over = asyncio.get_running_loop(), asyncio.Event()
            servers = [each.url for each in demo.servers]
            started = {"page": url, "servers": servers, "storage": demo.storage}
            up.set_result((started, lambda: loop.call_soon_threadsafe(over.set)))
            await over.wait()

    def failed(ended: Future[None]) -> None:
        if not up.done():
            up.set_exception(ended.exception() or EOFError())

    with ThreadPoolExecutor(1) as thread:
        work = thread.submit(asyncio.run, stay())
        work.add_done_callback(failed)
        started, stop = up.result(LIMIT)
        try:
            yield Page(started)
        finally:
            stop()
            work.result()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A demo with one server, since the only redis-server is too old; each test leaves it running."""
    directory = tmp_path_factory.mktemp("demo")
    program = directory / "redis-server"
    program.write_text("#!/bin/sh\necho Redis server v=6.0.16 sha=00000000:0")
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(directory))
        with staying() as page:
            patch.undo()
            yield page


@pytest.fixture(scope="module")
def replicated() -> Iterator[Page]:
    """A demo with a redis-server of its own."""
    with staying() as page:
        yield page


def test_the_page_and_what_it_needs_come_from_the_demo(alone: Page) -> None:
    needed = re.findall(r'(?:href|src)="(/[^"]+)"', alone.html)
    assert needed == ["/demo.css", "/demo.js"]
    types = [alone.get(path)[0].headers["content-type"] for path in ("/", *needed, "/user.js", "/mesa.mjs")]
    assert [each.split(";")[0] for each in types] == ["text/html", "text/css", *["text/javascript"] * 3]
    assert alone.get("/control.py")[0].status == 404


def test_a_browser_is_told_to_load_and_to_connect_to_nothing_else(alone: Page) -> None:
    headers = alone.get("/")[0].headers
    [server] = alone.started["servers"]
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert f"connect-src 'self' {server.rstrip('/')};" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("path", ["/", "/demo.js", "/events?token=x"])
def test_a_foreign_name_of_this_machine_is_refused(alone: Page, path: str) -> None:
    port = alone.host.partition(":")[2]
    assert alone.get(path, host=f"attacker.example:{port}")[0].status == 421
    assert alone.get("/", host=f"localhost:{port}")[0].status == 200


def test_what_another_origin_asks_for_is_refused_even_with_the_token(alone: Page) -> None:
    assert alone.post("/dispatch", HELLO, origin="http://127.0.0.1:1")[0] == 403
    assert alone.post("/servers/0", {"running": False}, origin="null")[0] == 403
    assert alone.get(f"/events?token={alone.token}", origin="https://attacker.example")[0].status == 403
    assert alone.wait_for(lambda state: True)["servers"][0]["running"]


@pytest.mark.parametrize("token", [None, "", "wrong", "ü"])
def test_nothing_is_done_without_the_token(alone: Page, token: str | None) -> None:
    told = token.encode().decode("latin-1") if token else token
    assert alone.post("/dispatch", HELLO, x_demo_token=told)[0] == 403
    assert alone.post("/servers/0", {"running": False}, x_demo_token=told)[0] == 403
    assert alone.get("/events")[0].status == 403
    assert alone.wait_for(lambda state: True)["servers"][0]["running"]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"times": 101}, "Expected `int` <= 100"),
        ({"to": "0"}, "Expected `array`"),
        ({"more": 1}, "unknown field `more`"),
        ({"to": [""]}, "recipients"),
    ],
)
def test_a_dispatch_that_cannot_be_read_is_told(alone: Page, changed: dict[str, Any], problem: str) -> None:
    status, answer = alone.post("/dispatch", {**HELLO, **changed})
    assert status == 400
    assert problem in answer["error"]


def test_a_server_that_is_not_there_is_not_found(alone: Page) -> None:
    assert alone.post("/servers/1", {"running": True})[0] == 404


def test_without_redis_a_killed_server_has_forgotten_what_waited(alone: Page) -> None:
    assert alone.started["storage"] == "memory"
    assert alone.post("/dispatch", {**HELLO, "times": 2}) == (200, {"0": 2})
    alone.wait_for(lambda state: state["outboxes"]["0"] == {"top": 2, "acknowledged": 0, "waiting": [1, 2]})
    assert alone.post("/servers/0", {"running": False}) == (200, {"running": False})
    state = alone.wait_for(lambda state: not state["servers"][0]["running"])
    assert "outboxes" not in state
    status, answer = alone.post("/dispatch", HELLO)
    assert (status, "cannot connect" in answer["error"]) == (503, True)
    assert alone.post("/servers/0", {"running": True}) == (200, {"running": True})
    state = alone.wait_for(lambda state: state["servers"][0]["running"] and "outboxes" in state)
    assert state["outboxes"]["0"] == {"top": 0, "acknowledged": 0, "waiting": []}


async def test_what_is_dispatched_while_a_server_is_dead_arrives_once_it_runs_again(replicated: Page) -> None:
    assert replicated.started["storage"] == "own redis"
    first, second = replicated.started["servers"]
    assert first != second
    async with asyncio.timeout(LIMIT), Client(first, reconnect={"interval": 0.1}) as client:
        await client.authenticate({"id": "0"})
        assert replicated.post("/dispatch", HELLO) == (200, {"0": 1})
        came = [(await anext(client)).data]
        assert replicated.post("/servers/0", {"running": False}) == (200, {"running": False})
        assert replicated.post("/dispatch", {**HELLO, "data": {"n": 2}, "times": 2}) == (200, {"0": 3})
        replicated.wait_for(lambda state: state["outboxes"]["0"]["waiting"][-2:] == [2, 3])
        assert replicated.post("/servers/0", {"running": True}) == (200, {"running": True})
        came += [(await anext(client)).data for _ in range(2)]
    assert came == [{"n": 1}, {"n": 2}, {"n": 2}]
    assert [each["url"] for each in replicated.wait_for(lambda state: True)["servers"]] == [first, second]


def test_both_servers_can_be_dead_and_messages_are_stored(replicated: Page) -> None:
    for index in (0, 1):
        replicated.post(f"/servers/{index}", {"running": False})
    assert replicated.post("/dispatch", {**HELLO, "to": ["1"]}) == (200, {"1": 1})
    state = replicated.wait_for(lambda state: state["outboxes"]["1"]["waiting"] == [1])
    assert [each["running"] for each in state["servers"]] == [False, False]


def test_a_redis_that_is_named_is_used(mesa: Starter, redis_server: RedisServer) -> None:
    demo = mesa("demo", "--keep", "--redis", redis_server.url)
    demo.wait_for(lambda: len(demo.lines) == 2, "two lines")
    assert re.fullmatch(r"See it at http://127\.0\.0\.1:\d+/ \(Ctrl-C stops everything\)", demo.lines[0])
    assert demo.lines[1] == "2 servers on your Redis."
    started = children(demo.pid)
    assert len(started) == 2
    assert demo.stopped(signal.SIGINT) == 0
    assert not any(is_running(child) for child in started)
    assert "Traceback" not in demo.err


def test_stopped_it_leaves_nothing_behind_while_a_page_is_open(mesa: Starter, tmp_path: Path) -> None:
    demo = mesa("demo", "--keep", "--json", environment={"TMPDIR": str(tmp_path)})
    page = Page(demo.document())
    started = children(demo.pid)
    assert len(started) == 3
    with closing(HTTPConnection(page.host, timeout=LIMIT)) as connection:
        connection.request("GET", f"/events?token={page.token}")
        stream = connection.getresponse()
        assert stream.readline().startswith(b"data: ")
        assert demo.stopped(signal.SIGTERM) == 0
    assert not any(is_running(child) for child in started)
    assert not list(tmp_path.glob("mesa-demo-*"))
    assert demo.err == ""

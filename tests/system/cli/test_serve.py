"""`mesa serve` as a process."""

import asyncio
import json
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import jwt
import pytest
from click.testing import Result

from mesa_ws.client import Client
from mesa_ws.dispatcher import AsyncDispatcher
from mesa_ws.errors import AuthenticationFailed, BackendRefused
from mesa_ws.messages.message import Message
from tests.ports import free_port
from tests.redis_server import RedisServer

from .conftest import KEY, Starter, here

SECRET = "0123456789abcdef0123456789abcdef"

APPLICATION = """
import gc
from mesa_ws.transports.run import Server
from mesa_ws.messages.recipients import User

server = Server()

@server.authenticator
async def authenticate(data, connection):
    return User("app-" + data["name"], {"id": "app-" + data["name"], "gc": gc.get_threshold()[0]})
"""

STUCK = """
import asyncio
from mesa_ws import Server

server = Server()

@server.on_disconnection
async def never_ends(connection, code, reason):
    print("stopping", flush=True)
    await asyncio.Event().wait()
"""

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def locked_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("locked"))
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as admin:
        admin.sendall(b"CONFIG SET requirepass geheim\r\n")
        assert admin.recv(100) == b"+OK\r\n"
    yield server
    server.stop()


async def test_it_serves_clients_and_dispatchers(mesa: Starter) -> None:
    started = mesa.serve("--api-key", KEY).document()
    async with Client(started["url"]) as client, AsyncDispatcher(started["api_url"], key=KEY) as dispatcher:
        assert await client.authenticate({"id": "7"}) == {"id": "7"}
        await dispatcher.dispatch(Message(0, {"n": 1}, "HELLO"), ["7"])
        assert await anext(aiter(client)) == Message(0, {"n": 1}, "HELLO")


def test_it_tells_its_health(mesa: Starter) -> None:
    started = mesa.serve().document()
    with urllib.request.urlopen(f"{started['api_url']}/health/ready", timeout=10) as answer:
        assert json.load(answer) == {"status": "ready"}


def test_it_serves_metrics_and_health_on_a_port_of_their_own(mesa: Starter) -> None:
    url = mesa.serve("--metrics", "127.0.0.1:0").document()["metrics_url"]
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert "\nmesa_connections 0.0\n" in answer.read().decode()
    with urllib.request.urlopen(url.replace("/metrics", "/health/ready"), timeout=10) as answer:
        assert json.load(answer) == {"status": "ready"}


def test_without_the_library_metrics_say_what_to_install(mesa: Starter) -> None:
    program = (
        "-c",
        "import sys; sys.modules['prometheus_client'] = None; from mesa_ws.cli import main; main()",
    )
    server = mesa.serve("--metrics", "127.0.0.1:0", program=program)
    assert server.ended() == 1
    assert server.err.splitlines()[-1].endswith("pip install 'mesa-ws[prometheus]'")
    api_url = mesa.serve("--api-key", KEY, program=program).document()["api_url"]
    request = urllib.request.Request(f"{api_url}/metrics", headers={"Authorization": f"Bearer {KEY}"})
    with pytest.raises(urllib.error.HTTPError, match="501") as refused, urllib.request.urlopen(request):
        pass
    with refused.value as answer:
        error = json.load(answer)["error"]
    assert (error["code"], error["message"][-33:]) == ("unsupported", "pip install 'mesa-ws[prometheus]'")


@pytest.mark.parametrize("given", ["9100", "host:", "127.0.0.1:123456", "::1:9100"])
def test_an_address_for_metrics_that_is_none_is_refused(given: str) -> None:
    refused = here("check-config", "--insecure-demo-auth", "--metrics", given)
    assert refused.exit_code == 2
    assert f"expected HOST:PORT, such as 127.0.0.1:9100, got '{given}'" in " ".join(refused.output.split())


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(mesa: Starter, signum: signal.Signals) -> None:
    server = mesa.serve()
    server.line()
    assert server.stopped(signum) == 0
    assert "Traceback" not in server.err


def test_it_says_where_it_listens_in_one_line(mesa: Starter) -> None:
    server = mesa("serve", "--insecure-demo-auth", "--port", "0", "--api-port", "0", "--path", "/ws")
    words = server.line()
    assert words.startswith("mesa 0.1.0: clients at ws://127.0.0.1:")
    assert "/ws, dispatch at http://127.0.0.1:" in words


def test_it_says_when_there_is_no_dispatch_api(mesa: Starter) -> None:
    server = mesa("serve", "--insecure-demo-auth", "--port", "0", "--no-api")
    assert server.line().endswith(", no dispatch API")
    assert "dispatch key" not in server.err


def test_it_says_its_redis_without_the_password(mesa: Starter, locked_redis: RedisServer) -> None:
    url = f"redis://:geheim@127.0.0.1:{locked_redis.port}"
    server = mesa("serve", "--insecure-demo-auth", "--port", "0", "--no-api", environment={"MESA_REDIS": url})
    assert server.line().endswith(f", through redis at 127.0.0.1:{locked_redis.port}")
    assert server.stopped() == 0
    assert "geheim" not in server.out + server.err


async def test_without_a_key_it_makes_one_and_shows_it_once(mesa: Starter) -> None:
    server = mesa.serve()
    started = server.document()
    [told] = [line for line in server.err.splitlines() if line.startswith("dispatch key of this run: ")]
    key = told.split()[5]
    async with AsyncDispatcher(started["api_url"], key=key) as dispatcher:
        assert (await dispatcher.dispatch(Message(0), ["1"])).deliveries["1"].online == 0


def test_a_key_of_the_users_own_is_not_shown(mesa: Starter) -> None:
    server = mesa.serve(environment={"MESA_API_KEY": KEY})
    server.line()
    assert KEY not in server.err + server.out


async def test_with_a_file_of_keys_it_makes_none(mesa: Starter, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'[shop]\nkey = "{KEY}"\nrights = ["dispatch"]\n')
    server = mesa.serve(environment={"MESA_API_KEYS_FILE": str(file)})
    async with AsyncDispatcher(server.document()["api_url"], key=KEY) as dispatcher:
        assert (await dispatcher.dispatch(Message(0), ["1"])).deliveries["1"].online == 0
        with pytest.raises(BackendRefused, match="right 'read' or 'admin', got the key 'shop'"):
            await dispatcher.presence.count()
    assert "dispatch key" not in server.err
    assert KEY not in server.err + server.out


async def test_clients_authenticate_by_tokens(mesa: Starter) -> None:
    environment = {"MESA_JWT_SECRET": SECRET}
    server = mesa("serve", "--json", "--port", "0", "--no-api", environment=environment)
    token = jwt.encode({"sub": "7", "exp": time.time() + 60}, SECRET, "HS256")
    async with Client(server.document()["url"]) as client:
        assert await client.authenticate({"token": token}) == {"id": "7"}


async def test_a_wrong_token_is_refused_and_never_logged(mesa: Starter) -> None:
    environment = {"MESA_JWT_SECRET": SECRET}
    server = mesa("serve", "--json", "--port", "0", "--no-api", environment=environment)
    token = jwt.encode({"sub": "7"}, SECRET[::-1], "HS256")
    async with Client(server.document()["url"]) as client:
        with pytest.raises(AuthenticationFailed):
            await client.authenticate({"token": token})
    assert server.stopped() == 0
    assert "the token is not valid: Signature verification failed" in server.err
    assert token not in server.err


def test_tokens_without_the_library_for_them_are_one_line(mesa: Starter) -> None:
    program = ("-c", "import sys; sys.modules['jwt'] = None; from mesa_ws.cli import main; main()")
    server = mesa("serve", environment={"MESA_JWT_SECRET": SECRET}, program=program)
    assert server.ended() == 1
    assert (
        server.err
        == "Error: jwt: expected the module jwt to be installed, got none; pip install 'mesa-ws[jwt]'\n"
    )


async def test_the_file_sets_what_it_says(mesa: Starter) -> None:
    (mesa.directory / "mesa.toml").write_text("[heartbeat]\ninterval = 7.5\n", encoding="utf-8")
    async with Client(mesa.serve().document()["url"]) as client:
        assert client.hello is not None
        assert client.hello.heartbeat_interval == 7.5


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_does_not_wait_for_handlers(mesa: Starter, signum: signal.Signals) -> None:
    (mesa.directory / "stuck.py").write_text(STUCK, encoding="utf-8")
    server = mesa("serve", "stuck:server", "--json", "--port", "0", "--no-api")
    async with Client(server.document()["url"], reconnect=False):
        server.send(signum)
        await asyncio.to_thread(server.wait_for, lambda: "stopping" in server.out, "the first signal")
        assert await asyncio.to_thread(server.stopped, signum) != 0
    assert "Traceback" not in server.err


async def test_an_applications_server_decides_itself(mesa: Starter) -> None:
    (mesa.directory / "shop.py").write_text(APPLICATION, encoding="utf-8")
    arguments = ("serve", "shop:server", "--json", "--port", "0", "--no-api")
    server = mesa(*arguments, environment={"MESA_GC_THRESHOLD": "1234"})
    async with Client(server.document()["url"]) as client:
        assert await client.authenticate({"name": "x"}) == {"id": "app-x", "gc": 1234}
    assert server.stopped() == 0


def test_logs_are_json_lines_if_asked_for(mesa: Starter) -> None:
    server = mesa.serve("--log-json", "--no-api")
    server.line()
    assert server.stopped() == 0
    documents = [json.loads(line) for line in server.err.splitlines()]
    assert any(document["message"].endswith("is down") for document in documents)


@pytest.mark.parametrize("flags", [(), ("--auth-required",), ("--insecure-demo-auth",), ("shop:server",)])
def test_what_is_unsafe_is_warned_of_in_the_log(mesa: Starter, flags: tuple[str, ...]) -> None:
    (mesa.directory / "shop.py").write_text(APPLICATION, encoding="utf-8")
    is_by_token = flags in {(), ("--auth-required",)}
    arguments = ("serve", *flags, "--port", "0", "--no-api", "--log-json")
    server = mesa(*arguments, environment={"MESA_JWT_SECRET": "short"} if is_by_token else {})
    server.line()
    assert server.stopped() == 0
    documents = [json.loads(line) for line in server.err.splitlines()]
    secret = "the secret for tokens has 5 bytes; HS256 is safe with 32 or more"
    guests = (
        "clients that have not logged in get messages to everybody, too; --auth-required keeps these for "
        "users, in an application Authentication(required=True)"
    )
    assert [each["message"] for each in documents if each["level"] == "warning"] == [
        *([secret] if is_by_token else []),
        *([guests] if flags in {(), ("shop:server",)} else []),
    ]


def test_logs_tell_everything_from_the_beginning_at_the_level_debug(mesa: Starter) -> None:
    server = mesa.serve("--log-level", "debug", "--no-api")
    server.line()
    assert server.stopped() == 0
    assert "is up" in server.err


async def test_each_message_is_logged_if_asked_for(mesa: Starter) -> None:
    server = mesa.serve("--log-messages", "--log-json", "--api-key", KEY)
    started = server.document()
    async with Client(started["url"]) as client, AsyncDispatcher(started["api_url"], key=KEY) as dispatcher:
        await client.authenticate({"id": "7"})
        await dispatcher.dispatch(Message(0, "geheim", "HELLO"), ["7"])
        assert (await anext(aiter(client))).type == "HELLO"
    assert server.stopped() == 0
    fields = [line["fields"] for line in map(json.loads, server.err.splitlines()) if "fields" in line]
    assert {"connection", "authenticated", "disconnection"} < {each["event"] for each in fields}
    [sent] = [each for each in fields if each["event"] == "message_sent"]
    assert (sent["type"], sent["connections"]) == ("HELLO", 1)
    assert "geheim" not in server.err


def test_the_setting_logs_messages_of_an_application_too(mesa: Starter) -> None:
    (mesa.directory / "shop.py").write_text(APPLICATION, encoding="utf-8")
    arguments = ("serve", "shop:server", "--port", "0", "--no-api", "--log-level", "error")
    server = mesa(*arguments, environment={"MESA_LOG_MESSAGES": "true"})
    port = urlsplit(server.line().split()[-4].rstrip(",")).port
    with socket.create_connection(("127.0.0.1", port or 0)) as peer:
        peer.sendall(HANDSHAKE)
        server.wait_for(lambda: "mesa_ws.events: connection" in server.err, "a record")
    assert server.stopped() == 0


def told(ended: Result) -> str:
    """What `mesa serve` says on one line when it cannot start."""
    assert ended.exit_code == 1
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    return line


def serve(*arguments: str, **environment: str) -> Result:
    return here("serve", "--insecure-demo-auth", *arguments, **environment)


def test_a_port_that_is_in_use_is_one_line(mesa: Starter, taken_port: int) -> None:
    server = mesa("serve", "--insecure-demo-auth", "--port", str(taken_port))
    assert server.ended() == 1
    assert server.out == ""
    [line] = server.err.splitlines()
    assert line.startswith(f"Error: cannot listen on 127.0.0.1:{taken_port}: ")
    assert line.endswith("Address already in use")


def test_an_api_port_that_is_in_use_is_one_line(taken_port: int) -> None:
    line = told(serve("--port", "0", "--api-port", str(taken_port)))
    assert f"cannot listen on 127.0.0.1:{taken_port}" in line


def test_an_api_that_cannot_start_leaves_the_port_of_the_server_free(taken_port: int) -> None:
    port = free_port()
    told(serve("--port", str(port), "--api-port", str(taken_port)))
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_redis_that_is_away_is_one_line() -> None:
    line = told(serve("--port", "0", "--redis", "redis://127.0.0.1:1"))
    assert line == "Error: redis at 127.0.0.1:1: no connection (Connection refused) (address: --redis)"


def test_a_wrong_password_is_one_line_without_it(locked_redis: RedisServer) -> None:
    url = f"redis://:falsch@127.0.0.1:{locked_redis.port}"
    line = told(serve("--port", "0", MESA_REDIS=url))
    assert line.startswith(f"Error: redis at 127.0.0.1:{locked_redis.port}: refused")
    assert line.endswith("check the user name and the password (address: MESA_REDIS)")
    assert "falsch" not in line


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("port = ", "mesa.toml: expected TOML, got: "),
        ("[heartbeat]\nhz = 5", "mesa.toml: heartbeat.hz: expected one of enabled, interval"),
        ("port = 'x'", "mesa.toml: port: expected an integer from 0 to 65535, got 'x'"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "mesa.toml"
    file.write_text(text, encoding="utf-8")
    assert problem in told(serve("--config", str(file)))


def test_a_wrong_variable_is_one_line() -> None:
    line = told(serve(MESA_PORT="x"))
    assert line == "Error: MESA_PORT: expected an integer from 0 to 65535, got 'x'"


def test_without_any_authentication_it_is_a_usage_error() -> None:
    result = here("serve")
    assert result.exit_code == 2
    assert "--jwt-secret-file" in result.stderr
    assert "--insecure-demo-auth" in result.stderr

"""The page about tokens and sessions, run block after block, and its promises."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from mesa_ws import (
    AuthenticationFailed,
    Client,
    ConnectFailed,
    Connection,
    ConnectionClosed,
    Message,
    Refused,
    Server,
    User,
    serve,
)
from mesa_ws.tokens import TokenAuthenticator
from tests.examples.programs import LIMIT, ended
from tests.system.cli.mesa_process import MesaProcess
from tests.system.waiting import until

ROOT = Path(__file__).parents[2]
BROWSER = ROOT / "src/mesa_ws/browser/mesa.mjs"
TEXT = (ROOT / "docs/howto/authenticate.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
SIGN, SERVER, KEYS, BOTH, COOKIES, OWN, FRESH = (code for kind, code in BLOCKS if kind == "python")
START, TAIL, OPENSSL = (code for kind, code in BLOCKS if kind == "sh")
[SCRIPT] = (code for kind, code in BLOCKS if kind == "js")
PROVIDER = "https://id.example.com/.well-known/jwks.json"
SECONDS = 1.5
"""For which a login lasts that is renewed."""


def run(*blocks: str, **names: Any) -> dict[str, Any]:
    for block in blocks:
        exec(compile(block, "authenticate.md", "exec"), names)
    return names


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def url_of(server: Server, stack: AsyncExitStack) -> str:
    return (await stack.enter_async_context(serve(server))).url


async def user_of(url: str, login: Any, **options: Any) -> Any:
    """Log in and out; return the user object."""
    async with Client(url, **options) as client:
        return await client.authenticate(login)


async def user_by(authenticator: TokenAuthenticator, token: str, stack: AsyncExitStack) -> Any:
    server = Server()
    server.authenticator(authenticator)
    return await user_of(await url_of(server, stack), {"token": token})


async def test_the_commands_of_the_page_serve_who_has_a_token(tmp_path: Path) -> None:
    install, start = START.splitlines()
    variable, *command = start.split()
    assert install == "pip install 'mesa-ws[jwt]'"
    assert command[:2] == ["mesa", "serve"]
    environment = dict([variable.split("=")])
    ports = ("--port", "0", "--no-api", "--json")
    with MesaProcess(tmp_path, *command[1:], *ports, environment=environment) as server:
        url = server.document()["url"]
        token = run(SIGN)["token_of"]("42")
        assert await user_of(url, {"token": token}) == {"id": "42"}
        tail = TAIL.replace('"$TOKEN"', token).split()
        with MesaProcess(tmp_path, *tail[1:], "--url", url) as tailing:
            tailing.wait_for(lambda: "authenticated as" in tailing.err, "a login")


async def test_a_server_of_ones_own_checks_tokens_with_one_line(stack: AsyncExitStack) -> None:
    names = run(SIGN, SERVER)
    server, secret = names["server"], names["SECRET"]
    url, now = await url_of(server, stack), int(time.time())
    async with Client(url) as client:
        assert await client.authenticate({"token": names["token_of"]("42")}) == {"id": "42"}
        [user] = [connection.user for connection in server.connections]
        assert user.issued_at in range(now, now + 5)
        assert user.expires_at == user.issued_at + 3600 + 30
    for claims in (
        {"exp": now - 40},
        {"nbf": now + 40},
        {"iat": now + 40},
        {"aud": "chat"},
    ):
        with pytest.raises(AuthenticationFailed) as refused:
            await user_of(url, {"token": jwt.encode({"sub": "42"} | claims, secret, "HS256")})
        assert refused.value.code == 1008
    assert await user_of(url, {"token": jwt.encode({"sub": "42", "iat": now + 20}, secret, "HS256")})
    of_mega = TokenAuthenticator(names["Secrets"](secret), id_claim="id")
    assert await user_by(of_mega, jwt.encode({"id": 42}, secret, "HS256"), stack) == {"id": "42"}


async def test_keys_that_only_verify_and_keys_that_are_replaced(
    stack: AsyncExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    openssl = await asyncio.create_subprocess_shell(OPENSSL, stderr=asyncio.subprocess.DEVNULL)
    assert await openssl.wait() == 0
    published = generate_private_key(SECP256R1())
    with provider(published) as url:
        names = run(SIGN, SERVER, KEYS.replace(PROVIDER, url), BOTH)
        private = await asyncio.to_thread(Path("private.pem").read_text)
        assert await user_by(names["own"], jwt.encode({"sub": "1"}, private, "EdDSA"), stack) == {"id": "1"}
        claims = {"sub": "2", "aud": "chat", "iss": "https://id.example.com"}
        assert await user_by(names["foreign"], jwt.encode(claims, published, "ES256"), stack) == {"id": "2"}
        for wrong in ({"aud": "shop"}, {"iss": "https://id.example.org"}):
            with pytest.raises(AuthenticationFailed):
                await user_by(names["foreign"], jwt.encode(claims | wrong, published, "ES256"), stack)
    for secret in (names["SECRET"], names["NEW"]):
        assert await user_by(names["both"], jwt.encode({"sub": "3"}, secret, "HS256"), stack) == {"id": "3"}
    away = TokenAuthenticator(names["JwksKeys"](url))
    with pytest.raises(ConnectionClosed) as closed:
        await user_by(away, jwt.encode(claims, published, "ES256"), stack)
    assert closed.value.code == 1011


class provider:  # noqa: N801 - a context manager
    """An identity provider that publishes a key."""

    def __init__(self, key: Any) -> None:
        jwk = jwt.get_algorithm_by_name("ES256").to_jwk(key.public_key(), as_dict=True)
        body = json.dumps({"keys": [{**jwk, "use": "sig", "kid": "1"}]}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}/jwks.json"

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Sessions:
    """The sessions of the page's application."""

    async def find(self, session: str | None) -> Any:
        return SimpleNamespace(user_id="42", created_at=1000.0, expires_at=None) if session == "s1" else None


OWN_PAGE, OTHER_PAGE = "https://app.example.com", "https://app.example.net"


async def test_a_session_by_cookie_is_for_pages_of_ones_own(
    stack: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    names = run(COOKIES, sessions=Sessions())
    listed, unlisted = names["server"], Server()
    unlisted.authenticator(names["authenticate"])
    urls = {"listed": await url_of(listed, stack), "unlisted": await url_of(unlisted, stack)}

    async def outcome(server: str, cookie: str = "a=b=c; session=s1", **headers: str) -> Any:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            user = await user_of(urls[server], {}, headers={"Cookie": cookie} | given if cookie else given)
        except ConnectFailed as error:
            return 403 if "403" in str(error) else error
        except AuthenticationFailed:
            return None
        return user["id"]

    assert await outcome("listed") == "42"
    assert await outcome("listed", "session=other") is None
    assert await outcome("listed", "nonsense") is None
    assert [
        await outcome("listed", Origin=origin)
        for origin in (OWN_PAGE, "https://x.example.org", "https://x.y.example.org", OTHER_PAGE)
    ] == ["42", "42", 403, 403]
    assert await outcome("listed", "", Origin=OTHER_PAGE) == 403
    assert await outcome("unlisted") == "42"
    assert await outcome("unlisted", "", Origin=OTHER_PAGE) is None
    assert await outcome("unlisted", Origin=OTHER_PAGE) == 403
    assert await outcome("unlisted", Origin=OTHER_PAGE, Sec_Fetch_Site="cross-site") == 403
    assert await outcome("unlisted", Origin=OTHER_PAGE, Sec_Fetch_Site="same-site") == "42"
    assert await outcome("unlisted", Origin="http://127.0.0.1:80") == "42"
    assert caplog.text.count("allowed_origins names the sites") == 1


async def test_an_authenticator_of_ones_own(stack: AsyncExitStack) -> None:
    class Accounts:
        async def by_token(self, token: str) -> Any:
            if token == "fails":
                raise RuntimeError("the database is away")
            return SimpleNamespace(id=7, name="Ann") if token == "good" else None

    names = run(OWN, accounts=Accounts(), Server=Server, Connection=Connection, Refused=Refused, User=User)
    url = await url_of(names["server"], stack)
    assert await user_of(url, {"token": "good"}) == {"id": "7", "name": "Ann"}
    with pytest.raises(AuthenticationFailed) as refused:
        await user_of(url, {"token": "bad"})
    assert refused.value.code == 1008
    with pytest.raises(ConnectionClosed) as failed:
        await user_of(url, {"token": "fails"})
    assert failed.value.code == 1011
    got, codes = list[Any](), list[int]()
    async with Client(url) as user, Client(url, reconnect=False) as stranger:
        stranger.on_message(lambda message: got.append(message.data))
        stranger.on_disconnected(lambda code, reason, will_reconnect: codes.append(code))
        await user.authenticate({"token": "good"})
        await names["server"].send(Message(0, 1))
        async with asyncio.timeout(LIMIT):
            assert (await anext(user)).data == 1
        for connection in names["server"].connections:
            connection.disconnect(4100)
        await until(lambda: codes == [4100])
    assert got == []  # `required`


AROUND = """
const [, , url] = process.argv;
globalThis.fetch = async () => ({ text: async () => "browser" });
"""


async def test_a_login_that_ends_is_renewed_by_a_function_and_not_with_a_fixed_token(
    stack: AsyncExitStack, node: str, tmp_path: Path
) -> None:
    server = Server()
    attempts, opened = list[str](), list[Connection]()
    server.on_connection(opened.append)

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User | None:
        attempts.append(data["token"])
        if data["token"] == "fixed" and attempts.count("fixed") > 1:
            return None
        return User(
            data["token"], expires_at=time.time() + (SECONDS if attempts.count(data["token"]) == 1 else 60)
        )

    url = await url_of(server, stack)
    script = f'import {{ MesaClient }} from "{BROWSER.as_uri()}";{AROUND}{SCRIPT}'.replace('"/ws"', "url")
    (tmp_path / "page.mjs").write_text(script)
    process = await asyncio.create_subprocess_exec(
        node, "--experimental-websocket", "--no-warnings", str(tmp_path / "page.mjs"), url
    )
    stack.push_async_callback(ended, process)
    clients = [await stack.enter_async_context(Client(url, reconnect={"max_pause": 0.01})) for _ in range(2)]
    codes: list[list[int]] = [[], []]
    for client, seen in zip(clients, codes, strict=True):
        client.on_disconnected(lambda code, reason, will_reconnect, seen=seen: seen.append(code))

    async def current() -> str:
        return "python"

    names: dict[str, Any] = {"client": clients[0], "tokens": SimpleNamespace(current=current)}
    body = FRESH.replace("\n", "\n    ")
    await run(f"async def page():\n    {body}", **names)["page"]()
    await clients[1].authenticate({"token": "fixed"})
    await until(lambda: sorted(attempts) == ["browser"] * 2 + ["fixed"] * 2 + ["python"] * 2)
    with pytest.raises(AuthenticationFailed):
        async with asyncio.timeout(LIMIT):
            await clients[1].wait_closed()
    assert codes == [[], [4004, 1008]]
    assert {connection.id for connection in server.connections} == {"browser", "python"}
    assert len(opened) == 4  # the one that comes back has a fixed token

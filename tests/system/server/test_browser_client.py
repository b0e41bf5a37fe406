"""The client for browsers on the WebSocket port: two files, and no others."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path

import pytest

from mesa_ws.transports.run import Endpoint
from tests.certificates import make_certificate, server_side

from .conftest import Serving, accepting
from .peer import LIMIT, RawPeer

pytestmark = pytest.mark.native("the bytes of the answers")

NAMES = ("mesa.js", "mesa.mjs")
BROWSER = files("mesa_ws").joinpath("browser")


@asynccontextmanager
async def raw(endpoint: Endpoint, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawPeer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port, ssl=tls)
    try:
        yield RawPeer(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


class Answer:
    """What came until the server closed."""

    def __init__(self, head: str, body: bytes) -> None:
        self.status, *lines = head.strip().split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        self.fields = {name.lower(): value for name, value in pairs}
        assert len(self.fields) == len(pairs), lines
        self.body = body


async def ask(endpoint: Endpoint, request: str, tls: ssl.SSLContext | None = None) -> Answer:
    async with raw(endpoint, tls) as peer, asyncio.timeout(LIMIT):
        return Answer(await peer.request(request), await peer.reader.read())


@pytest.fixture
async def endpoint(serving: Serving) -> Endpoint:
    return await serving(accepting(), path="/ws")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("path", ["/ws", None, "/mesa.js"])
async def test_a_plain_request_gets_the_file(serving: Serving, name: str, path: str | None) -> None:
    endpoint = await serving(accepting(), path=path)
    answer = await ask(endpoint, f"GET /{name} HTTP/1.1\nHost: x")
    etag = answer.fields.pop("etag")
    assert answer.status == "HTTP/1.1 200 OK"
    assert answer.body == BROWSER.joinpath(name).read_bytes()
    assert answer.fields == {
        "content-type": "text/javascript; charset=utf-8",
        "content-length": str(len(answer.body)),
        "cache-control": "no-cache",
        "access-control-allow-origin": "*",
        "x-content-type-options": "nosniff",
        "connection": "close",
    }
    assert etag[0] == etag[-1] == '"'
    assert len(etag) > 2


@pytest.mark.parametrize("name", NAMES)
async def test_head_gets_the_same_fields_without_the_file(endpoint: Endpoint, name: str) -> None:
    got, told = [await ask(endpoint, f"{method} /{name}?v=1 HTTP/1.1\nHost: x") for method in ("GET", "HEAD")]
    assert got.body
    assert (told.status, told.fields, told.body) == (got.status, got.fields, b"")


async def test_the_files_have_tags_of_their_own(endpoint: Endpoint) -> None:
    tags = {(await ask(endpoint, f"GET /{name} HTTP/1.1\nHost: x")).fields["etag"] for name in NAMES}
    assert len(tags) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("known", "is_known"),
    [
        ("{etag}", True),
        ("W/{etag}", True),
        ('"other", {etag}', True),
        ('{etag},"other"', True),
        ('"other"\nIf-None-Match: {etag}', True),
        ("*", True),
        ('"other"', False),
        ("", False),
        ("{bare}", False),
        ("\udcff", False),
    ],
)
async def test_a_browser_that_has_the_file_is_not_sent_it_again(
    endpoint: Endpoint, method: str, known: str, is_known: bool
) -> None:
    etag = (await ask(endpoint, "GET /mesa.js HTTP/1.1\nHost: x")).fields["etag"]
    shown = known.replace("{etag}", etag).replace("{bare}", etag.strip('"'))
    answer = await ask(endpoint, f"{method} /mesa.js HTTP/1.1\nHost: x\nIf-None-Match: {shown}")
    assert answer.fields["etag"] == etag
    assert answer.status == ("HTTP/1.1 304 Not Modified" if is_known else "HTTP/1.1 200 OK")
    assert bool(answer.body) is (method == "GET" and not is_known)
    assert ("content-type" in answer.fields) is not is_known


@pytest.mark.parametrize(
    "target",
    [
        *(
            "/mesa.jsx",
            "/mesa.js/",
            "//mesa.js",
            "/MESA.JS",
            "/mesa%2Ejs",
            "/ws/mesa.js",
            "mesa.js",
            "/ws/mesa.mjs",
        ),
        *("/", "/mesa", "/browser/mesa.js", "/mesa.js/../mesa.mjs", "/../browser/mesa.js", "/mesa.mjs.map"),
        *(
            "/..%2f..%2fetc/passwd",
            "/../../../../etc/passwd",
            "/mesa.js%00",
            "/__init__.py",
            "/mesa.js;a",
            "http://x/mesa.js",
        ),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_there_are_no_other_files(endpoint: Endpoint, method: str, target: str) -> None:
    answer = await ask(endpoint, f"{method} {target} HTTP/1.1\nHost: x")
    assert answer.status == "HTTP/1.1 400 Bad Request"
    assert answer.body == (b"Bad Request" if method == "GET" else b"")


@pytest.mark.parametrize(
    "request_line",
    [
        "POST /mesa.js HTTP/1.1",
        "OPTIONS /mesa.js HTTP/1.1",
        "GET /mesa.js HTTP/1.0",
        "HEAD /mesa.js HTTP/1.0",
        "head /mesa.js HTTP/1.1",
        "HEADS /mesa.js HTTP/1.1",
        "HEAD  /mesa.js HTTP/1.1",
        "HEAD /mesa.js",
    ],
)
async def test_other_methods_and_versions_are_refused(endpoint: Endpoint, request_line: str) -> None:
    assert (await ask(endpoint, f"{request_line}\nHost: x")).status == "HTTP/1.1 400 Bad Request"


UPGRADE = (
    "Host: x\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
)


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [(None, "GET", "101"), ("/mesa.js", "GET", "101"), ("/ws", "GET", "400"), (None, "HEAD", "400")],
)
async def test_an_upgrade_on_that_path_is_one_as_on_any_other(
    serving: Serving, path: str | None, method: str, status: str
) -> None:
    endpoint = await serving(accepting(), path=path)
    async with raw(endpoint) as peer:
        answer = await peer.request(f"{method} /mesa.js HTTP/1.1\n{UPGRADE}")
        assert answer.startswith(f"HTTP/1.1 {status} ")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_request_that_comes_byte_by_byte_is_answered(endpoint: Endpoint, method: str) -> None:
    async with raw(endpoint) as peer, asyncio.timeout(LIMIT):
        for byte in f"{method} /mesa.mjs HTTP/1.1\r\nHost: x\r\n\r\n".encode():
            peer.writer.write(bytes([byte]))
            await peer.writer.drain()
            await asyncio.sleep(0)
        head = await peer.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        body = await peer.reader.read()
        assert body == (BROWSER.joinpath("mesa.mjs").read_bytes() if method == "GET" else b"")


async def test_a_client_that_says_next_to_nothing_is_forgotten(endpoint: Endpoint) -> None:
    async with raw(endpoint) as peer, asyncio.timeout(LIMIT):
        peer.writer.write(b"HEA")
        peer.writer.write_eof()
        assert await peer.reader.read() == b""


async def test_many_at_once_get_it_whole(endpoint: Endpoint) -> None:
    body = BROWSER.joinpath("mesa.js").read_bytes()
    answers = await asyncio.gather(*(ask(endpoint, "GET /mesa.js HTTP/1.1\nHost: x") for _ in range(100)))
    assert {answer.body == body for answer in answers} == {True}


async def test_it_comes_over_tls_too(serving: Serving, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "mesa.pem")
    endpoint = await serving(accepting(), path="/ws", ssl=server_side(certificate))
    trusting = ssl.create_default_context(cafile=str(certificate))
    trusting.check_hostname = False
    for method, body in (("GET", BROWSER.joinpath("mesa.js").read_bytes()), ("HEAD", b"")):
        answer = await ask(endpoint, f"{method} /mesa.js HTTP/1.1\nHost: x", trusting)
        assert (answer.status, answer.body) == ("HTTP/1.1 200 OK", body)


async def test_no_file_is_read_for_a_request(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda path: pytest.fail(f"{path} was read"))
    monkeypatch.setattr("pathlib.Path.open", lambda path, *args: pytest.fail(f"{path} was opened"))
    assert (await ask(endpoint, "GET /mesa.js HTTP/1.1\nHost: x")).status == "HTTP/1.1 200 OK"

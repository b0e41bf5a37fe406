"""Faults that comparable libraries had, one test each: the CVE is named where the lesson is tested."""

import ast
import asyncio
import hmac
import logging
import pickle
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis.asyncio

from mesa_ws import AsyncDispatcher, Connection, Message, Server, User, serve
from mesa_ws.backend.http import auth
from mesa_ws.messages.frames import InvalidFrame, decode_frame
from mesa_ws.transports.run import Endpoint
from tests.system.server.peer import LIMIT, Peer, RawPeer
from tests.unit.test_layers import SOURCE, imports, read

ESCAPES = "\x1b[31m"
"""Bytes that colour a terminal: a log must not repeat them."""


def accepting(*place: str, **options: Any) -> Server:
    server = Server(*place, **options)

    @server.authenticator
    async def authenticate(data: Any, _: Connection) -> User:
        return User(data["id"])

    return server


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def endpoint(stack: AsyncExitStack) -> Endpoint:
    return await stack.enter_async_context(serve(accepting(), "127.0.0.1", 0))


async def neighbour_is_served(endpoint: Endpoint) -> bool:
    """Whether a new client can log in."""
    async with Peer.connect(endpoint.url) as peer:
        await peer.authenticate("neighbour")
        return True


@pytest.mark.parametrize("fields", [100, 2000, 100_000])
async def test_a_request_with_many_header_fields_harms_nobody(endpoint: Endpoint, fields: int) -> None:
    """ws CVE-2024-37890: a request with more fields than the library counted ended the process."""
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        head = peer.upgrade(extra="".join(f"\nX-{n}: 1" for n in range(fields)))
        try:
            answer = await head
        except (asyncio.IncompleteReadError, ConnectionError):
            answer = "closed"
        assert "101" in answer or "400" in answer or answer == "closed"
    assert await neighbour_is_served(endpoint)


@pytest.mark.parametrize("value", [" " * 5000 + "x", "a," * 2500, "," * 5000, "a" * 5000])
async def test_a_long_list_of_subprotocols_is_read_once(endpoint: Endpoint, value: str) -> None:
    """ws CVE-2021-32640: a regular expression took a time that grew with the square of the value."""
    first = value.split(",", maxsplit=1)[0].strip()
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        answer = await peer.upgrade(extra=f"\nSec-WebSocket-Protocol: {value}")
    assert " 101 " in answer
    assert (f"Sec-WebSocket-Protocol: {first}\r\n" in answer) == bool(first)


def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """websockets CVE-2021-33880: a comparison that ended at the first difference told the password."""
    compared: list[tuple[bytes, bytes]] = []

    def compare_digest(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    assert not auth.is_authorized("Bearer 0123456789abcdef", "0123456789abcdef")
    assert len(compared) == 1


async def test_no_compression_is_agreed_on(endpoint: Endpoint) -> None:
    """websockets CVE-2018-1000518: a small compressed message became a large one before the limit held."""
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        answer = await peer.upgrade(extra="\nSec-WebSocket-Extensions: permessage-deflate")
        assert " 101 " in answer
        assert "extensions" not in answer.lower()
        await peer.frame(1, b"\x4a\x4c\x01\x00", rsv=4)
        assert int.from_bytes((await peer.close_frame())[:2]) == 1002


def test_no_bytes_of_others_become_objects_with_code() -> None:
    """python-socketio CVE-2025-61765: a pickle on the message queue ran code in every server."""
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml"}
    modules = read(SOURCE)
    assert not [found.target for _, found in imports(modules) if found.target.split(".")[0] in forbidden]
    called = [
        node.func.id
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert not {"eval", "exec", "compile", "__import__"} & set(called)


async def test_a_pickle_on_the_bus_is_dropped(stack: AsyncExitStack, redis_url: str, namespace: str) -> None:
    """python-socketio CVE-2025-61765, on the channel of a node."""
    server = accepting(redis_url, namespace=namespace)
    endpoint = await stack.enter_async_context(serve(server, "127.0.0.1", 0))
    peer = await stack.enter_async_context(Peer.connect(endpoint.url))
    await peer.authenticate("7")
    async with redis.asyncio.from_url(redis_url) as attacker:
        channels = [name for name in await attacker.pubsub_channels("*") if namespace.encode() in name]
        assert channels
        for channel in channels:
            await attacker.publish(channel, pickle.dumps(_Bomb()))
            await attacker.publish(channel, b"\0\0\0\x10" + b"\x91" * 100_000)
    async with AsyncDispatcher(redis_url, namespace=namespace) as dispatcher:
        await dispatcher.dispatch(Message(0, 1, "T"), ["7"])
    assert (await peer.until(t="T"))["d"] == 1
    assert not _Bomb.exploded


class _Bomb:
    exploded = False

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return setattr, (_Bomb, "exploded", True)


async def test_a_cancelled_call_leaves_its_reply_to_no_other(redis_url: str, namespace: str) -> None:
    """redis-py CVE-2023-28858 and 28859: after a cancelled command the next one got its reply."""
    async with AsyncDispatcher(redis_url, namespace=namespace, sync=True) as dispatcher:
        await dispatcher.dispatch(Message(0, 0, "WARM"), ["0"])
        for number in range(50):
            cancelled = asyncio.ensure_future(dispatcher.dispatch(Message(0, 1, "T"), [f"a{number}"]))
            await asyncio.sleep(0 if number % 2 else 0.0002 * (number % 5))
            cancelled.cancel()
            receipt = await dispatcher.dispatch(Message(0, 2, "T"), [f"b{number}"])
            assert set(receipt.deliveries) == {f"b{number}"}
            assert await dispatcher.presence.online([f"c{number}"]) == {f"c{number}": 0}


async def test_bytes_of_a_request_do_not_write_to_the_log_or_the_answer(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """uvicorn CVE-2020-7694, 7695: escapes in a path coloured the terminal; a line end split the answer."""
    caplog.set_level(logging.DEBUG)
    for path, extra in (
        (f"/{ESCAPES}", ""),
        ("/%1b[31m%0d%0aX-Injected:%201", ""),
        ("/", f"\nSec-WebSocket-Protocol: a{ESCAPES}b"),
        ("/", "\nSec-WebSocket-Protocol: a%0d%0aX-Injected: 1"),
        ("/", "\nSec-WebSocket-Protocol: a\rX-Injected: 1"),
    ):
        async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
            answer = await peer.upgrade(path, extra)
            assert not [line for line in answer.splitlines() if line.startswith("X-Injected")]
            if " 101 " in answer:
                await peer.frame(1, b'{"op":2,"d":{"id":"\\u001b[31m"},"t":"%s"' % ESCAPES.encode())
                await peer.close_frame()
    assert not [record for record in caplog.records if "\x1b" in record.getMessage()]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"op":0,"d":' + "[" * 100_000])
async def test_deep_nesting_is_an_invalid_frame(endpoint: Endpoint, text: str) -> None:
    """orjson CVE-2024-27454: nested arrays used up the stack, and the process ended."""
    with pytest.raises(InvalidFrame):
        decode_frame(text.encode())
    async with Peer.connect(endpoint.url) as peer:
        await peer.raw(text)
        assert await peer.closed() == 1007
    assert await neighbour_is_served(endpoint)


async def test_a_slow_login_sees_its_own_request(stack: AsyncExitStack) -> None:
    """Channels CVE-2020-35681: a client was answered with the session of another one."""
    server = Server()
    all_there = asyncio.Event()
    waiting = 0

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        nonlocal waiting
        waiting += 1
        if waiting == 20:
            all_there.set()
        await all_there.wait()
        return User(data["id"], {"cookie": connection.request.headers["Cookie"]})

    endpoint = await stack.enter_async_context(serve(server, "127.0.0.1", 0))

    async def log_in(id: str) -> Any:
        async with Peer.connect(endpoint.url, additional_headers={"Cookie": f"session={id}"}) as peer:
            return await peer.authenticate(id)

    async with asyncio.timeout(LIMIT):
        users = await asyncio.gather(*(log_in(str(n)) for n in range(20)))
    assert [user["cookie"] for user in users] == [f"session={n}" for n in range(20)]

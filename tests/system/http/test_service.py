"""The dispatch API as a service: start, stop, and no effect on signals and logging of the process."""

import asyncio
import logging
import re
import signal
import socket
from typing import Any

import pytest

import mesa_ws.http_server.server
from mesa_ws.backend.http import AsyncHttpBus
from mesa_ws.errors import BackendUnavailable, InvalidSettings, ListenFailed
from mesa_ws.http_server.server import DispatchApi
from mesa_ws.transports.listening import listen
from tests.http_site import KEY, Dispatching, HeldBus, Site, message
from tests.ports import free_port


async def test_requests_sent_at_once_on_a_connection_are_answered_in_order(
    site: Site, api: DispatchApi
) -> None:
    body = b'{"message":{"d":%d},"id":"%032x"}'
    answers = await _exchange(api, *(_request(body % (n, n)) for n in range(3)))
    ids = re.findall(rb'"message_id":"0*([0-9])"', answers)
    assert (ids, site.received) == ([b"0", b"1", b"2"], [0, 1, 2])


async def test_health_is_served_over_http(site: Site, api: DispatchApi) -> None:
    ready = await _exchange(api, b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
    await site.memory.aclose()
    away = await _exchange(api, b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
    assert ready.startswith(b"HTTP/1.1 200 OK")
    assert away.startswith(b"HTTP/1.1 503 Service Unavailable")


async def test_stopping_lets_a_request_under_way_finish(site: Site) -> None:
    site.bus = held = HeldBus(site.bus)
    api = DispatchApi(site.server, key=KEY, port=0)
    await api.__aenter__()
    bus = AsyncHttpBus(api.url, key=KEY)
    under_way = asyncio.create_task(bus.dispatch([message(1)]))
    await held.arrived.get()
    stopping = asyncio.create_task(api.__aexit__(None, None, None))
    held.go.set()
    await stopping
    (receipt,) = await under_way
    await bus.aclose()
    assert (receipt.nodes, site.received) == (1, [1])


async def test_stopping_answers_a_request_that_takes_too_long(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mesa_ws.http_server.server, "GRACE", 0.05)
    site.bus = held = HeldBus(site.bus)
    async with DispatchApi(site.server, key=KEY, port=0) as api:
        bus = AsyncHttpBus(api.url, key=KEY)
        under_way = asyncio.create_task(bus.dispatch([message(1)]))
        await held.arrived.get()
    with pytest.raises(BackendUnavailable, match="the server is stopping; the message may have been sent"):
        await under_way
    await bus.aclose()
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_stopped_api_does_not_listen(kind: str, site: Site) -> None:
    async with DispatchApi(site.server, key=KEY, port=0) as api, Dispatching(kind, api.url) as bus:
        await bus.dispatch(message(1))
    async with Dispatching(kind, api.url) as bus:
        with pytest.raises(BackendUnavailable, match=r"cannot connect .*nothing was sent"):
            await bus.dispatch(message(2))


async def test_an_api_can_be_entered_again(site: Site) -> None:
    api = DispatchApi(site.server, key=KEY, port=0)
    for n in range(2):
        async with api, Dispatching("aio", api.url) as bus:
            await bus.dispatch(message(n))
    assert site.received == [0, 1]


async def test_a_connection_outlives_a_restart_of_the_server(
    site: Site, kind: str, stopped_port: int
) -> None:
    async with Dispatching(kind, f"http://127.0.0.1:{stopped_port}") as bus:
        for n in range(2):
            async with DispatchApi(site.server, key=KEY, port=stopped_port):
                await bus.dispatch(message(n))
    assert site.received == [0, 1]


async def test_a_port_in_use_is_an_error_of_one_line(site: Site, api: DispatchApi) -> None:
    port = int(api.url.rpartition(":")[2])
    with pytest.raises(ListenFailed, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use$"):
        await DispatchApi(site.server, key=KEY, port=port).__aenter__()


@pytest.mark.parametrize("host", ["203.0.113.1", "a..b", "256.256.256.256"])
async def test_a_host_of_another_machine_is_an_error_of_one_line(site: Site, host: str) -> None:
    with pytest.raises(ListenFailed, match=f"cannot listen on {host}:0: "):
        await DispatchApi(site.server, key=KEY, host=host, port=0).__aenter__()


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"key": ""}, "key: expected 16 or more characters"),
        ({"key": "short"}, "key: expected 16 or more characters"),
        ({"port": -1}, "api.port: expected an integer from 0 to 65535, got -1"),
        ({"port": "4001"}, "api.port: expected an integer from 0 to 65535, got '4001'"),
        ({"host": []}, "api.host: expected an address or a name of this machine, a list of them"),
        ({"max_body": 0}, "api.max_body: expected an integer from 1 to 2147483648, got 0"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(setting: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidSettings, match=text):
        DispatchApi(Site().server, **({"key": KEY} | setting))


async def test_a_client_at_the_wrong_port_is_named_in_the_log(
    api: DispatchApi, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await _exchange(
        api, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 404")
    assert [(record.name, record.message) for record in caplog.records if record.levelno > logging.INFO] == [
        (
            "mesa_ws.server",
            "the dispatch API got a WebSocket request; clients have to connect to the server's own port",
        )
    ]


async def test_it_listens_on_ipv6(site: Site, kind: str) -> None:
    async with (
        DispatchApi(site.server, key=KEY, host="::1", port=0) as api,
        Dispatching(kind, api.url) as bus,
    ):
        assert api.url.startswith("http://[::1]:")
        await bus.dispatch(message(1))
    assert site.received == [1]


@pytest.mark.parametrize(
    ("host", "named"),
    [(["127.0.0.1", "::1", "localhost"], []), ("0.0.0.0", ["0.0.0.0"]), (["0.0.0.0", "::"], ["0.0.0.0, ::"])],
)
async def test_plain_http_for_other_machines_is_warned_of(
    site: Site, host: Any, named: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with DispatchApi(site.server, key=KEY, host=host, port=0):
        logged = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [line.partition(" over plain HTTP: ")[0] for line in logged] == [
        f"the dispatch API listens on {each}" for each in named
    ]


async def test_the_process_keeps_its_signals_and_its_logging(
    site: Site, bus: Dispatching, caplog: pytest.LogCaptureFixture
) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with caplog.at_level(logging.INFO):
        async with DispatchApi(site.server, key=KEY, port=0):
            await bus.dispatch(message(1))
            during = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert during == handlers
    assert logging.getLogger("uvicorn.access").propagate
    assert [record for record in caplog.records if record.name == "uvicorn.access"] == []


async def test_answers_leave_at_once() -> None:
    accepted: asyncio.Queue[int] = asyncio.Queue()

    def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        accepted.put_nowait(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    (listener,) = await listen("127.0.0.1", 0, backlog=8)
    async with await asyncio.start_server(on_connection, sock=listener) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await accepted.get() != 0
        writer.close()
        await writer.wait_closed()


@pytest.fixture
def stopped_port() -> int:
    return free_port()


def _request(body: bytes) -> bytes:
    head = (
        f"POST /v1/dispatch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}"
    )
    return head.encode() + b"\r\n\r\n" + body


async def _exchange(api: DispatchApi, *requests: bytes) -> bytes:
    """Send requests at once, of which the last closes the connection; return all responses."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    writer.write(b"".join(requests))
    answers = b""
    while answers.count(b"HTTP/1.1 ") < len(requests) or not answers.endswith(b"}"):
        answers += await reader.read(65536)
    writer.close()
    await writer.wait_closed()
    return answers

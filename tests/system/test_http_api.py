"""The dispatch API over real sockets, with its two buses."""

import asyncio
import json
import logging
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import pytest

from mesa_ws.admin.api import DispatchApi
from mesa_ws.admin.listener import listen
from mesa_ws.backend.base import AsyncBus
from mesa_ws.backend.http import AsyncHttpBus, BlockingHttpBus
from mesa_ws.backend.memory import MemoryBackend
from mesa_ws.envelope import Delivery, Envelope, Receipt, prepare
from mesa_ws.errors import (
    BackendRefused,
    BackendUnavailable,
    InvalidRecipients,
    InvalidSettings,
    ListenFailed,
    MesaError,
    Unsupported,
)
from mesa_ws.message import DispatchEvent, Message
from mesa_ws.recipients import Recipients

KEY = "0123456789abcdef"


class Site:
    """A server as the API sees it: a memory backend that holds two connections of the id 0."""

    namespace = "api"

    def __init__(self) -> None:
        self.memory = MemoryBackend(namespace=self.namespace)
        self.bus: AsyncBus = self.memory
        self.received: list[Any] = []

    @property
    def is_ready(self) -> bool:
        return self.memory.is_ready

    async def open(self) -> None:
        await self.memory.open(lambda envelope: self.received.append(_data(envelope)))
        await self.memory.attach("0", 2)


class HeldBus:
    """A bus that holds each dispatch back until it is let go."""

    def __init__(self, bus: AsyncBus) -> None:
        self.arrived: asyncio.Queue[str] = asyncio.Queue()
        self.go = asyncio.Event()
        self._bus = bus

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        self.arrived.put_nowait(envelopes[0].message_id)
        await self.go.wait()
        return await self._bus.dispatch(envelopes)

    async def aclose(self) -> None:
        await self._bus.aclose()


class FailingBus:
    """A bus that raises."""

    def __init__(self, error: MesaError) -> None:
        self._error = error

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        raise self._error

    async def aclose(self) -> None:
        raise NotImplementedError


class Dispatching:
    """Both buses behind one face, so that one test covers both."""

    def __init__(self, kind: str, url: str, **settings: Any) -> None:
        settings = {"key": KEY} | settings
        self._aio = AsyncHttpBus(url, **settings) if kind == "aio" else None
        self._blocking = BlockingHttpBus(url, **settings) if kind == "blocking" else None

    async def dispatch(self, *envelopes: Envelope) -> list[Receipt]:
        if self._aio is not None:
            return await self._aio.dispatch(envelopes)
        assert self._blocking is not None
        return await asyncio.to_thread(self._blocking.dispatch, envelopes)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._aio is not None:
            await self._aio.aclose()
        if self._blocking is not None:
            self._blocking.close()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.open()
    yield site
    await site.memory.aclose()


@pytest.fixture
async def api(site: Site) -> AsyncIterator[DispatchApi]:
    async with DispatchApi(site, key=KEY, port=0) as api:
        yield api


@pytest.fixture(params=["aio", "blocking"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def bus(kind: str, api: DispatchApi) -> AsyncIterator[Dispatching]:
    async with Dispatching(kind, api.url) as bus:
        yield bus


def message(data: Any, recipients: Sequence[str] = ("0",)) -> Envelope:
    return prepare(Message(0, data), recipients)


def _data(envelope: Envelope) -> Any:
    return json.loads(envelope.body)["d"] if envelope.body else envelope


async def test_a_dispatch_arrives_and_returns_its_receipt(site: Site, bus: Dispatching) -> None:
    sent = prepare(Message(0, {"n": [1, 2.5, None], "é": "\U0001f600"}), ["0", "1"])
    (receipt,) = await bus.dispatch(sent)
    deliveries = {"0": Delivery(False, 2, None), "1": Delivery(False, 0, "offline")}
    assert receipt == Receipt(sent.message_id, deliveries, 1)
    assert site.received == [{"n": [1, 2.5, None], "é": "\U0001f600"}]


async def test_the_body_arrives_as_the_dispatcher_encoded_it(kind: str, site: Site, api: DispatchApi) -> None:
    received: list[Envelope] = []
    await site.memory.open(received.append)
    sent = prepare(Message(0, {"f": 1e300, "s": "\x7f\u2028"}, "T"), ["*"], ["1"])
    async with Dispatching(kind, api.url) as bus:
        await bus.dispatch(sent)
    assert received[0] == sent


async def test_an_event_arrives_as_an_event(site: Site, bus: Dispatching) -> None:
    await bus.dispatch(prepare(DispatchEvent("DISCONNECT_CLIENT"), ["0"]))
    assert [envelope.kind for envelope in site.received] == ["disconnect"]


async def test_a_batch_arrives_in_its_order(site: Site, bus: Dispatching) -> None:
    receipts = await bus.dispatch(*(message(n) for n in range(1000)))
    assert site.received == list(range(1000))
    assert len(receipts) == 1000


async def test_nothing_to_send_asks_nobody(kind: str) -> None:
    async with Dispatching(kind, "http://127.0.0.1:9") as bus:
        assert await bus.dispatch() == []


@pytest.mark.parametrize(
    "error",
    [
        Unsupported("not here"),
        BackendRefused("wrong password"),
        BackendUnavailable("Redis is away"),
        BackendUnavailable("Redis was cut", maybe_sent=True),
    ],
)
async def test_an_error_of_the_servers_backend_reaches_the_dispatcher(
    site: Site, bus: Dispatching, error: MesaError
) -> None:
    site.bus = FailingBus(error)
    with pytest.raises(type(error)) as caught:
        await bus.dispatch(message(1))
    assert str(caught.value) == str(error)


async def test_what_the_server_finds_wrong_is_raised_as_such(bus: Dispatching) -> None:
    with pytest.raises(InvalidRecipients, match=r"^batch\[1\]: recipients: expected an id of 1 to 255 bytes"):
        await bus.dispatch(message(1), message(2)._replace(recipients=Recipients(False, ("",), frozenset())))


async def test_another_key_is_refused(kind: str, api: DispatchApi) -> None:
    async with Dispatching(kind, api.url, key="another") as bus:
        with pytest.raises(BackendRefused, match="refused the key"):
            await bus.dispatch(message(1))


async def test_the_namespace_of_the_server_is_taken(kind: str, site: Site, api: DispatchApi) -> None:
    async with Dispatching(kind, api.url, namespace="api") as bus:
        await bus.dispatch(message(1))
    assert site.received == [1]


async def test_another_namespace_is_refused(kind: str, site: Site, api: DispatchApi) -> None:
    async with Dispatching(kind, api.url, namespace="web") as bus:
        with pytest.raises(BackendRefused, match="expected 'api', which this server serves, got 'web'"):
            await bus.dispatch(message(1))
    assert site.received == []


async def test_a_message_over_the_servers_limit_is_refused(kind: str, site: Site) -> None:
    async with DispatchApi(site, key=KEY, port=0, max_body=1000) as api, Dispatching(kind, api.url) as bus:
        with pytest.raises(BackendRefused, match="expected at most 1000 bytes, got more"):
            await bus.dispatch(message("x" * 2_000_000))
        await bus.dispatch(message("small"))
    assert site.received == ["small"]


async def test_a_large_message_arrives(site: Site, bus: Dispatching) -> None:
    await bus.dispatch(message("x" * 5_000_000))
    assert site.received == ["x" * 5_000_000]


async def test_each_thread_keeps_its_order(site: Site, api: DispatchApi) -> None:
    bus = BlockingHttpBus(api.url, key=KEY)

    def send(thread: int) -> None:
        for n in range(20):
            bus.dispatch([message([thread, n])])

    with ThreadPoolExecutor(8) as threads:
        await asyncio.gather(
            *(asyncio.get_running_loop().run_in_executor(threads, send, t) for t in range(8))
        )
    bus.close()
    assert [[n for t, n in site.received if t == thread] for thread in range(8)] == [list(range(20))] * 8


async def test_concurrent_calls_arrive_in_the_order_in_which_they_start(site: Site, api: DispatchApi) -> None:
    bus = AsyncHttpBus(api.url, key=KEY)
    sent = [message(n) for n in range(100)]
    receipts = await asyncio.gather(*(bus.dispatch([one]) for one in sent))
    await bus.aclose()
    assert site.received == list(range(100))
    assert [receipt.message_id for (receipt,) in receipts] == [one.message_id for one in sent]


async def test_a_cancelled_call_gives_its_receipt_to_nobody(site: Site, api: DispatchApi) -> None:
    site.bus = held = HeldBus(site.bus)
    bus, first, second = AsyncHttpBus(api.url, key=KEY), message(1), message(2)
    cancelled = asyncio.create_task(bus.dispatch([first]))
    assert await held.arrived.get() == first.message_id
    cancelled.cancel()
    await asyncio.wait([cancelled])
    held.go.set()
    (receipt,) = await bus.dispatch([second])
    await bus.aclose()
    assert cancelled.cancelled()
    assert receipt.message_id == second.message_id


async def test_a_call_cancelled_before_its_turn_is_not_sent(site: Site, api: DispatchApi) -> None:
    site.bus = held = HeldBus(site.bus)
    bus = AsyncHttpBus(api.url, key=KEY)
    tasks = [asyncio.create_task(bus.dispatch([message(n)])) for n in range(3)]
    await held.arrived.get()
    tasks[1].cancel()
    held.go.set()
    await asyncio.wait(tasks)
    await bus.aclose()
    assert site.received == [0, 2]


async def test_a_closed_bus_sends_nothing(site: Site, bus: Dispatching) -> None:
    await bus.dispatch(message(1))
    await bus.aclose()
    with pytest.raises(BackendUnavailable, match="the dispatcher is closed; nothing was sent"):
        await bus.dispatch(message(2))
    assert site.received == [1]


async def test_calls_under_way_fail_when_the_bus_is_closed(site: Site, api: DispatchApi) -> None:
    site.bus = held = HeldBus(site.bus)
    bus = AsyncHttpBus(api.url, key=KEY)
    tasks = [asyncio.create_task(bus.dispatch([message(n)])) for n in range(2)]
    await held.arrived.get()
    await bus.aclose()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    held.go.set()
    assert [isinstance(e, BackendUnavailable) and e.maybe_sent for e in results] == [True, False]


async def test_one_bus_serves_several_event_loops(site: Site, api: DispatchApi) -> None:
    bus = AsyncHttpBus(api.url, key=KEY)

    async def in_another_loop() -> None:
        await bus.dispatch([message(2)])
        await bus.aclose()

    await bus.dispatch([message(1)])
    await asyncio.to_thread(asyncio.run, in_another_loop())
    await bus.aclose()
    assert site.received == [1, 2]


def test_it_works_on_uvloop() -> None:
    async def dispatch() -> list[Any]:
        site = Site()
        await site.open()
        async with DispatchApi(site, key=KEY, port=0) as api, Dispatching("aio", api.url) as bus:
            await bus.dispatch(message(1))
        return site.received

    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(dispatch()) == [1]


async def test_requests_sent_at_once_on_a_connection_are_answered_in_order(
    site: Site, api: DispatchApi
) -> None:
    body = b'{"message":{"d":%d},"id":"%032x"}'
    answers = await _exchange(api, *(_request(body % (n, n)) for n in range(3)))
    ids = re.findall(rb'"message_id":"0*([0-9])"', answers)
    assert (ids, site.received) == ([b"0", b"1", b"2"], [0, 1, 2])


async def test_health_is_told_over_http(site: Site, api: DispatchApi) -> None:
    ready = await _exchange(api, b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
    await site.memory.aclose()
    away = await _exchange(api, b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
    assert ready.startswith(b"HTTP/1.1 200 OK")
    assert away.startswith(b"HTTP/1.1 503 Service Unavailable")


async def test_stopping_lets_a_request_under_way_finish(site: Site) -> None:
    site.bus = held = HeldBus(site.bus)
    api = DispatchApi(site, key=KEY, port=0)
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


async def test_a_stopped_api_does_not_listen(kind: str, site: Site) -> None:
    async with DispatchApi(site, key=KEY, port=0) as api, Dispatching(kind, api.url) as bus:
        await bus.dispatch(message(1))
    async with Dispatching(kind, api.url) as bus:
        with pytest.raises(BackendUnavailable, match=r"cannot connect .*nothing was sent"):
            await bus.dispatch(message(2))


async def test_an_api_can_be_entered_again(site: Site) -> None:
    api = DispatchApi(site, key=KEY, port=0)
    for n in range(2):
        async with api, Dispatching("aio", api.url) as bus:
            await bus.dispatch(message(n))
    assert site.received == [0, 1]


async def test_a_connection_outlives_a_restart_of_the_server(
    site: Site, kind: str, stopped_port: int
) -> None:
    async with Dispatching(kind, f"http://127.0.0.1:{stopped_port}") as bus:
        for n in range(2):
            async with DispatchApi(site, key=KEY, port=stopped_port):
                await bus.dispatch(message(n))
    assert site.received == [0, 1]


async def test_a_port_in_use_is_said_in_one_line(site: Site, api: DispatchApi) -> None:
    port = int(api.url.rpartition(":")[2])
    with pytest.raises(ListenFailed, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use$"):
        await DispatchApi(site, key=KEY, port=port).__aenter__()


@pytest.mark.parametrize("host", ["203.0.113.1", "a..b", "256.256.256.256"])
async def test_a_host_of_another_machine_is_said_in_one_line(site: Site, host: str) -> None:
    with pytest.raises(ListenFailed, match=f"cannot listen on {host}:0: "):
        await DispatchApi(site, key=KEY, host=host, port=0).__aenter__()


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"key": ""}, "key: expected 16 or more characters"),
        ({"key": "short"}, "key: expected 16 or more characters"),
        ({"port": -1}, "api.port: expected an integer from 0 to 65535, got -1"),
        ({"port": "4001"}, "api.port: expected an integer from 0 to 65535, got '4001'"),
        ({"host": ""}, "api.host: expected an address or a name of this machine, got ''"),
        ({"max_body": 0}, "api.max_body: expected an integer from 1 to 2147483648, got 0"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(setting: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidSettings, match=text):
        DispatchApi(Site(), **({"key": KEY} | setting))


async def test_it_listens_on_ipv6(site: Site, kind: str) -> None:
    async with DispatchApi(site, key=KEY, host="::1", port=0) as api, Dispatching(kind, api.url) as bus:
        assert api.url.startswith("http://[::1]:")
        await bus.dispatch(message(1))
    assert site.received == [1]


async def test_the_process_keeps_its_signals_and_its_logging(
    site: Site, bus: Dispatching, caplog: pytest.LogCaptureFixture
) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with caplog.at_level(logging.INFO):
        async with DispatchApi(site, key=KEY, port=0):
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

    async with await asyncio.start_server(on_connection, sock=listen("127.0.0.1", 0)) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await accepted.get() != 0
        writer.close()
        await writer.wait_closed()


FORKING = """
import os, sys
from mesa_ws.backend.http import BlockingHttpBus
from mesa_ws.envelope import prepare
from mesa_ws.message import Message

bus = BlockingHttpBus(sys.argv[1], key=sys.argv[2])

def send(who):
    for n in range(20):
        envelope = prepare(Message(0, [who, n]), ["0"])
        (receipt,) = bus.dispatch([envelope])
        assert receipt.message_id == envelope.message_id

send("before")
child = os.fork()
send("parent" if child else "child")
if child:
    assert os.waitpid(child, 0)[1] == 0
    send("after")
bus.close()
"""


async def test_a_fork_shares_no_connection(site: Site, api: DispatchApi) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "dev", "-c", FORKING, api.url, KEY, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")
    for who in ("before", "parent", "child", "after"):
        assert [n for sender, n in site.received if sender == who] == list(range(20))


@pytest.fixture
def stopped_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _request(body: bytes) -> bytes:
    head = (
        f"POST /v1/dispatch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}"
    )
    return head.encode() + b"\r\n\r\n" + body


async def _exchange(api: DispatchApi, *requests: bytes) -> bytes:
    """Send requests at once, the last one closing the connection; return all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    writer.write(b"".join(requests))
    answers = b""
    while answers.count(b"HTTP/1.1 ") < len(requests) or not answers.endswith(b"}"):
        answers += await reader.read(65536)
    writer.close()
    await writer.wait_closed()
    return answers

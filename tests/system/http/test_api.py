"""Dispatches through the HTTP API over real sockets: delivery, order and refusals."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mesa_ws.backend.http import AsyncHttpBus, BlockingHttpBus
from mesa_ws.backend.orders import give
from mesa_ws.backend.queries import OnlineCount
from mesa_ws.errors import BackendRefused, BackendUnavailable, InvalidRecipients, MesaError, Unsupported
from mesa_ws.http_server.server import DispatchApi
from mesa_ws.messages.envelope import Envelope, prepare
from mesa_ws.messages.message import DispatchEvent, Message
from mesa_ws.messages.order import Order, prepare_order
from mesa_ws.messages.receipt import Delivery, Receipt
from mesa_ws.messages.recipients import Recipients
from tests.http_site import KEY, Dispatching, FailingBus, HeldBus, Site, message


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
    assert [envelope.kind for envelope in site.received] == ["order", "disconnect"]


async def test_a_batch_arrives_in_its_order(site: Site, bus: Dispatching) -> None:
    receipts = await bus.dispatch(*(message(n) for n in range(1000)))
    assert site.received == list(range(1000))
    assert len(receipts) == 1000


async def test_an_empty_batch_sends_no_request(kind: str) -> None:
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


async def test_an_error_that_the_server_finds_is_raised_as_such(bus: Dispatching) -> None:
    with pytest.raises(InvalidRecipients, match=r"^batch\[1\]: recipients: expected an id of 1 to 255 bytes"):
        await bus.dispatch(message(1), replace(message(2), recipients=Recipients(False, ("",), frozenset())))


async def test_another_key_is_refused(kind: str, api: DispatchApi) -> None:
    async with Dispatching(kind, api.url, key="another") as bus:
        with pytest.raises(BackendRefused, match="refused the key"):
            await bus.dispatch(message(1))


async def test_a_key_without_the_right_is_refused(site: Site, tmp_path: Path) -> None:
    rights = {"sender": "dispatch", "reader": "read", "keeper": "admin"}
    file = tmp_path / "keys.toml"
    file.write_text("".join(f'[{n}]\nkey = "{n}-0123456789"\nrights = ["{r}"]\n' for n, r in rights.items()))
    refused = []
    async with DispatchApi(site.server, keys_file=file, port=0) as api:
        for name in rights:
            bus = AsyncHttpBus(api.url, key=f"{name}-0123456789")
            disconnect, revoke = (prepare_order(["0"], 1000, "", time).envelope() for time in (None, 0.0))
            calls = [bus.dispatch([message(name)]), bus.query(OnlineCount()), bus.purge("0")]
            calls += [give(bus, each) for each in (disconnect, revoke)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            await bus.aclose()
            refused += [(name, str(answer)) for answer in answers if isinstance(answer, BackendRefused)]
    assert refused == [
        (
            name,
            f"expected a key with the right {lacking}, got the key '{name}', which has '{has}'; "
            "use another key, or change its rights",
        )
        for name, lacking, has in (
            ("sender", "'read' or 'admin'", "dispatch"),
            ("sender", "'admin'", "dispatch"),
            ("sender", "'admin'", "dispatch"),
            ("reader", "'dispatch' or 'admin'", "read"),
            ("reader", "'admin'", "read"),
            ("reader", "'dispatch' or 'admin'", "read"),
            ("reader", "'admin'", "read"),
        )
    ]
    orders = [Order.read(each.body) for each in site.received if isinstance(each, Envelope)]
    assert [order and order.issued_before for order in orders] == [None, None, 0.0]
    assert [each for each in site.received if not isinstance(each, Envelope)] == ["sender", "keeper"]


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
    async with (
        DispatchApi(site.server, key=KEY, port=0, max_body=1000) as api,
        Dispatching(kind, api.url) as bus,
    ):
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


async def test_the_receipt_of_a_cancelled_call_goes_to_no_other_call(site: Site, api: DispatchApi) -> None:
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
        async with DispatchApi(site.server, key=KEY, port=0) as api, Dispatching("aio", api.url) as bus:
            await bus.dispatch(message(1))
        return site.received

    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(dispatch()) == [1]


FORKING = """
import os, sys
from mesa_ws.backend.http import BlockingHttpBus
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import Message

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

"""The middleware that comes with Mesa."""

import asyncio
import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mesa_ws.cli.process import JsonFormatter
from mesa_ws.errors import InvalidSettings
from mesa_ws.messages.message import Message
from mesa_ws.middleware import MessageLogging, RateLimit, StructuredLogging
from mesa_ws.middleware.prometheus import PrometheusMetrics
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Server
from tests.system.waiting import until

from .conftest import Joining, Serving, accepting
from .peer import Peer

EVENTS = "mesa_ws.events"


def answering(**options: Any) -> Server:
    server = accepting(**options)

    @server.on_message("PING")
    async def pong(message: Message, connection: Connection) -> None:
        connection.send(Message(0, message.data, "PONG"))

    return server


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# Rate limiting.


async def test_a_request_over_a_limit_is_answered_and_says_when_to_try_again(
    serving: Serving, join: Joining
) -> None:
    server, clock = answering(), Clock()
    limit = server.use(RateLimit(2, 1, "error", clock=clock))
    peer = await join(await serving(server))
    await peer.send("PING", 0)
    await peer.raw('{"op":0,"d":null,"t":"SUM","x":{"r":"1"}}')
    answer = await peer.until(d=None)
    text = "too many messages; try again in 0.5 seconds"
    assert answer["x"] == {"a": "1", "error": {"code": "busy", "message": text}}
    clock.now += 0.5
    await peer.raw('{"op":0,"d":null,"t":"SUM","x":{"r":"2"}}')
    assert (await peer.until(d=None))["x"]["error"]["code"] == "unanswered"
    assert limit.exceeded == 1


async def test_of_many_messages_at_once_exactly_the_burst_is_handled(serving: Serving, join: Joining) -> None:
    server = answering()
    limit = server.use(RateLimit(1, 150, "drop", types=["PING"], clock=Clock()))
    endpoint = await serving(server)
    peers = [await join(endpoint) for _ in range(3)]

    @server.on_message("LAST")
    async def last(message: Message, connection: Connection) -> None:
        connection.send(Message(0, None, "END"))

    async def flood(peer: Peer) -> list[Any]:
        for n in range(400):
            await peer.send("PING", n)
        await peer.authenticate("1")  # takes no token
        await peer.send("LAST")
        await peer.until(t="END")
        return [frame["d"] for frame in peer.frames if frame.get("t") == "PONG"]

    for numbers in await asyncio.gather(*map(flood, peers)):
        assert numbers == list(range(150))
    assert limit.exceeded == 750


async def test_a_client_over_its_limit_can_be_closed_and_may_come_back(
    serving: Serving, join: Joining
) -> None:
    server = answering()
    server.use(RateLimit(1, 1, "close", clock=Clock()))
    peer = await join(await serving(server))
    for n in range(5):
        await peer.send("PING", n)
    assert await peer.closed() == 4008
    assert peer.socket.close_reason == "rate limited"
    assert [frame["d"] for frame in peer.frames if frame.get("t") == "PONG"] == [0]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"rate": 0, "burst": 1}, "rate"),
        ({"rate": True, "burst": 1}, "rate"),
        ({"rate": 1, "burst": 0}, "burst"),
        ({"rate": 1, "burst": 1, "excess": "ignore"}, "excess"),
        ({"rate": 1, "burst": 1, "types": "PING"}, "types"),
        ({"rate": 1, "burst": 1, "per": "server"}, "per"),
        ({"rate": 1, "burst": 1, "bytes": -1}, "bytes"),
    ],
)
def test_a_limit_that_is_none_is_refused(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSettings, match=rf"^rate_limit\.{field}: expected"):
        RateLimit(**given)


# Structured logging.


def events(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.__dict__["fields"] for record in caplog.records if record.name == EVENTS]


async def test_a_connections_life_is_logged_for_programs(
    serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    server = answering()
    server.use(StructuredLogging)
    with caplog.at_level(logging.DEBUG, EVENTS):
        peer = await join(await serving(server), "alice")
        await peer.received("X")
        await peer.socket.close(4321)
        await until(lambda: len(events(caplog)) == 3)
    assert events(caplog) == [
        {"event": "connection", "connection": 1, "id": None, "remote": "127.0.0.1"},
        {"event": "authenticated", "connection": 1, "id": "alice"},
        {"event": "disconnection", "connection": 1, "id": "alice", "code": 4321},
    ]


async def test_messages_are_logged_without_what_they_say(
    serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    server = answering(sync=True)
    server.use(MessageLogging)

    @server.on_message("FAIL")
    async def fail(message: Message, connection: Connection) -> None:
        raise ValueError(message.data)

    with caplog.at_level(logging.DEBUG, EVENTS):
        endpoint = await serving(server)
        await server.send(Message(0, "secret", "STORED"), ["1"])
        peer = await join(endpoint)
        await peer.send(data={"id": "1", "token": "secret"}, op=2)
        await peer.send("FAIL", "secret")
        await peer.send("PING", "secret")
        await peer.until(t="PONG")
        await peer.send("X" * 200)
        await peer.received("X")
    told = {event["event"]: event for event in events(caplog)}
    assert told["error"] == {"event": "error", "connection": 1, "id": "1", "kind": "ValueError"}
    assert told["message_stored"] == {"event": "message_stored", "type": "STORED", "opcode": 0, "ids": 1}
    assert told["messages_redelivered"]["count"] == 1
    assert {
        "event": "message_sent",
        "type": "PONG",
        "opcode": 0,
        "connections": 1,
        "from_this_node": True,
    } in (events(caplog))
    assert max(len(event["type"] or "") for event in events(caplog) if "type" in event) == 100
    records = [record for record in caplog.records if record.name == EVENTS]
    assert "secret" not in str([(record.getMessage(), record.__dict__["fields"]) for record in records])


async def test_a_loss_is_logged_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    await StructuredLogging().on_lost("alice", 3)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "lost id='alice' count=3")
    ]


async def test_a_fork_is_logged_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    await StructuredLogging().on_forked(1.5)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "forked since=1.5")
    ]


async def test_the_fields_are_part_of_json_logs(caplog: pytest.LogCaptureFixture) -> None:
    await StructuredLogging().on_lost("alice", 3)
    line = json.loads(JsonFormatter().format(caplog.records[0]))
    assert line["fields"] == {"event": "lost", "id": "alice", "count": 3}


# Prometheus.


def numbers(registry: CollectorRegistry) -> dict[str, float]:
    """What is not zero, apart from when it began."""
    lines = generate_latest(registry).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs if float(value) and "_created" not in name}


async def test_what_a_server_does_is_counted(serving: Serving, join: Joining) -> None:
    server, registry, clock = answering(sync=True), CollectorRegistry(), Clock()
    server.use(lambda server: PrometheusMetrics(server, registry, clock=clock))

    @server.on_message("SLOW")
    async def slow(message: Message, connection: Connection) -> None:
        clock.now += 0.2
        raise ValueError

    endpoint = await serving(server)
    await server.send(Message(0, None, "STORED"), ["1", "2"])
    await server.send(Message(0, None, "STORED"), ["1"])
    one, two, anonymous = await join(endpoint, "1"), await join(endpoint, "1"), await join(endpoint)
    await server.send(Message(0, None, "HI"))
    await one.send("SLOW")
    assert await one.received("HI") == [None]
    assert await two.received("HI") == [None]
    await anonymous.socket.close(4999)
    await until(lambda: "other" in str(numbers(registry)))
    seen = numbers(registry)
    pings = seen["mesa_messages_received_total"] - 1
    assert seen["mesa_messages_sent_total"] == 3 + pings
    assert seen["mesa_handler_seconds_count"] == pings + 1
    assert seen["mesa_handler_seconds_sum"] == pytest.approx(0.2)
    assert seen['mesa_handler_seconds_bucket{le="0.1"}'] == pings
    assert {name: value for name, value in seen.items() if "handler_seconds" not in name} == {
        "mesa_connections": 2,
        "mesa_ids": 1,
        "mesa_connected_total": 3,
        "mesa_handshakes_begun_total": 3,
        "mesa_authenticated_total": 2,
        'mesa_closed_total{code="other"}': 1,
        "mesa_messages_received_total": pings + 1,
        "mesa_messages_sent_total": pings + 3,
        "mesa_messages_undeliverable_total": 3,
        "mesa_messages_redelivered_total": 4,
        "mesa_handler_errors_total": 1,
    }


def test_without_the_library_the_error_says_what_to_install() -> None:
    program = "import sys; sys.modules['prometheus_client'] = None; import mesa_ws.middleware.prometheus"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.stderr.splitlines()[-1].endswith("pip install 'mesa-ws[prometheus]'")


def test_each_server_needs_a_registry_of_its_own() -> None:
    registry = CollectorRegistry()
    PrometheusMetrics(Server(), registry)
    with pytest.raises(InvalidSettings, match="one for each server"):
        PrometheusMetrics(Server(), registry)
    PrometheusMetrics(Server(), CollectorRegistry())


async def test_losses_are_counted() -> None:
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(Server(), registry)
    await metrics.on_lost("1", 3)
    assert numbers(registry) == {"mesa_messages_lost_total": 3}


async def test_forks_are_counted() -> None:
    registry = CollectorRegistry()
    await PrometheusMetrics(Server(), registry).on_forked(1.5)
    assert numbers(registry) == {"mesa_forks_total": 1}


async def test_a_close_code_of_mesas_is_a_label(serving: Serving, join: Joining) -> None:
    server, registry = answering(), CollectorRegistry()
    server.use(lambda server: PrometheusMetrics(server, registry))
    endpoint = await serving(server)
    peer = await join(endpoint)
    await peer.socket.close(1000)
    await until(lambda: 'mesa_closed_total{code="1000"}' in numbers(registry))

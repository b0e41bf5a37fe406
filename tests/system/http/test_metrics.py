"""`/metrics`: who may read it, what the reference says of it, and that the numbers are right."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from mesa_ws import (
    AsyncDispatcher,
    BackendUnavailable,
    Client,
    Connection,
    Message,
    Portals,
    Refused,
    Server,
    Sync,
    User,
    serve,
)
from mesa_ws.close import CloseCode
from mesa_ws.http_server.metrics import MetricsServer
from mesa_ws.http_server.routes import RIGHTS
from mesa_ws.http_server.server import DispatchApi
from tests.redis_server import RedisServer
from tests.system.server.peer import Peer
from tests.system.waiting import until

KEYS = {"reader": "read", "sender": "dispatch"}
REFERENCE = (Path(__file__).parents[3] / "docs/reference/metrics.md").read_text(encoding="utf-8")
CELLS = [line.split("|")[1:4] for line in REFERENCE.splitlines() if line.startswith("| `mesa_")]
ROWS = {name.strip(" `"): (kind.strip(), labels.strip()) for name, kind, labels in CELLS}

Numbers = dict[str, float]


class Metrics:
    """The metrics of a site, as they are now.

    Attributes:
        kinds: the type of each metric.
        labels: the names of its labels.
        values: the values of each label of a metric.
        numbers: the value of each series.
    """

    def __init__(self, text: str) -> None:
        self.kinds: dict[str, str] = {}
        self.labels: dict[str, set[str]] = {}
        self.values: dict[tuple[str, str], set[str]] = {}
        self.numbers: Numbers = {}
        for family in text_string_to_metric_families(text):
            if not family.name.startswith("mesa_") or family.name.endswith("_created"):
                continue
            name = f"{family.name}_total" if family.type == "counter" else family.name
            assert name not in self.kinds, f"{name} is there twice"
            self.kinds[name] = family.type
            for sample in family.samples:
                given = ",".join(f'{label}="{value}"' for label, value in sample.labels.items())
                self.numbers[sample.name + (f"{{{given}}}" if given else "")] = sample.value
                self.labels.setdefault(name, set()).update(sample.labels)
                for label, value in sample.labels.items():
                    self.values.setdefault((name, label), set()).add(value)


async def get(url: str, key: str | None = None) -> tuple[int, str, str]:
    """Return status, head and body of what is at a URL."""
    host, _, path = url.removeprefix("http://").partition("/")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    writer.write(f"GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), head, body


class Site:
    """A server with its API and a port for metrics."""

    def __init__(self, url: str, api: DispatchApi, metrics: MetricsServer) -> None:
        self.url, self.api, self.metrics = url, api, metrics

    async def read(self) -> Metrics:
        """The metrics by the API, as a reader gets them."""
        status, head, body = await get(f"{self.api.url}/metrics", KEYS_OF["reader"])
        assert (status, "content-type: text/plain; version=" in head) == (200, True)
        return Metrics(body)


KEYS_OF = {name: f"{name}-0123456789abcdef" for name in KEYS}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.toml"
    tables = (f'[{name}]\nkey = "{KEYS_OF[name]}"\nrights = ["{right}"]\n' for name, right in KEYS.items())
    file.write_text("\n".join(tables))
    return file


@asynccontextmanager
async def serving(server: Server, keys_file: Path, **limits: Any) -> AsyncIterator[Site]:
    server.authenticator(believe)
    api = DispatchApi(server, keys_file=keys_file, port=0, max_body=1000, limits=limits)
    metrics = MetricsServer(server, port=0)
    async with serve(server, "127.0.0.1", 0, api, metrics) as endpoint:
        yield Site(endpoint.url, api, metrics)


async def believe(data: Any, connection: Connection) -> User:
    if data["id"] == "bad":
        raise Refused("bad")
    if data["id"] == "worse":
        raise ValueError
    return User(data["id"])


async def test_only_a_key_that_may_read_gets_them_by_the_api(keys_file: Path) -> None:
    async with serving(Server(), keys_file) as site:
        url = f"{site.api.url}/metrics"
        assert [(await get(url, key))[0] for key in (None, "x" * 20, KEYS_OF["sender"])] == [401, 401, 403]
        assert (await get(f"{site.api.url}/nothing", KEYS_OF["reader"]))[0] == 404
        seen = (await site.read()).numbers
        assert seen['mesa_api_requests_total{path="/metrics",status="401"}'] == 2
        assert seen['mesa_api_requests_total{path="/metrics",status="403"}'] == 1
        assert seen['mesa_api_requests_total{path="other",status="404"}'] == 1
        assert seen["mesa_api_connections"] == 1


async def test_on_a_port_of_their_own_they_need_no_key_and_nothing_else_is_there(keys_file: Path) -> None:
    async with serving(Server(), keys_file) as site:
        status, _, body = await get(site.metrics.url)
        assert status == 200
        assert Metrics(body).kinds.keys() <= (await site.read()).kinds.keys()
        base = site.metrics.url.removesuffix("/metrics")
        assert (await get(f"{base}/health/live"))[::2] == (200, '{"status":"live"}')
        assert (await get(f"{base}/health/ready"))[::2] == (200, '{"status":"ready"}')
        assert (await get(f"{base}/v1/presence"))[0] == 404
    with pytest.raises(ConnectionRefusedError):
        await get(site.metrics.url)


async def test_the_reference_lists_what_is_exported_with_types_and_labels(
    keys_file: Path, redis_url: str, namespace: str
) -> None:
    server = Server(redis_url, namespace=namespace, sync=True, portals=True)
    async with serving(server, keys_file) as site:
        await site.read()
        async with Client(site.url) as client:
            await client.authenticate({"id": "1"})
            seen = await site.read()
        await until(lambda: not server.connections)
        seen.labels |= (await site.read()).labels
    assert {name: (kind, names(labels)) for name, (kind, labels) in ROWS.items()} == {
        name: (kind, seen.labels.get(name, set())) for name, kind in seen.kinds.items()
    }
    for (name, label), values in seen.values.items():
        if label == "limit" or label in {"reason", "before", "delivery", "excess", "error"}:
            assert values == set(re.findall(r"`(\w+)`", ROWS[name][1])) - {label}
        elif label == "path":
            assert values <= {*RIGHTS, "other"}
        elif label == "code":
            assert values <= {str(int(code)) for code in CloseCode} | {"other"}
        else:
            assert label in {"le", "status"}


def names(labels: str) -> set[str]:
    """Names of the labels in a cell of the reference: each before a colon, or alone."""
    return {part.split("`")[1] for part in labels.split("; ") if part.startswith("`")}


async def test_logins_orders_and_stored_messages_are_counted(
    keys_file: Path, redis_url: str, namespace: str
) -> None:
    server = Server(redis_url, namespace=namespace, sync=Sync(enabled=True, max_messages=3))
    async with serving(server, keys_file) as site:
        for id in ("bad", "bad", "worse"):
            async with Peer.connect(site.url) as peer:
                await peer.send(data={"id": id}, op=2)
                await peer.closed()
        await server.send(Message(0, 0, "N"), ["1"])
        async with Peer.connect(site.url) as silent:
            await silent.authenticate("1")
            await server.send(Message(0, 1, "N"), ["1"])
            await server.disconnect(["other"])
            await server.disconnect(["other"])
            await until(lambda: server.fanout.orders.waiting is None)
            seen = (await site.read()).numbers
        assert seen['mesa_logins_failed_total{reason="refused"}'] == 2
        assert seen['mesa_logins_failed_total{reason="error"}'] == 1
        assert seen["mesa_outbox_unacknowledged_messages"] == 2
        assert seen["mesa_outbox_reading_connections"] == 0
        assert seen["mesa_orders_position"] == 2
        for number in range(5):
            await server.send(Message(0, number, "N"), ["2"])
        async with Client(site.url) as client:
            await client.authenticate({"id": "2"})
            client.on_message(lambda message: None)

            async def has_acknowledged() -> bool:
                return (await site.read()).numbers["mesa_outbox_unacknowledged_messages"] == 0

            await until(lambda: not server.connections[0].is_logging_in)
            seen = (await site.read()).numbers
            assert seen["mesa_messages_lost_and_told_total"] == 2
            assert seen["mesa_messages_lost_total"] == 0
            await until(has_acknowledged)


@pytest.mark.parametrize("place", ["memory", "redis"])
async def test_the_backlog_of_portals_is_counted(
    keys_file: Path, redis_url: str, namespace: str, place: str
) -> None:
    url = redis_url if place == "redis" else None
    server = Server(url, namespace=namespace, portals=Portals(enabled=True, backlog_max=160))
    async with serving(server, keys_file) as site, Peer.connect(site.url) as peer:
        await peer.authenticate("1")
        await peer.send("HI")

        async def has_all() -> bool:
            return (await site.read()).numbers["mesa_portal_backlog_events"] == 3

        await until(has_all)
        seen = (await site.read()).numbers
        assert seen["mesa_portals"] == 0
        assert seen["mesa_portal_queues_unowned"] == 16
        assert seen["mesa_portal_backlog_limit_events"] == 160
        assert 0 <= seen["mesa_portal_backlog_oldest_seconds"] < 3600


async def test_a_redis_that_dies_leaves_the_rest_and_shows(keys_file: Path, tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    redis.start()
    server = Server(redis.url, portals=True)
    try:
        async with serving(server, keys_file) as site:
            before = (await site.read()).numbers
            assert (before["mesa_redis_connected"], before["mesa_ready"]) == (1, 1)
            assert before["mesa_redis_memory_bytes"] > 100_000
            assert before['mesa_redis_failures_total{error="unavailable"}'] == 0
            assert before["mesa_redis_call_seconds_count"] >= 3
            assert (
                before['mesa_redis_call_seconds_bucket{le="+Inf"}'] == before["mesa_redis_call_seconds_count"]
            )
            redis.stop()
            await until(lambda: not server.is_ready)
            with pytest.raises(BackendUnavailable):
                await server.send(Message(0, 1, "N"), ["1"])
            seen = await site.read()
            assert (seen.numbers["mesa_redis_connected"], seen.numbers["mesa_ready"]) == (0, 0)
            assert seen.numbers['mesa_redis_failures_total{error="unavailable"}'] >= 1
            assert "mesa_portal_backlog_events" not in seen.kinds
            redis.start()
            await until(lambda: server.is_ready)
            after = (await site.read()).numbers
            assert after["mesa_redis_connected"] == 1
            assert after["mesa_redis_reconnects_total"] >= 1
    finally:
        redis.stop()


async def test_a_redis_user_that_may_not_ask_for_memory_is_asked_once(
    keys_file: Path, tmp_path: Path
) -> None:
    redis = RedisServer(tmp_path)
    redis.start()
    try:
        with Redis.from_url(redis.url) as admin:
            admin.execute_command("ACL SETUSER mesa on >secret ~* &* +@all -@dangerous +client|list")
        server = Server(redis.url.replace("://", "://mesa:secret@"), wire="mesa1", portals=True)
        async with serving(server, keys_file) as site:
            await site.read()
            seen = await site.read()
        assert "mesa_redis_memory_bytes" not in seen.kinds
        assert "mesa_portal_backlog_events" not in seen.kinds
        assert seen.numbers['mesa_redis_failures_total{error="refused"}'] == 1
        assert seen.numbers["mesa_redis_connected"] == 1
    finally:
        redis.stop()


async def test_what_limits_of_the_api_refuse_is_counted(keys_file: Path) -> None:
    limits = {"max_bodies": 1500, "head_timeout": 0.2, "body_timeout": 0.2, "max_connections": 3}
    async with serving(Server(), keys_file, **limits) as site:
        async with AsyncDispatcher(site.api.url, key=KEYS_OF["sender"]) as dispatcher:
            with pytest.raises(Exception, match="1000 bytes"):
                await dispatcher.dispatch(Message(0, "x" * 2000), ["1"])
        host, port = site.api.url.removeprefix("http://").split(":")
        head = f"POST /v1/dispatch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS_OF['sender']}\r\n"
        half = f"{head}Content-Length: 900\r\n\r\n{'x' * 800}".encode()
        open_ones = []
        for sent in (half, half, b"POST", b""):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(sent or half)
            open_ones.append((reader, writer))
        answers = [(await reader.read()).split(b" ")[1] for reader, _ in open_ones]
        for _, writer in open_ones:
            writer.close()
        assert sorted(answers[:2]) == [b"408", b"503"]
        assert answers[2:] == [b"408", b"503"]
        await until(lambda: site.api._counts.connections() == 0)
        seen = (await site.read()).numbers
    found = {limit: seen[f'mesa_api_refused_total{{limit="{limit}"}}'] for limit in (*limits, "max_body")}
    assert found == {
        "max_bodies": 1,
        "head_timeout": 1,
        "body_timeout": 1,
        "max_connections": 1,
        "max_body": 1,
    }
    assert seen["mesa_api_body_bytes"] == 0

"""A Redis that cannot do it now, and one that Mesa cannot use at all."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from mesa_ws import AsyncDispatcher, BackendRefused, BackendUnavailable, Dispatcher, Message, Portal, Sync
from mesa_ws.cli import main
from mesa_ws.settings import Wire
from mesa_ws.transports.run import serve
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.system.server.conftest import accepting
from tests.system.waiting import until

STORED = Sync(enabled=True)
WIRES: tuple[Wire, ...] = ("native", "mesa1")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis Cluster of one node, which has all slots."""
    server = RedisServer(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    yield server
    server.stop()


@pytest.fixture
def without_disk(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that can write no file."""
    directory = tmp_path / "gone"
    directory.mkdir()
    server = RedisServer(directory)
    server.start()
    directory.rmdir()
    yield server
    server.stop()


async def fail_to_save(client: redis.Redis) -> None:
    """Let Redis come to know that it cannot save, as with a full disk."""
    client.config_set("save", "3600 1")
    client.bgsave()

    def is_known() -> bool:
        return bool(client.info("persistence")["rdb_last_bgsave_status"] == "err")

    await until(is_known)


@pytest.mark.parametrize("trouble", ["MISCONF", "NOREPLICAS"])
@pytest.mark.parametrize("wire", WIRES)
async def test_a_redis_that_may_not_write_now_is_unavailable(
    without_disk: RedisServer, namespace: str, wire: Wire, trouble: str
) -> None:
    with (
        redis.Redis.from_url(without_disk.url) as client,
        Dispatcher(without_disk.url, namespace=namespace, wire=wire, sync=STORED) as blocking,
    ):
        async with AsyncDispatcher(
            without_disk.url, namespace=namespace, wire=wire, sync=STORED
        ) as dispatcher:
            if trouble == "MISCONF":
                await fail_to_save(client)
            else:
                client.config_set("min-replicas-to-write", 1)
            for call in (
                dispatcher.dispatch(Message(0, "x"), ["1"]),
                asyncio.to_thread(blocking.dispatch, Message(0, "x"), ["1"]),
            ):
                with pytest.raises(BackendUnavailable, match=trouble) as unavailable:
                    await call
                assert not unavailable.value.maybe_sent
            client.config_set("save", "")
            client.config_set("min-replicas-to-write", 0)
            await dispatcher.dispatch(Message(0, "x"), ["1"])


async def use(kind: str, url: str, namespace: str, wire: Wire) -> None:
    if kind == "server":
        async with serve(accepting(backend=url, namespace=namespace, wire=wire)):
            pass
    elif kind == "portal":
        async with Portal(url, namespace=namespace, wire=wire):
            pass
    elif kind == "dispatcher":
        async with AsyncDispatcher(url, namespace=namespace, wire=wire) as dispatcher:
            await dispatcher.dispatch(Message(0, "x"), ["1"])
    elif kind == "presence":
        async with AsyncDispatcher(url, namespace=namespace, wire=wire) as dispatcher:
            await dispatcher.presence.count()
    else:
        with Dispatcher(url, namespace=namespace, wire=wire) as blocking:
            await asyncio.to_thread(blocking.dispatch, Message(0, "x"), ["1"])


@pytest.mark.parametrize("wire", WIRES)
async def test_a_cluster_is_refused_at_the_first_connection(
    cluster: RedisServer, namespace: str, wire: Wire
) -> None:
    for kind in ("server", "portal", "dispatcher", "presence", "blocking"):
        with pytest.raises(BackendRefused) as refused:
            await use(kind, cluster.url, namespace, wire)
        text = str(refused.value)
        assert "Redis Cluster is not supported; use a single Redis" in text, kind
        assert "\n" not in text
    with redis.Redis.from_url(cluster.url) as client:
        assert client.dbsize() == 0


async def test_a_cluster_is_known_without_the_right_to_ask_for_info(
    cluster: RedisServer, namespace: str
) -> None:
    with redis.Redis.from_url(cluster.url) as client:
        client.execute_command("ACL", "SETUSER", "mesa", "on", ">secret", "~*", "&*", "+@all", "-info")
    with pytest.raises(BackendRefused, match="Redis Cluster is not supported"):
        await use("dispatcher", f"redis://mesa:secret@127.0.0.1:{cluster.port}", namespace, "mesa1")


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "command",
    [
        ("dispatch", "EVENT", "1", "--url", "URL", "--to", "1"),
        ("presence", "--url", "URL"),
        ("serve", "--insecure-demo-auth", "--port", "0", "--api-port", "0", "--redis", "URL"),
    ],
    ids=lambda command: command[0],
)
def test_commands_refuse_a_cluster_in_one_line(
    cluster: RedisServer, wire: Wire, command: tuple[str, ...]
) -> None:
    arguments = [cluster.url if each == "URL" else each for each in command]
    result = CliRunner().invoke(main, [*arguments, "--wire", wire], prog_name="mesa")
    assert result.exit_code != 0
    [line] = [line for line in result.output.splitlines() if "Cluster" in line]
    assert "Redis Cluster is not supported; use a single Redis" in line
    assert "Traceback" not in result.output

"""What Redis keeps of orders to all nodes, and how a node learns that some have passed it by."""

from collections.abc import Callable

import pytest
import redis
from msgspec.structs import replace
from redis.exceptions import OutOfMemoryError

from mesa_ws import AsyncDispatcher
from mesa_ws.backend.queries import CarriedOut
from mesa_ws.backend.redis import RedisBackend
from mesa_ws.backend.redis.channel import read_frame
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.wire import NativeWire
from mesa_ws.messages.order import RETENTION, Order, OrderStatus, prepare_order
from mesa_ws.messages.receipt import Position
from mesa_ws.transports.run import serve
from tests.redis_server import RedisServer
from tests.system.redis.script_runner import ScriptRunner
from tests.system.server.conftest import accepting
from tests.system.waiting import until

DAY = 86_400_000


@pytest.fixture
def runner(redis_server: RedisServer, namespace: str) -> ScriptRunner:
    runner = ScriptRunner(redis.Redis(port=redis_server.port), namespace)
    runner.join("node")
    return runner


def give(runner: ScriptRunner, order: Order) -> Position:
    position = runner.send(order.envelope()).deliveries["*"].position
    assert position is not None
    return position


async def test_whatever_is_kept_of_orders_ends(redis_url: str, namespace: str) -> None:
    async with serve(accepting(backend=redis_url, namespace=namespace), port=0) as endpoint:
        async with AsyncDispatcher(redis_url, namespace=namespace) as dispatcher:
            await dispatcher.revoke(["1", "2"], 100.0)
            await dispatcher.disconnect(["1"])
        assert endpoint.url
        keys = Keys(namespace)
        with redis.Redis.from_url(redis_url) as client:
            lives = {
                key: client.pttl(key)
                for key in (
                    *(keys.orders, keys.orders_position, keys.carried_out),
                    *(keys.revocations + id for id in "12"),
                )
            }
            assert client.llen(keys.orders) == 2
    assert all(DAY * 0.99 < life <= 2.1 * DAY for life in lives.values()), lives
    assert max(lives[key] for key in lives if key != keys.orders_position) <= DAY * 17 / 16
    assert lives[keys.orders_position] > lives[keys.orders] + DAY * 0.99  # or the next order would be a loss


def test_the_oldest_orders_make_room(runner: ScriptRunner) -> None:
    for _ in range(3):
        order = prepare_order(["1"], 4100, "").envelope()
        runner.send(replace(order, retention=RETENTION._replace(max_messages=2)))
    assert runner.client.llen(runner.keys.orders) == 2


def test_the_later_of_two_revocations_counts_and_lasts(runner: ScriptRunner) -> None:
    key = runner.keys.revocations + "1"
    for revoked, expected in ((100.5, b"100.5"), (99.0, b"100.5"), (100.75, b"100.75")):
        runner.client.pexpire(key, 1000)
        give(runner, prepare_order(["1"], 1008, "", revoked))
        assert (runner.client.get(key), runner.client.pttl(key) > 0.99 * DAY) == (expected, True)
    runner.client.set(key, "what?")
    give(runner, prepare_order(["1"], 1008, "", 1.0))
    assert runner.client.get(key) == b"1.0"
    runner.client.delete(key)
    runner.client.lpush(key, "what?")
    give(runner, prepare_order(["1"], 1008, "", 2.0))
    assert runner.client.get(key) == b"2.0"


def test_heartbeats_keep_the_numbers_of_orders_and_messages_to_everybody(runner: ScriptRunner) -> None:
    give(runner, prepare_order(["1"], 4100, ""))
    runner.dispatch("*")
    runner.client.hset(runner.keys.carried_out, "node", "A:1")
    numbered = (runner.keys.orders_position, runner.keys.broadcast_position)
    longer = [runner.client.pttl(key) for key in numbered]
    for command in runner.node_commands().heartbeat(join=False):
        runner.run(command) if command[0] != "PEXPIRE" else runner.ask(*command)
    assert all(runner.client.pttl(key) > life - 10_000 for key, life in zip(numbered, longer, strict=True))
    for key in (*numbered, runner.keys.carried_out):
        runner.client.pexpire(key, 1000)
    for command in runner.node_commands().heartbeat(join=False)[1:]:
        runner.ask(*command)
    for key in (*numbered, runner.keys.carried_out):
        assert runner.client.pttl(key) > 500_000


def test_a_marker_says_so_after_messages_skipped_the_node(runner: ScriptRunner) -> None:
    marked = []
    with runner.client.pubsub() as listener:  # type: ignore[no-untyped-call]
        listener.subscribe(runner.keys.channel("node"))

        def beat(*, join: bool = False) -> str:
            runner.beat(join=join)
            found = next(each for each in listener.listen() if each["type"] == "message")
            return read_frame(found["data"])[0].message_id

        marked.append(beat())
        runner.kill()
        marked += [beat(join=True), beat(join=True)]
        runner.client.hset(runner.keys.signs, "+node", 1)  # its lease ran out while Redis was away
        marked += [beat(), beat()]
    assert marked == ["", "missed", "", "missed", ""]


class Watcher:
    """Notes for each doubt whether other processes send to the node."""

    def __init__(self) -> None:
        self.is_sent_to: Callable[[], bool] = lambda: False
        self.doubts: list[bool] = []

    def doubted(self) -> None:
        self.doubts.append(self.is_sent_to())

    async def catch_up(self) -> None: ...

    def came_online(self, id: str) -> None: ...

    went_offline = portal_joined = portal_left = came_online

    def forked(self, since: float) -> None: ...


async def test_a_node_that_took_its_lease_again_doubts_when_others_send_to_it(
    redis_url: str, namespace: str
) -> None:
    watcher, backend = Watcher(), RedisBackend(redis_url, namespace=namespace, lease=0.3)
    await backend.open(lambda envelope: None, watcher)
    with redis.Redis.from_url(redis_url) as client:
        leases, node = Keys(namespace).leases, backend.node_id
        watcher.is_sent_to = lambda: float(client.zscore(leases, node) or 0) > 1
        client.zadd(leases, {node: 1})
        await until(lambda: True in watcher.doubts)
    assert watcher.doubts[0] is False  # an order could come after what is read for that doubt
    await backend.aclose()


def test_an_order_that_has_gone_with_a_redis_is_done_by_those_that_did_it_before() -> None:
    epochs = {"A": 2, "B": 4}
    nodes = {"behind": "A:2", "ahead": "A:3", "later": "B:4", "newest": "C:4", "silent": "", "odd": "A:?"}
    replies = [b"C", ",".join(f"{epoch}:{top}" for epoch, top in reversed(epochs.items())).encode()]
    replies += [part.encode() for node in nodes.items() for part in node]

    def progress(epoch: str, sequence: int) -> OrderStatus:
        found: OrderStatus = NativeWire(None).query(CarriedOut(Position(epoch, sequence))).read([replies])
        return found

    assert progress("A", 2).done == ("behind", "ahead", "newest")
    assert progress("A", 3) == OrderStatus(("ahead",), ("behind", "later", "newest", "silent", "odd"))
    assert progress("C", 4).done == progress("lost", 9).done == ("newest",)


def test_nothing_is_revoked_in_a_full_redis_and_the_caller_learns_it(own_redis: RedisServer) -> None:
    runner = ScriptRunner(redis.Redis.from_url(own_redis.url), "full")
    runner.join("node")
    give(runner, prepare_order(["0"], 1008, "", 1.0))
    runner.client.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        give(runner, prepare_order(["1"], 1008, "", 1.0))
    assert not runner.client.exists(runner.keys.revocations + "1")

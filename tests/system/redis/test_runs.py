"""When Redis may have forgotten what it said, and when it only has another replication id; see runs.lua."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from mesa_ws.backend.outbox import Start
from mesa_ws.backend.redis_wire.lease import Pulse
from mesa_ws.backend.redis_wire.runs import Runs
from mesa_ws.messages.receipt import Position
from tests.redis_server import RELEASES, RedisServer
from tests.system.redis.script_runner import ScriptRunner, bodies

LIMIT = 20.0

Starting = Callable[..., "redis.Redis"]


@pytest.fixture(params=RELEASES)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Starting]:
    """Starts a Redis, or another one that is a replica of the one before."""
    servers: list[RedisServer] = []
    clients: list[redis.Redis] = []

    def begin(*options: str) -> "redis.Redis":
        directory = tmp_path / str(len(servers))
        directory.mkdir()
        server = RedisServer(directory, *options, release=request.param)
        servers.append(server)
        server.start("--repl-diskless-sync-delay", "0")
        clients.append(redis.Redis(port=server.port))
        return clients[-1]

    yield begin
    for client in clients:
        client.close()
    for server in servers:
        server.stop()


def port_of(client: "redis.Redis") -> int:
    return int(client.connection_pool.connection_kwargs["port"])


def id_of(client: "redis.Redis") -> str:
    return str(client.info("replication")["master_replid"])


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def follow(client: "redis.Redis", master: "redis.Redis") -> None:
    """Make one Redis a replica of another, and wait until it has all of its data."""
    client.replicaof("127.0.0.1", port_of(master))
    wait_until(lambda: client.info("replication").get("master_link_status") == "up")
    wait_until(lambda: client.get("last") == b"1" if master.set("last", 1) else False)


class Told:
    """What the clients of a namespace would be told of their positions."""

    def __init__(self, client: "redis.Redis", namespace: str) -> None:
        self.runner = ScriptRunner(client, namespace)
        self.runner.join()
        self.empty = Position(self.runner.page("guest", Start(is_wire2=True)).epoch, 0)
        self.last = self.runner.fill(3)
        self.runner.dispatch("*")
        top = self.runner.broadcasts().page
        self.everybody = Position(top.epoch, top.top)

    def on(self, client: "redis.Redis") -> list[tuple[str, bool]]:
        """Status, and whether a rollback is reported: an outbox, an empty one, messages to `*`."""
        runner = ScriptRunner(client, self.runner.keys.namespace or "")
        runner.join()
        pages = (
            runner.resume(self.last),
            runner.resume(self.empty, "guest", is_wire2=True),
            runner.broadcasts(self.everybody).page,
        )
        return [(page.status, bool(page.rollback)) for page in pages]


SAME = [("resumed", False)] * 3
ROLLED_BACK = [("forked", True)] * 3


def test_a_first_replica_and_its_end_are_no_forks(start: Starting, namespace: str) -> None:
    master = start("--repl-backlog-ttl", "1")
    told, ids = Told(master, namespace), [id_of(master)]
    replica = start()
    follow(replica, master)
    ids.append(id_of(master))
    assert told.on(master) == SAME
    replica.replicaof("NO", "ONE")
    wait_until(lambda: id_of(master) != ids[-1])
    ids.append(id_of(master))
    assert told.on(master) == SAME
    assert told.runner.fill(1) == told.last._replace(sequence=4)
    follow(replica, master)  # which is a first replica again
    assert told.on(master) == SAME
    assert len({*ids, id_of(master)}) == 4


def test_a_promotion_forks_on_the_way_there_and_back(start: Starting, namespace: str) -> None:
    first, second = start(), start()
    told = Told(first, namespace)
    follow(second, first)
    assert told.on(first) == SAME
    second.replicaof("NO", "ONE")
    assert told.on(second) == ROLLED_BACK
    again = Told(second, namespace)
    follow(first, second)
    first.replicaof("NO", "ONE")
    assert again.on(first) == ROLLED_BACK


def test_a_master_that_was_a_replica_in_between_forks_though_nothing_ran_there(
    start: Starting, namespace: str
) -> None:
    first, second = start(), start()
    told = Told(first, namespace)
    follow(second, first)
    told.on(first)
    second.replicaof("NO", "ONE")
    forgotten = told.runner.fill(2)  # by the master that was left
    follow(first, second)
    first.replicaof("NO", "ONE")
    assert told.on(first) == ROLLED_BACK
    page = ScriptRunner(first, namespace).resume(forgotten)
    assert (page.status, page.start, bool(page.rollback)) == ("forked", 3, True)


def test_a_change_without_loss_after_a_promotion_is_none(start: Starting, namespace: str) -> None:
    first, second = start(), start("--repl-backlog-ttl", "1")
    Told(first, namespace)
    follow(second, first)
    second.replicaof("NO", "ONE")
    told, was = Told(second, namespace), id_of(second)
    wait_until(lambda: id_of(second) != was)
    assert told.on(second) == SAME


def test_a_restart_forks(tmp_path: Path, namespace: str) -> None:
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    try:
        with redis.Redis(port=server.port) as client:
            told = Told(client, namespace)
        server.stop()
        server.start()
        with redis.Redis(port=server.port) as client:
            assert told.on(client) == ROLLED_BACK
            assert told.on(client) == ROLLED_BACK
    finally:
        server.stop()


def test_a_user_that_may_not_ask_for_the_process_is_told_of_every_change(
    start: Starting, namespace: str
) -> None:
    master = start()
    rights = ("on", ">p", "~*", "&*", "+@all", "-info", "+info|replication", "+info|memory")
    master.execute_command("ACL", "SETUSER", "u", *rights)  # type: ignore[no-untyped-call]
    with redis.Redis(port=port_of(master), username="u", password="p") as user:
        told = Told(user, namespace)
        assert told.on(user) == SAME
        follow(start(), master)
        assert told.on(user) == ROLLED_BACK


def test_what_was_stored_before_runs_were_recorded_goes_on(start: Starting, namespace: str) -> None:
    master = start()
    told = Told(master, namespace)
    for key in (told.runner.keys.run, told.runner.keys.run.replace(".0}", ".b}")):
        assert master.delete(key) == 1
    assert told.on(master) == SAME
    follow(start(), master)
    assert told.on(master) == SAME


def test_a_record_of_another_type_is_replaced(start: Starting, namespace: str) -> None:
    master = start()
    told = Told(master, namespace)
    master.delete(told.runner.keys.run)
    master.set(told.runner.keys.run, "foreign")
    assert told.on(master) == SAME
    follow(start(), master)
    assert told.on(master) == SAME


def test_the_record_ends_its_life(start: Starting, namespace: str) -> None:
    master = start()
    told = Told(master, namespace)
    for key in (told.runner.keys.run, told.runner.keys.run.replace(".0}", ".b}")):
        master.pexpire(key, 1000)
        told.on(master)
        assert 29 * 86_400_000 < master.pttl(key) <= 30 * 86_400_000


def test_numbers_go_on_in_the_epoch_of_before(start: Starting, namespace: str) -> None:
    master = start()
    told = Told(master, namespace)
    follow(start(), master)
    assert told.runner.fill(1) == told.last._replace(sequence=4)
    assert told.runner.known_head().forks == ()
    assert told.runner.acknowledge(told.last) == 3
    assert bodies(told.runner.resume(told.last)) == [b"1"]


# What servers are told


class Node:
    """Beats for one node, and keeps what it was told."""

    def __init__(self, client: "redis.Redis", namespace: str, name: str) -> None:
        self.runner, self.runs, self._name = ScriptRunner(client, namespace), Runs(), name
        self.told: list[float] = []

    def beat(self, client: "redis.Redis | None" = None, *, hears: bool = True) -> list[float]:
        """Beat once; return all that the node was told."""
        self.runner.client = client or self.runner.client
        call = self.runner.node_commands(self._name).heartbeat(join=True, runs=self.runs.args)[0]
        found = Pulse.of(self.runner.run(call)).run
        since = self.runs.ended(found) if hears else None
        self.told += [] if since is None else [since]
        return self.told


def now(client: "redis.Redis") -> float:
    seconds, microseconds = client.time()
    return float(seconds + microseconds / 1_000_000)


def promoted(start: Starting, node: Node) -> "redis.Redis":
    """A replica that took over from the Redis of a node."""
    replica = start()
    follow(replica, node.runner.client)
    replica.replicaof("NO", "ONE")
    return replica


def test_one_node_is_told_once_that_a_run_has_ended(start: Starting, namespace: str) -> None:
    first = start()
    nodes = [Node(first, namespace, name) for name in "ab"]
    before = now(first)
    assert [node.beat() for node in nodes] == [[], []]
    after = now(first)
    second = promoted(start, nodes[0])
    nodes[0].runner.dispatch()  # to the master that was left
    ScriptRunner(second, namespace).dispatch()
    for _ in range(3):
        for node in nodes:
            node.beat(second)
    assert (len(nodes[0].told), nodes[1].told) == (1, [])
    assert before - 0.001 <= nodes[0].told[0] <= after
    third = promoted(start, nodes[0])
    assert [len(node.beat(third)) for node in (*nodes, *nodes)] == [2, 0, 2, 0]


def test_a_first_replica_is_no_end_that_servers_are_told_of(start: Starting, namespace: str) -> None:
    node = Node(start(), namespace, "a")
    node.beat()
    follow(start(), node.runner.client)
    assert node.beat() == node.beat() == []


@pytest.mark.parametrize("dies", [False, True])
def test_who_did_not_hear_it_is_told_again_and_another_node_if_it_died(
    start: Starting, namespace: str, dies: bool
) -> None:
    first = start()
    nodes = [Node(first, namespace, name) for name in "ab"]
    for node in nodes:
        node.beat()
    second = promoted(start, nodes[0])
    nodes[0].beat(second, hears=False)
    if dies:
        nodes[0].runner.kill("a")
    else:
        assert nodes[1].beat(second) == []
        assert len(nodes[0].beat()) == 1
    assert len(nodes[1].beat(second)) == int(dies)


def test_who_comes_later_is_told_what_was_not(start: Starting, namespace: str) -> None:
    first = Node(start(), namespace, "a")
    first.beat()
    second = promoted(start, first)
    ScriptRunner(second, namespace).dispatch()
    late = Node(second, namespace, "late")
    assert len(late.beat()) == 1
    assert len(late.beat()) == 1
    late.runner.kill("late")
    assert Node(second, namespace, "later").beat() == []


def test_a_redis_that_lost_all_is_told_once_with_no_time(start: Starting, namespace: str) -> None:
    first, empty = start(), start()
    nodes = [Node(first, namespace, name) for name in "ab"]
    for node in nodes:
        node.beat()
    ScriptRunner(empty, namespace).dispatch()
    for _ in range(3):
        for node in nodes:
            node.beat(empty)
    assert [node.told for node in nodes] == [[0.0], []]

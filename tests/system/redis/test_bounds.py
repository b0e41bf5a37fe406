"""What has to hold of Redis as a whole: every key ends, and a full one still lets people in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import OutOfMemoryError

from mesa_ws.backend.importing import Legacy
from mesa_ws.backend.outbox import Start
from mesa_ws.backend.redis import wire
from mesa_ws.messages.receipt import Position
from tests.redis_server import RedisServer
from tests.system.redis.script_runner import KEEP, ScriptRunner, bodies


@pytest.fixture
def runner(tmp_path: Path, namespace: str) -> Iterator[ScriptRunner]:
    """A runner on a Redis of its own."""
    server = RedisServer(tmp_path)
    server.start()
    with redis.Redis(port=server.port) as client:
        runner = ScriptRunner(client, namespace)
        runner.join("node", "other")
        yield runner
    server.stop()


def endless(runner: ScriptRunner) -> list[bytes]:
    return [key for key in runner.client.scan_iter() if runner.client.pttl(key) < 0]


def test_every_key_ends_also_those_of_ids_that_never_existed(runner: ScriptRunner) -> None:
    for n in range(100):
        runner.dispatch([f"sent {n}"], retention=KEEP._replace(max_messages=1))
        runner.dispatch([f"sent {n}"], retention=KEEP._replace(max_messages=1))
        position = Position(runner.page(f"came {n}").epoch, 0)
        runner.acknowledge(position, id=f"came {n}")
        runner.acknowledge(position, id=f"acknowledged {n}")
        runner.attach(f"held {n}", "other")
        runner.detach(f"left {n}")
        runner.detach(f"came {n}")
        runner.run(wire.purge(runner.keys, [f"purged {n}", f"sent {n}"])[0])
        runner.head(f"asked {n}")
    runner.dispatch("*")
    runner.broadcasts()
    runner.dispatch(["nobody"], retention=None, idempotency_key="key")
    runner.dispatch("*", retention=None, idempotency_key="other key")
    runner.kill("other")
    runner.reap()
    runner.client.hset(runner.keys.position("sent 1"), "s", "what?")
    runner.client.set(runner.keys.outbox("sent 2"), "what?")
    runner.dispatch(["sent 1", "sent 2"])
    assert runner.client.dbsize() > 300
    assert endless(runner) == []
    assert not [key for key in runner.client.scan_iter() if b"acknowledged" in key or b"asked" in key]


def test_a_position_lives_on_while_its_id_stays_connected(runner: ScriptRunner) -> None:
    runner.fill(1)
    runner.page()
    runner.client.pexpire(runner.keys.position("alice"), 1000)
    runner.attach()
    assert runner.client.pttl(runner.keys.position("alice")) > 86_400_000


def test_a_position_outlives_its_last_message(runner: ScriptRunner) -> None:
    runner.page()
    runner.client.pexpire(runner.keys.position("alice"), 1000)
    last = runner.fill(1, retention=KEEP._replace(ttl=366 * 86_400.0))
    assert runner.client.pttl(runner.keys.position("alice")) > 366 * 86_400_000
    runner.acknowledge(last)
    runner.page()
    assert runner.client.pttl(runner.keys.position("alice")) > 366 * 86_400_000


def test_a_full_redis_stores_nothing_more_and_lets_people_in_and_out(runner: ScriptRunner) -> None:
    runner.page()
    last = runner.fill(3)
    runner.broadcasts()
    legacy = Legacy("old", "alice", b"[1]", [("m", b"1")])
    runner.kill("other")
    runner.client.config_set("maxmemory", 1)
    for recipients in (["alice"], "*"):
        with pytest.raises(OutOfMemoryError):
            runner.dispatch(recipients)
    with pytest.raises(OutOfMemoryError):
        runner.run(legacy.move(runner.keys, KEEP, 60.0))
    assert bodies(runner.resume(last._replace(sequence=1))) == [b"2", b"3"]
    assert runner.page("bob", Start("fresh", None, True)).top == 0
    assert runner.acknowledge(last) == 3
    assert runner.dispatch(retention=None).nodes == 1
    assert runner.dispatch("*", retention=None, idempotency_key="key").nodes == 1
    assert runner.broadcasts().page.top == 0
    assert runner.beat().has_lease
    assert runner.run(wire.purge(runner.keys, ["alice"])[0]) == [0]
    runner.reap()
    runner.detach(grace=0.001)
    while not runner.depart():
        pass

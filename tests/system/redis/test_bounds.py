"""What has to hold of Redis as a whole: every key ends, and a full one still lets people in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import OutOfMemoryError

from mesa_ws.backend.mesa1.importing import Legacy
from mesa_ws.backend.outbox import Start
from mesa_ws.backend.redis import wire
from mesa_ws.messages.receipt import Position
from tests.redis_server import RedisServer
from tests.system.redis.script_runner import KEEP, Hand, bodies


@pytest.fixture
def hand(tmp_path: Path, namespace: str) -> Iterator[Hand]:
    """A hand on a Redis of its own."""
    server = RedisServer(tmp_path)
    server.start()
    with redis.Redis(port=server.port) as client:
        hand = Hand(client, namespace)
        hand.join("node", "other")
        yield hand
    server.stop()


def endless(hand: Hand) -> list[bytes]:
    return [key for key in hand.client.scan_iter() if hand.client.pttl(key) < 0]


def test_every_key_ends_also_those_of_ids_that_never_existed(hand: Hand) -> None:
    for n in range(100):
        hand.dispatch([f"sent {n}"], retention=KEEP._replace(max_messages=1))
        hand.dispatch([f"sent {n}"], retention=KEEP._replace(max_messages=1))
        position = Position(hand.page(f"came {n}").epoch, 0)
        hand.acknowledge(position, id=f"came {n}")
        hand.acknowledge(position, id=f"acknowledged {n}")
        hand.attach(f"held {n}", "other")
        hand.detach(f"left {n}")
        hand.detach(f"came {n}")
        hand.run(wire.purge(hand.keys, [f"purged {n}", f"sent {n}"])[0])
        hand.head(f"asked {n}")
    hand.dispatch("*")
    hand.broadcasts()
    hand.dispatch(["nobody"], retention=None, idempotency_key="key")
    hand.dispatch("*", retention=None, idempotency_key="other key")
    hand.kill("other")
    hand.reap()
    hand.client.hset(hand.keys.position("sent 1"), "s", "what?")
    hand.client.set(hand.keys.outbox("sent 2"), "what?")
    hand.dispatch(["sent 1", "sent 2"])
    assert hand.client.dbsize() > 300
    assert endless(hand) == []
    assert not [key for key in hand.client.scan_iter() if b"acknowledged" in key or b"asked" in key]


def test_a_position_lives_on_while_its_id_stays_connected(hand: Hand) -> None:
    hand.fill(1)
    hand.page()
    hand.client.pexpire(hand.keys.position("alice"), 1000)
    hand.attach()
    assert hand.client.pttl(hand.keys.position("alice")) > 86_400_000


def test_a_position_outlives_its_last_message(hand: Hand) -> None:
    hand.page()
    hand.client.pexpire(hand.keys.position("alice"), 1000)
    last = hand.fill(1, retention=KEEP._replace(ttl=366 * 86_400.0))
    assert hand.client.pttl(hand.keys.position("alice")) > 366 * 86_400_000
    hand.acknowledge(last)
    hand.page()
    assert hand.client.pttl(hand.keys.position("alice")) > 366 * 86_400_000


def test_a_full_redis_stores_nothing_more_and_lets_people_in_and_out(hand: Hand) -> None:
    hand.page()
    last = hand.fill(3)
    hand.broadcasts()
    legacy = Legacy("old", "alice", b"[1]", [("m", b"1")])
    hand.kill("other")
    hand.client.config_set("maxmemory", 1)
    for recipients in (["alice"], "*"):
        with pytest.raises(OutOfMemoryError):
            hand.dispatch(recipients)
    with pytest.raises(OutOfMemoryError):
        hand.run(legacy.move(hand.keys, KEEP, 60.0))
    assert bodies(hand.resume(last._replace(sequence=1))) == [b"2", b"3"]
    assert hand.page("bob", Start("fresh", None, True)).top == 0
    assert hand.acknowledge(last) == 3
    assert hand.dispatch(retention=None).nodes == 1
    assert hand.dispatch("*", retention=None, idempotency_key="key").nodes == 1
    assert hand.broadcasts().page.top == 0
    assert hand.beat().has_lease
    assert hand.run(wire.purge(hand.keys, ["alice"])[0]) == [0]
    hand.reap()
    hand.detach(grace=0.001)
    while not hand.depart():
        pass

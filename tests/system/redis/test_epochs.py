"""Positions in outboxes that Redis may have forgotten parts of, and data that Mesa did not write."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from mesa_ws.backend.outbox import Start
from mesa_ws.messages.receipt import Position
from tests.redis_server import RedisServer
from tests.system.redis.script_runner import Hand, bodies


@pytest.fixture
def hand(redis_url: str, namespace: str) -> Iterator[Hand]:
    with redis.Redis.from_url(redis_url) as client:
        hand = Hand(client, namespace)
        hand.join()
        yield hand


# Positions


def test_a_new_run_goes_on_with_the_numbers_in_a_new_epoch(hand: Hand) -> None:
    before = hand.fill(3)
    hand.restart()
    after = hand.fill(1)
    assert (after.sequence, after.epoch == before.epoch) == (4, False)
    assert hand.known_head().forks == (before,)


def test_a_position_of_the_last_run_is_carried_over(hand: Hand) -> None:
    before = hand.fill(3)
    hand.restart()
    page = hand.resume(before._replace(sequence=2))
    assert (page.status, page.start, page.lost, bodies(page)) == ("forked", 2, 0, [b"3"])
    assert page.ended == 3
    assert page.epoch != before.epoch


def test_a_fork_names_the_rollback_alike_for_every_outbox(hand: Hand) -> None:
    last = {id: hand.fill(1, id) for id in ("alice", "bob")}
    page = hand.resume(last["alice"])
    assert (page.status, page.rollback) == ("resumed", "")
    for id in last:
        hand.restart(id)
    names = {hand.resume(position, id).rollback for id, position in last.items()}
    assert len(names) == 1
    assert len(names.pop()) == 16


def test_a_position_behind_the_fork_holds_up_to_it(hand: Hand) -> None:
    hand.fill(3)
    epoch = hand.known_head().epoch
    hand.restart()
    hand.fill(2)
    page = hand.resume(Position(epoch, 5))
    assert (page.status, page.start, page.lost, bodies(page)) == ("forked", 3, 0, [b"1", b"2"])


def test_what_is_acknowledged_of_the_last_run_counts_up_to_the_fork(hand: Hand) -> None:
    hand.page()
    before = hand.fill(3)
    hand.restart()
    hand.fill(2)
    assert hand.acknowledge(before._replace(sequence=5)) == 3
    assert hand.known_head().length == 2


def test_reading_forks_too_so_that_no_number_is_given_twice(hand: Hand) -> None:
    before = hand.fill(3)
    hand.restart()
    assert hand.page().epoch != before.epoch
    assert hand.page().epoch == hand.fill(1).epoch


def test_some_forks_are_remembered_and_older_ones_reset(hand: Hand) -> None:
    positions = []
    for _ in range(12):
        positions.append(hand.fill(1))
        hand.restart()
    statuses = [hand.resume(position).status for position in positions]
    assert statuses[0] == "reset"
    assert set(statuses[-6:]) == {"forked"}
    assert statuses == sorted(statuses, reverse=True)
    assert len(hand.client.hget(hand.keys.position("alice"), "f") or b"") <= 160


def test_a_position_that_was_never_given_out_is_reset_to_what_is_acknowledged(hand: Hand) -> None:
    hand.page()
    last = hand.fill(3)
    hand.acknowledge(last._replace(sequence=1))
    foreign = hand.fill(2, "bob")
    made_up = [
        last._replace(sequence=4),
        foreign,
        Position("0" * 16, 1),
        Position("a" * 16, 2),
        Position("", 1),
    ]
    made_up += [last._replace(sequence=-1), last._replace(sequence=10**40), Position("\ud800", 1)]
    for position in made_up:
        page = hand.resume(position)
        assert (page.status, page.start, page.lost, bodies(page)) == ("reset", 1, 0, [b"2", b"3"])
    assert hand.page(start=Start("resume")).status == "reset"


def test_a_position_before_what_is_left_says_how_many_are_lost(hand: Hand) -> None:
    hand.page()
    last = hand.fill(5)
    hand.acknowledge(last._replace(sequence=3))
    page = hand.resume(last._replace(sequence=1))
    assert (page.status, page.start, page.lost) == ("resumed", 3, 2)


# What Redis says of itself


def replication_id(server: RedisServer) -> str:
    with redis.Redis(port=server.port) as client:
        return str(client.info("replication")["master_replid"])


def test_the_replication_id_changes_when_redis_starts_from_its_log(tmp_path: Path, namespace: str) -> None:
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    assert_forks_on_restart(server, namespace, lambda client: None)


def test_the_replication_id_changes_when_redis_starts_from_a_snapshot(tmp_path: Path, namespace: str) -> None:
    assert_forks_on_restart(RedisServer(tmp_path), namespace, lambda client: client.save())


def assert_forks_on_restart(
    server: RedisServer, namespace: str, persist: Callable[["redis.Redis"], object]
) -> None:
    server.start()
    try:
        was = replication_id(server)
        with redis.Redis(port=server.port) as client:
            last = Hand(client, namespace).fill(2)
            persist(client)
        server.stop()
        server.start()
        assert replication_id(server) != was
        with redis.Redis(port=server.port) as client:
            hand = Hand(client, namespace)
            hand.join()
            page = hand.resume(last._replace(sequence=1))
            assert (page.status, bodies(page)) == ("forked", [b"2"])
    finally:
        server.stop()


def test_a_rolled_back_redis_gives_no_number_twice(tmp_path: Path, namespace: str) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        with redis.Redis(port=server.port) as client:
            hand = Hand(client, namespace)
            hand.join()
            hand.fill(2)
            client.save()
            forgotten = hand.fill(3)
        server.stop()
        server.start()
        with redis.Redis(port=server.port) as client:
            hand = Hand(client, namespace)
            hand.join()
            assert hand.acknowledge(forgotten) == -1
            after = hand.fill(3)
            assert (after.sequence, after.epoch == forgotten.epoch) == (5, False)
            page = hand.resume(forgotten)
            assert (page.status, page.start, bodies(page)) == ("forked", 2, [b"1", b"2", b"3"])
    finally:
        server.stop()


def test_the_replication_id_changes_when_a_replica_is_promoted(tmp_path: Path, namespace: str) -> None:
    master = RedisServer(tmp_path / "master")
    replica = RedisServer(tmp_path / "replica", "--replicaof", "127.0.0.1", str(master.port))
    for name in ("master", "replica"):
        (tmp_path / name).mkdir()
    master.start()
    replica.start()
    try:
        with redis.Redis(port=master.port) as client, redis.Redis(port=replica.port) as other:
            wait_for_replica(client)
            hand = Hand(client, namespace)
            hand.dispatch(durability="replicated")
            last = hand.fill(2)
            assert client.wait(1, 10_000) == 1
            master.stop()
            other.replicaof("NO", "ONE")
            promoted = Hand(other, namespace)
            promoted.join()
            assert promoted.resume(last).status == "forked"
            assert promoted.fill(1).sequence == 4
    finally:
        master.stop()
        replica.stop()


def wait_for_replica(client: "redis.Redis") -> None:
    """Writing makes WAIT count only replicas that are online by then."""
    client.set("there", 1)
    assert client.wait(1, 10_000) == 1


# Corrupt data


def short(entry: bytes) -> bytes:
    return entry[:20]


def boastful(entry: bytes) -> bytes:
    return entry[:24] + b"\xff" + entry[25:40]


def corrupt_fields(**fields: object) -> Callable[[Hand, str], object]:
    return lambda hand, who: hand.client.hset(hand.keys.position(who), mapping=fields)  # type: ignore[arg-type]


def replaced(purpose: str) -> Callable[[Hand, str], object]:
    return lambda hand, who: hand.client.set(getattr(hand.keys, purpose)(who), "what?")


def rewritten(index: int, change: Callable[[bytes], bytes]) -> Callable[[Hand, str], object]:
    def corrupt(hand: Hand, id: str) -> None:
        outbox = hand.keys.outbox(id)
        hand.ask("LSET", outbox, index, change(hand.ask("LINDEX", outbox, index)))

    return corrupt


CORRUPTIONS = {
    "a position of another type": replaced("position"),
    "an outbox of another type": replaced("outbox"),
    "no epoch": lambda hand, who: hand.client.hdel(hand.keys.position(who), "e"),
    "no run": lambda hand, who: hand.client.hdel(hand.keys.position(who), "r"),
    "a foreign epoch": corrupt_fields(e="who knows"),
    "a top of text": corrupt_fields(s="three"),
    "a top that is negative": corrupt_fields(s=-1),
    "a top below what is acknowledged": corrupt_fields(a=4),
    "a top below the messages": corrupt_fields(s=2),
    "bytes of text": corrupt_fields(t="many"),
    "forks of text": corrupt_fields(f="e:1;rm"),
    "ranges of text": corrupt_fields(x="all"),
    "a short entry": rewritten(0, short),
    "an entry with a long message id": rewritten(0, boastful),
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("way", ["dispatch", "page"])
def test_what_mesa_did_not_write_is_set_aside_for_that_id_alone(
    hand: Hand, corruption: str, way: str
) -> None:
    last = hand.fill(3)
    hand.fill(3, "bob")
    CORRUPTIONS[corruption](hand, "alice")
    if way == "dispatch":
        receipt = hand.dispatch(["alice", "bob"])
        assert [each.position and each.position.sequence for each in receipt.deliveries.values()] == [1, 4]
    else:
        answer = hand.enter()
        assert (answer.is_corrupt, answer.page.top, answer.page.entries) == (True, 0, ())
    page = hand.resume(last)
    assert (page.status, page.epoch != last.epoch) == ("reset", True)
    assert 0 < hand.client.pttl(hand.keys.set_aside("alice")) <= 7 * 86_400_000
    assert not hand.enter("bob").is_corrupt


@pytest.mark.parametrize("change", [short, boastful])
def test_an_entry_in_the_middle_that_mesa_did_not_write_is_found_when_it_is_read(
    hand: Hand, change: Callable[[bytes], bytes]
) -> None:
    hand.fill(3)
    rewritten(1, change)(hand, "alice")
    answer = hand.enter()
    assert (answer.is_corrupt, answer.page.status, answer.page.entries) == (True, "fresh", ())
    assert hand.fill(1).sequence == 1


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_nothing_is_acknowledged_or_told_of_what_cannot_be_read(hand: Hand, corruption: str) -> None:
    hand.page()
    last = hand.fill(3)
    CORRUPTIONS[corruption](hand, "alice")
    assert hand.acknowledge(last) in (-1, 3)
    assert hand.head() is None or "entry" in corruption


def test_messages_without_a_position_are_not_given_out(hand: Hand) -> None:
    hand.fill(3)
    hand.client.delete(hand.keys.position("alice"))
    answer = hand.enter()
    assert (answer.is_corrupt, answer.page.top, answer.page.entries) == (False, 0, ())
    assert hand.client.exists(hand.keys.outbox("alice")) == 0


def test_a_corrupt_user_key_hinders_no_message_from_being_stored(hand: Hand) -> None:
    hand.client.set(hand.keys.user("alice"), "what?", ex=60)
    delivery = hand.dispatch().deliveries["alice"]
    assert (delivery.stored, delivery.online, delivery.dropped) == (True, 0, None)

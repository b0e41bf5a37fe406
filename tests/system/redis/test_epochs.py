"""Positions in outboxes that Redis may have forgotten parts of, and data that Mesa did not write."""

from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from mesa_ws.backend.outbox import Start
from mesa_ws.messages.receipt import Position
from tests.redis_server import RedisServer
from tests.system.redis.script_runner import ScriptRunner, bodies

# Positions


def test_a_new_run_goes_on_with_the_numbers_in_a_new_epoch(runner: ScriptRunner) -> None:
    before = runner.fill(3)
    runner.restart()
    after = runner.fill(1)
    assert (after.sequence, after.epoch == before.epoch) == (4, False)
    assert runner.known_head().forks == (before,)


def test_a_position_of_the_last_run_is_carried_over(runner: ScriptRunner) -> None:
    before = runner.fill(3)
    runner.restart()
    page = runner.resume(before._replace(sequence=2))
    assert (page.status, page.start, page.lost, bodies(page)) == ("forked", 2, 0, [b"3"])
    assert page.ended == 3
    assert page.epoch != before.epoch


def test_a_fork_names_the_rollback_alike_for_every_outbox(runner: ScriptRunner) -> None:
    last = {id: runner.fill(1, id) for id in ("alice", "bob")}
    page = runner.resume(last["alice"])
    assert (page.status, page.rollback) == ("resumed", "")
    for id in last:
        runner.restart(id)
    names = {runner.resume(position, id).rollback for id, position in last.items()}
    assert len(names) == 1
    assert len(names.pop()) == 16


def test_a_position_behind_the_fork_holds_up_to_it(runner: ScriptRunner) -> None:
    runner.fill(3)
    epoch = runner.known_head().epoch
    runner.restart()
    runner.fill(2)
    page = runner.resume(Position(epoch, 5))
    assert (page.status, page.start, page.lost, bodies(page)) == ("forked", 3, 0, [b"1", b"2"])


def test_what_is_acknowledged_of_the_last_run_counts_up_to_the_fork(runner: ScriptRunner) -> None:
    runner.page()
    before = runner.fill(3)
    runner.restart()
    runner.fill(2)
    assert runner.acknowledge(before._replace(sequence=5)) == 3
    assert runner.known_head().length == 2


def test_reading_forks_too_so_that_no_number_is_given_twice(runner: ScriptRunner) -> None:
    before = runner.fill(3)
    runner.restart()
    assert runner.page().epoch != before.epoch
    assert runner.page().epoch == runner.fill(1).epoch


def test_some_forks_are_remembered_and_older_ones_reset(runner: ScriptRunner) -> None:
    positions = []
    for _ in range(12):
        positions.append(runner.fill(1))
        runner.restart()
    statuses = [runner.resume(position).status for position in positions]
    assert statuses[0] == "reset"
    assert set(statuses[-6:]) == {"forked"}
    assert statuses == sorted(statuses, reverse=True)
    assert len(runner.client.hget(runner.keys.position("alice"), "f") or b"") <= 160


def test_a_position_that_was_never_given_out_is_reset_to_what_is_acknowledged(runner: ScriptRunner) -> None:
    runner.page()
    last = runner.fill(3)
    runner.acknowledge(last._replace(sequence=1))
    foreign = runner.fill(2, "bob")
    made_up = [
        last._replace(sequence=4),
        foreign,
        Position("0" * 16, 1),
        Position("a" * 16, 2),
        Position("", 1),
    ]
    made_up += [last._replace(sequence=-1), last._replace(sequence=10**40), Position("\ud800", 1)]
    for position in made_up:
        page = runner.resume(position)
        assert (page.status, page.start, page.lost, bodies(page)) == ("reset", 1, 0, [b"2", b"3"])
    assert runner.page(start=Start("resume")).status == "reset"


def test_a_position_before_what_is_left_says_how_many_are_lost(runner: ScriptRunner) -> None:
    runner.page()
    last = runner.fill(5)
    runner.acknowledge(last._replace(sequence=3))
    page = runner.resume(last._replace(sequence=1))
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
            last = ScriptRunner(client, namespace).fill(2)
            persist(client)
        server.stop()
        server.start()
        assert replication_id(server) != was
        with redis.Redis(port=server.port) as client:
            runner = ScriptRunner(client, namespace)
            runner.join()
            page = runner.resume(last._replace(sequence=1))
            assert (page.status, bodies(page)) == ("forked", [b"2"])
    finally:
        server.stop()


def test_a_rolled_back_redis_gives_no_number_twice(tmp_path: Path, namespace: str) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        with redis.Redis(port=server.port) as client:
            runner = ScriptRunner(client, namespace)
            runner.join()
            runner.fill(2)
            client.save()
            forgotten = runner.fill(3)
        server.stop()
        server.start()
        with redis.Redis(port=server.port) as client:
            runner = ScriptRunner(client, namespace)
            runner.join()
            assert runner.acknowledge(forgotten) == -1
            after = runner.fill(3)
            assert (after.sequence, after.epoch == forgotten.epoch) == (5, False)
            page = runner.resume(forgotten)
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
            runner = ScriptRunner(client, namespace)
            runner.dispatch(durability="replicated")
            last = runner.fill(2)
            assert client.wait(1, 10_000) == 1
            master.stop()
            other.replicaof("NO", "ONE")
            promoted = ScriptRunner(other, namespace)
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


def corrupt_fields(**fields: object) -> Callable[[ScriptRunner, str], object]:
    return lambda runner, who: runner.client.hset(runner.keys.position(who), mapping=fields)  # type: ignore[arg-type]


def replaced(purpose: str) -> Callable[[ScriptRunner, str], object]:
    return lambda runner, who: runner.client.set(getattr(runner.keys, purpose)(who), "what?")


def rewritten(index: int, change: Callable[[bytes], bytes]) -> Callable[[ScriptRunner, str], object]:
    def corrupt(runner: ScriptRunner, id: str) -> None:
        outbox = runner.keys.outbox(id)
        runner.ask("LSET", outbox, index, change(runner.ask("LINDEX", outbox, index)))

    return corrupt


CORRUPTIONS = {
    "a position of another type": replaced("position"),
    "an outbox of another type": replaced("outbox"),
    "no epoch": lambda runner, who: runner.client.hdel(runner.keys.position(who), "e"),
    "no run": lambda runner, who: runner.client.hdel(runner.keys.position(who), "r"),
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


PASSED_OVER = {
    *("no epoch", "no run", "a foreign epoch", "forks of text", "ranges of text"),
    *("a short entry", "an entry with a long message id"),
}
"""What a dispatch does not find that goes by hints."""


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("way", ["dispatch", "dispatch by hints", "page"])
def test_what_mesa_did_not_write_is_set_aside_for_that_id_alone(
    runner: ScriptRunner, corruption: str, way: str
) -> None:
    last = runner.fill(3)
    runner.fill(3, "bob")
    if way == "dispatch":
        runner.forget_hints()
    CORRUPTIONS[corruption](runner, "alice")
    is_found = way == "dispatch" or corruption not in PASSED_OVER
    if way != "page":
        receipt = runner.dispatch(["alice", "bob"])
        sequences = [each.position and each.position.sequence for each in receipt.deliveries.values()]
        assert sequences == [1 if is_found else 4, 4]
    if way == "page" or not is_found:
        answer = runner.enter()
        assert (answer.is_corrupt, answer.page.top, answer.page.entries) == (True, 0, ())
    page = runner.resume(last)
    assert (page.status, page.epoch != last.epoch) == ("reset", True)
    assert 0 < runner.client.pttl(runner.keys.set_aside("alice")) <= 7 * 86_400_000
    assert not runner.enter("bob").is_corrupt
    assert runner.fill(2).sequence == (1 if way == "page" or not is_found else 2) + 1


@pytest.mark.parametrize("change", [short, boastful])
def test_an_entry_in_the_middle_that_mesa_did_not_write_is_found_when_it_is_read(
    runner: ScriptRunner, change: Callable[[bytes], bytes]
) -> None:
    runner.fill(3)
    rewritten(1, change)(runner, "alice")
    answer = runner.enter()
    assert (answer.is_corrupt, answer.page.status, answer.page.entries) == (True, "fresh", ())
    assert runner.fill(1).sequence == 1


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_nothing_is_acknowledged_or_told_of_what_cannot_be_read(
    runner: ScriptRunner, corruption: str
) -> None:
    runner.page()
    last = runner.fill(3)
    CORRUPTIONS[corruption](runner, "alice")
    assert runner.acknowledge(last) in (-1, 3)
    assert runner.head() is None or "entry" in corruption


def test_messages_without_a_position_are_not_given_out(runner: ScriptRunner) -> None:
    runner.fill(3)
    runner.client.delete(runner.keys.position("alice"))
    answer = runner.enter()
    assert (answer.is_corrupt, answer.page.top, answer.page.entries) == (False, 0, ())
    assert runner.client.exists(runner.keys.outbox("alice")) == 0


def test_a_corrupt_user_key_hinders_no_message_from_being_stored(runner: ScriptRunner) -> None:
    runner.client.set(runner.keys.user("alice"), "what?", ex=60)
    delivery = runner.dispatch().deliveries["alice"]
    assert (delivery.stored, delivery.online, delivery.dropped) == (True, 0, None)

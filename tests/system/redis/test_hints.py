"""Messages that are appended by hints: what hints pass over, and when they do not count.

Time cannot be let pass in Redis, so what an outbox remembers is moved into the past instead.
"""

import random
import struct
from itertools import pairwise
from typing import Any

import pytest

from mesa_ws.backend.outbox import Start
from mesa_ws.backend.redis import wire
from mesa_ws.messages.envelope import Retention
from mesa_ws.messages.receipt import Position
from tests.system.redis.script_runner import KEEP, ScriptRunner, bodies

SECOND, DAY = 1000, 86_400_000
WIRE2 = Start("fresh", None, True)


class Runner(ScriptRunner):
    """Runs scripts on outboxes that time passes for."""

    def pass_time(self, milliseconds: int) -> None:
        """Let so much time pass for the outbox of alice."""
        position, outbox = self.keys.position("alice"), self.keys.outbox("alice")
        for index, raw in enumerate(self.entries()):
            at, expires = struct.unpack_from(">dd", raw)
            times = struct.pack(">dd", at - milliseconds, expires - milliseconds)
            self.ask("LSET", outbox, index, times + raw[16:])
        hints = self.hints()
        ends, before, lasts, since = struct.unpack_from(">dddd", hints, 32)
        moved = struct.pack(">dddd", ends - milliseconds, before, lasts - milliseconds, since)
        self.client.hset(position, "h", hints[:32] + moved)
        for key in (position, outbox):
            left: Any = self.client.pttl(key)
            if left >= 0:
                self.client.pexpire(key, max(0, left - milliseconds))

    def entries(self) -> list[bytes]:
        found: Any = self.client.lrange(self.keys.outbox("alice"), 0, -1)
        return list(found)

    def lives(self) -> tuple[int, int]:
        """Return the life of the list and that of the hash."""
        list_life: Any = self.client.pttl(self.keys.outbox("alice"))
        hash_life: Any = self.client.pttl(self.keys.position("alice"))
        return list_life, hash_life

    def calls(self) -> dict[str, int]:
        """Return how often each command was called since the last time."""
        stats: Any = self.client.info("commandstats")
        self.client.config_resetstat()
        return {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}


@pytest.fixture
def runner(runner: ScriptRunner) -> Runner:
    return Runner(runner.client, runner.keys.namespace or "")


def keeping(seconds: float) -> Retention:
    return KEEP._replace(ttl=seconds)


def test_most_messages_are_appended_without_a_look_at_the_list(runner: Runner) -> None:
    runner.fill(2)
    runner.calls()
    runner.fill(20)
    calls = runner.calls()
    assert (calls["rpush"], calls["hset"], calls["evalsha"]) == (20, 40, 20)  # and their records
    assert calls["pexpire"] == 20  # those of the records
    assert {"lindex", "llen", "ltrim"}.isdisjoint(calls)


def test_a_list_is_extended_until_hints_say_that_it_was(runner: Runner) -> None:
    runner.page(start=WIRE2)
    runner.acknowledge(runner.fill(3))
    hints, extended = [runner.hints()], []
    runner.calls()
    for _ in range(4):
        runner.fill(1)
        hints.append(runner.hints())
        extended.append(runner.calls()["pexpire"] - 1)  # without that of the record
    assert extended == [1, 1, 0, 0]
    is_same = [earlier == later for earlier, later in pairwise(hints)]
    assert is_same == [True, False, True, True]


@pytest.mark.parametrize("seed", range(4))
def test_no_message_expires_with_its_list_or_hash(runner: Runner, seed: int) -> None:
    """Whatever was acknowledged, purged or has expired before, and however long messages live."""
    chance = random.Random(seed)
    longest = 0.0
    runner.page(start=WIRE2)
    last = runner.fill(1)
    for _ in range(120):
        act = chance.choice(
            ("send", "send", "send", "send", "acknowledge", "all", "all", "wait", "purge", "read")
        )
        if act == "send":
            last = runner.fill(1, retention=keeping(chance.choice((60, 60, 1000))))
            now: Any = runner.client.time()
            head = runner.known_head()
            unread = runner.entries()[-(head.top - head.acknowledged) :]
            ends = [struct.unpack_from(">dd", raw)[1] - now[0] * 1000 for raw in unread]
            list_life, hash_life = runner.lives()
            assert ends[-1] > 58 * SECOND
            assert list_life > max(ends) - 2 * SECOND
            longest = max(longest, *ends)
            assert hash_life > max(ends) + DAY - 2 * SECOND
        elif act == "wait":
            runner.pass_time(chance.choice((5, 30, 59, 62)) * SECOND)
        elif act == "purge" and chance.random() < 0.3:
            runner.run(wire.purge(runner.keys, ["alice"])[0])
        elif act == "read":
            runner.page(start=WIRE2)
        else:
            low = runner.known_head().acknowledged
            sequence = last.sequence if act == "all" else chance.randint(low, last.sequence)
            assert runner.acknowledge(last._replace(sequence=sequence), window=20.0) == sequence
    assert longest > 990 * SECOND


def test_a_message_after_a_list_that_is_about_to_end_prolongs_it(runner: Runner) -> None:
    runner.page(start=WIRE2)
    for _ in range(3):
        runner.acknowledge(runner.fill(3), window=1.0)
        assert runner.lives()[0] <= SECOND
        runner.fill(1)
        assert runner.lives()[0] > 58 * SECOND


def test_a_number_that_was_taken_back_says_nothing_about_lives(runner: Runner) -> None:
    runner.page(start=WIRE2)
    last, hints = runner.fill(3), runner.hints()
    taken_back = hints[:-8] + struct.pack(">d", 4)
    runner.client.hset(runner.keys.position("alice"), "h", taken_back)
    runner.acknowledge(last, window=1.0)
    runner.fill(1)
    assert runner.lives()[0] > 58 * SECOND


def test_lives_are_extended_before_a_message_would_outlive_them(runner: Runner) -> None:
    runner.fill(2, retention=keeping(1600))
    assert runner.lives()[0] <= 1700 * SECOND
    for passed in (90, 90):
        runner.pass_time(passed * SECOND)
        runner.fill(1, retention=keeping(1600))
    list_life, hash_life = runner.lives()
    assert 1690 * SECOND < list_life <= 1700 * SECOND
    assert list_life + DAY - SECOND < hash_life <= list_life + DAY + SECOND
    assert len(runner.entries()) == 4


def test_a_head_that_has_expired_leaves_when_hints_say_that_it_may_have(runner: Runner) -> None:
    runner.fill(2, retention=keeping(60))
    runner.fill(1, retention=keeping(1000))
    runner.pass_time(61 * SECOND)
    runner.fill(1, retention=keeping(1000))
    assert len(runner.entries()) == 2
    assert runner.known_head().dropped == ((1, 2),)
    runner.pass_time(1001 * SECOND)
    runner.fill(1)
    runner.calls()
    runner.fill(1)
    assert "lindex" not in runner.calls()
    assert (len(runner.entries()), runner.known_head().dropped) == (2, ((1, 4),))


def test_hints_know_the_message_that_expires_first(runner: Runner) -> None:
    runner.page()
    last = runner.fill(1, retention=keeping(1000))
    runner.fill(2, retention=keeping(60))
    runner.acknowledge(last)
    runner.pass_time(61 * SECOND)
    runner.fill(1, retention=keeping(1000))
    assert len(runner.entries()) == 1


def test_hints_about_bytes_are_too_high_at_most(runner: Runner) -> None:
    runner.page()
    last, few = runner.fill(5, retention=KEEP), KEEP._replace(max_bytes=25)
    runner.acknowledge(last._replace(sequence=4))
    displaced = [
        runner.dispatch(body=bytes(10), retention=few).deliveries["alice"].displaced for _ in range(4)
    ]
    assert displaced == [0, 0, 2, 1]
    assert struct.unpack_from(">d", runner.hints(), 40)[0] > 4  # they were renewed
    assert bodies(runner.page()) == [bytes(10)] * 2
    last = runner.fill(1, retention=few)
    runner.acknowledge(last)
    assert runner.dispatch(body=bytes(20), retention=few).deliveries["alice"].displaced == 0


def test_full_outboxes_of_one_dispatch_count_what_each_of_them_drops(runner: Runner) -> None:
    few = KEEP._replace(max_messages=2)
    ids = {"alice": 5, "bob": 3, "carol": 4}
    for id, count in ids.items():
        runner.fill(count, id, retention=few)
    runner.dispatch(list(ids), retention=few)
    for id, count in ids.items():
        assert runner.known_head(id).dropped == ((1, count - 1),)
        assert runner.client.hget(runner.keys.position(id), "d") == b"%d" % (count - 1)


def test_what_was_set_aside_says_nothing_about_bytes(runner: Runner) -> None:
    few = KEEP._replace(max_bytes=25)
    runner.page()
    for _ in range(5):
        position = runner.dispatch(body=bytes(1000)).deliveries["alice"].position
    assert position is not None
    runner.acknowledge(position._replace(sequence=3))
    runner.ask("RPUSH", runner.keys.outbox("alice"), *runner.entries() * 2)  # more than there are numbers
    receipts = [runner.dispatch(body=bytes(10), retention=few) for _ in range(4)]
    assert [receipt.deliveries["alice"].displaced for receipt in receipts] == [0, 0, 1, 1]


def test_a_list_of_another_type_is_set_aside_with_the_number_taken_back(runner: Runner) -> None:
    first, outbox = runner.fill(3), runner.keys.outbox("alice")
    runner.client.set(outbox, "what?")
    position = runner.dispatch(["alice"], b"new").deliveries["alice"].position
    assert position is not None
    assert (position.epoch != first.epoch, position.sequence) == (True, 1)
    assert runner.client.hget(runner.keys.aside(runner.keys.position("alice")), "s") == b"3"
    assert runner.client.get(runner.keys.aside(outbox)) == b"what?"
    assert bodies(runner.page()) == [b"new"]


@pytest.mark.parametrize("hints", [b"", b"x", b"x" * 63, b"x" * 64, b"\0" * 64, b"\xff" * 64, b"0" * 65])
def test_hints_that_mesa_did_not_write_do_not_count(runner: Runner, hints: bytes) -> None:
    first = runner.fill(2)
    runner.client.hset(runner.keys.position("alice"), "h", hints)
    assert runner.fill(2) == Position(first.epoch, 4)
    assert (len(runner.hints()), runner.hints()[16:32]) == (64, first.epoch.encode())
    assert runner.lives()[0] > 58 * SECOND
    assert len(runner.page().entries) == 4


@pytest.mark.parametrize("how", ["purged", "expired", "evicted with its position", "set aside"])
def test_an_outbox_that_begins_again_gets_its_lives(runner: Runner, how: str) -> None:
    first, keys = runner.fill(3), runner.keys
    if how == "purged":
        runner.run(wire.purge(keys, ["alice"])[0])
    elif how == "expired":
        runner.client.delete(keys.outbox("alice"))
    elif how == "set aside":
        runner.client.hset(keys.position("alice"), "a", 9)
    else:
        runner.client.delete(keys.outbox("alice"), keys.position("alice"))
    after = runner.fill(2)
    goes_on = how in {"purged", "expired"}
    assert after.sequence == (5 if goes_on else 2)
    assert (after.epoch == first.epoch) == goes_on
    list_life, hash_life = runner.lives()
    assert list_life > 58 * SECOND
    assert hash_life > DAY + 58 * SECOND
    assert len(runner.page().entries) == 2

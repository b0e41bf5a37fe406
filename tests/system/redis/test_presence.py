"""Presence: each change is reported once in the whole cluster."""

from collections.abc import Iterator

import pytest
import redis

from tests.system.redis.script_runner import ScriptRunner


@pytest.fixture
def runner(redis_url: str, namespace: str) -> Iterator[ScriptRunner]:
    with redis.Redis.from_url(redis_url) as client:
        runner = ScriptRunner(client, namespace)
        runner.join("node", "other")
        yield runner


def test_an_id_comes_online_with_its_first_connection_in_the_cluster(runner: ScriptRunner) -> None:
    assert [runner.attach(), runner.attach(node="other")] == [True, False]


def test_coming_online_is_answered_until_it_was_told(runner: ScriptRunner) -> None:
    assert [runner.attach(), runner.attach(), runner.attach(announced=True), runner.attach()] == [
        True,
        True,
        False,
        False,
    ]


def test_an_id_is_offline_when_its_grace_is_over(runner: ScriptRunner) -> None:
    runner.attach()
    runner.detach(grace=60.0)
    assert runner.depart() == []
    runner.client.zadd(runner.keys.graces, {"alice": 1})
    assert runner.beat().gone == 0  # forgotten: it was due long ago
    runner.attach()
    runner.detach(grace=0.001)
    while not runner.beat().gone:
        pass
    assert [runner.depart(), runner.depart()] == [["alice"], []]


def test_who_comes_back_within_the_grace_never_left(runner: ScriptRunner) -> None:
    runner.attach()
    runner.detach(grace=0.001)
    assert runner.attach() is False
    assert runner.depart() == []


def test_who_left_for_good_comes_online_again(runner: ScriptRunner) -> None:
    runner.attach()
    runner.detach(grace=0.001)
    while not runner.depart():
        pass
    assert runner.attach() is True


def test_nobody_leaves_while_another_node_holds_them(runner: ScriptRunner) -> None:
    runner.attach()
    runner.attach(node="other")
    runner.detach(grace=0.001)
    assert (runner.beat().gone, runner.depart(), runner.count()) == (0, [], 1)


def test_the_ids_of_a_dead_node_are_offline_at_once(runner: ScriptRunner) -> None:
    runner.attach()
    runner.attach("bob")
    runner.attach("bob", "other")
    runner.kill()
    assert runner.attach(node="other") is False  # no node reported that it was away
    runner.detach(node="other")
    runner.reap()
    assert runner.depart() == ["alice"]


def test_a_late_detach_begins_no_second_grace(runner: ScriptRunner) -> None:
    runner.attach()
    runner.detach(grace=0.001)
    while not runner.depart():
        pass
    runner.detach()
    assert runner.client.zcard(runner.keys.graces) == 0


def test_a_late_clean_up_does_not_prolong_a_grace(runner: ScriptRunner) -> None:
    runner.attach()
    runner.detach(grace=5.0)
    due = runner.due()
    runner.detach(grace=60.0)
    assert runner.due() == due
    runner.client.sadd(runner.keys.held("node"), "alice")
    runner.kill()
    runner.reap()
    assert runner.due() < due


def test_an_id_whose_key_was_lost_is_not_held_forever(runner: ScriptRunner) -> None:
    runner.attach()
    runner.client.delete(runner.keys.user("alice"))
    assert runner.count() == 1
    runner.kill()
    runner.reap()
    assert (runner.count(), runner.depart()) == (0, ["alice"])


@pytest.mark.parametrize(("here", "there", "total"), [(0, 0, 0), (3, 0, 3), (3, 2, 4), (0, 2, 2)])
def test_ids_are_counted_once_over_all_nodes(runner: ScriptRunner, here: int, there: int, total: int) -> None:
    for n in range(here):
        runner.attach(f"id {n}")
    for n in range(there):
        runner.attach(f"id {n + 2}", "other")
    runner.attach("left")
    runner.detach("left")
    assert runner.count() == total
    runner.kill("other")
    runner.reap()
    assert runner.count() == here

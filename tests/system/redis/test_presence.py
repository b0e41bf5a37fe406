"""Presence: each change is reported once in the whole cluster."""

from collections.abc import Iterator

import pytest
import redis

from tests.system.redis.script_runner import Hand


@pytest.fixture
def hand(redis_url: str, namespace: str) -> Iterator[Hand]:
    with redis.Redis.from_url(redis_url) as client:
        hand = Hand(client, namespace)
        hand.join("node", "other")
        yield hand


def test_an_id_comes_online_with_its_first_connection_in_the_cluster(hand: Hand) -> None:
    assert [hand.attach(), hand.attach(node="other")] == [True, False]


def test_coming_online_is_answered_until_it_was_told(hand: Hand) -> None:
    assert [hand.attach(), hand.attach(), hand.attach(told=True), hand.attach()] == [True, True, False, False]


def test_an_id_is_offline_when_its_grace_is_over(hand: Hand) -> None:
    hand.attach()
    hand.detach(grace=60.0)
    assert hand.depart() == []
    hand.client.zadd(hand.keys.graces, {"alice": 1})
    assert hand.beat().gone == 0  # forgotten: it was due long ago
    hand.attach()
    hand.detach(grace=0.001)
    while not hand.beat().gone:
        pass
    assert [hand.depart(), hand.depart()] == [["alice"], []]


def test_who_comes_back_within_the_grace_never_left(hand: Hand) -> None:
    hand.attach()
    hand.detach(grace=0.001)
    assert hand.attach() is False
    assert hand.depart() == []


def test_who_left_for_good_comes_online_again(hand: Hand) -> None:
    hand.attach()
    hand.detach(grace=0.001)
    while not hand.depart():
        pass
    assert hand.attach() is True


def test_nobody_leaves_while_another_node_holds_them(hand: Hand) -> None:
    hand.attach()
    hand.attach(node="other")
    hand.detach(grace=0.001)
    assert (hand.beat().gone, hand.depart(), hand.count()) == (0, [], 1)


def test_the_ids_of_a_dead_node_are_offline_at_once(hand: Hand) -> None:
    hand.attach()
    hand.attach("bob")
    hand.attach("bob", "other")
    hand.kill()
    assert hand.attach(node="other") is False  # no node reported that it was away
    hand.detach(node="other")
    hand.reap()
    assert hand.depart() == ["alice"]


def test_a_late_detach_begins_no_second_grace(hand: Hand) -> None:
    hand.attach()
    hand.detach(grace=0.001)
    while not hand.depart():
        pass
    hand.detach()
    assert hand.client.zcard(hand.keys.graces) == 0


def test_a_late_clean_up_does_not_prolong_a_grace(hand: Hand) -> None:
    hand.attach()
    hand.detach(grace=5.0)
    due = hand.due()
    hand.detach(grace=60.0)
    assert hand.due() == due
    hand.client.sadd(hand.keys.held("node"), "alice")
    hand.kill()
    hand.reap()
    assert hand.due() < due


def test_an_id_whose_key_was_lost_is_not_held_forever(hand: Hand) -> None:
    hand.attach()
    hand.client.delete(hand.keys.user("alice"))
    assert hand.count() == 1
    hand.kill()
    hand.reap()
    assert (hand.count(), hand.depart()) == (0, ["alice"])


@pytest.mark.parametrize(("here", "there", "total"), [(0, 0, 0), (3, 0, 3), (3, 2, 4), (0, 2, 2)])
def test_ids_are_counted_once_over_all_nodes(hand: Hand, here: int, there: int, total: int) -> None:
    for n in range(here):
        hand.attach(f"id {n}")
    for n in range(there):
        hand.attach(f"id {n + 2}", "other")
    hand.attach("left")
    hand.detach("left")
    assert hand.count() == total
    hand.kill("other")
    hand.reap()
    assert hand.count() == here

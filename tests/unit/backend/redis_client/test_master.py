"""Which master counts by what Sentinels report, and when fewer of its replicas are enough."""

from mesa_ws.backend.redis_client.master import FIXED, FORGET, HOLD, Master, MasterChoice, Report

OLD = Report("a", 1, 4)
NEW = Report("b", 2, 5)


def chosen(choice: MasterChoice) -> tuple[str, int, int]:
    assert choice.master is not None
    return choice.master.host, choice.master.port, choice.master.epoch


def test_the_highest_epoch_counts_against_any_number() -> None:
    choice = MasterChoice()
    assert choice.take([OLD, NEW, OLD], 0.0) is None
    assert chosen(choice) == ("b", 2, 5)


def test_another_epoch_or_address_leaves_the_master_before() -> None:
    choice = MasterChoice()
    choice.take([OLD], 0.0)
    before = choice.master
    assert choice.take([OLD], 1.0) is None
    assert choice.take([OLD, NEW], 2.0) is before
    assert choice.take([NEW._replace(epoch=7)], 3.0) is not None


def test_an_older_epoch_does_not_count_while_the_newest_is_reported_now_and_then() -> None:
    choice = MasterChoice()
    choice.take([NEW], 0.0)
    for now in range(0, 100, 4):
        assert choice.take([OLD, OLD], float(now)) is None
        assert choice.take([OLD, NEW], float(now + 2)) is None
    assert chosen(choice) == ("b", 2, 5)


def test_an_older_epoch_counts_when_no_sentinel_reports_a_newer_one_for_long() -> None:
    choice = MasterChoice()
    choice.take([NEW], 0.0)
    assert choice.take([OLD], 100.0) is None
    assert choice.take([OLD], 99.9 + FORGET) is None
    left = choice.take([OLD], 100.0 + FORGET)
    assert left is not None
    assert left.host == "b"
    assert chosen(choice) == ("a", 1, 4)


def test_of_equal_epochs_the_present_master_counts_then_the_majority() -> None:
    choice = MasterChoice()
    same = NEW._replace(host="name-of-b")
    choice.take([same, NEW, same], 0.0)
    assert chosen(choice) == ("name-of-b", 2, 5)
    assert choice.take([NEW, same, NEW], 1.0) is None


def test_without_an_answer_the_last_master_counts() -> None:
    choice = MasterChoice()
    choice.take([NEW], 0.0)
    assert choice.take([], 1.0) is None
    assert chosen(choice) == ("b", 2, 5)


def test_fewer_replicas_than_sentinels_know_of_are_not_enough_at_once() -> None:
    choice = MasterChoice()
    choice.take([OLD._replace(replicas=1), OLD._replace(replicas=2)], 0.0)
    assert choice.master is not None
    assert choice.master.due(1, 10.0) == 10.0 + HOLD
    assert choice.master.due(2, 11.0) is None


def test_after_a_failover_the_old_master_is_not_expected_among_the_replicas() -> None:
    choice = MasterChoice()
    choice.take([OLD._replace(replicas=2)], 0.0)
    choice.take([NEW._replace(replicas=2)], 1.0)
    assert choice.master is not None
    assert choice.master.due(1, 10.0) is None


def test_a_master_that_no_sentinel_names_needs_no_more_replicas_than_there_are() -> None:
    assert [FIXED.due(replicas, 0.0) for replicas in (2, 1, 0)] == [None] * 3


def test_as_many_replicas_as_ever_are_enough() -> None:
    master = Master("127.0.0.1", 6379, 1, replicas=0)
    assert [master.due(replicas, 0.0) for replicas in (1, 2, 2, 3)] == [None] * 4


def test_fewer_than_before_are_enough_some_time_after_one_was_missed() -> None:
    master = Master("127.0.0.1", 6379, 1, replicas=0)
    master.due(2, 0.0)
    assert [master.due(1, now) for now in (10.0, 11.0, 99.0)] == [10.0 + HOLD] * 3


def test_a_replica_that_came_back_may_be_missed_again() -> None:
    master = Master("127.0.0.1", 6379, 1, replicas=0)
    master.due(2, 0.0)
    master.due(1, 10.0)
    assert master.due(2, 20.0) is None
    assert master.due(1, 30.0) == 30.0 + HOLD

"""When the confirmation of fewer replicas than before is enough."""

from mesa_ws.backend.redis_client.master import HOLD, Master


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

"""What is waited for behind a dispatch, and what the replies mean."""

import pytest

from mesa_ws.backend.redis_client.command import ServerInfo
from mesa_ws.backend.redis_client.durability import Demand, Proof
from mesa_ws.errors import Unsupported

LOGGING = ServerInfo((7, 2, 4), has_log=True)


def proof(*levels: str, replicas: int = 2) -> Proof:
    return Proof(levels, lambda replies: replicas)  # type: ignore[arg-type]


def test_replicas_are_waited_for_as_many_as_there_are() -> None:
    demand = proof("replicated").demand([])
    assert demand.commands(1.0) == [("WAIT", 2, 900)]


def test_the_log_is_waited_for_here_alone() -> None:
    demand = proof("fsync").demand([])
    assert demand.commands(1.0) == [("WAITAOF", 1, 0, 900)]


def test_time_that_is_over_is_not_forever() -> None:
    assert proof("replicated").demand([]).commands(0.0) == [("WAIT", 2, 1)]


def test_a_batch_of_both_waits_for_both() -> None:
    asked = Demand.of([Demand(1, 0), Demand(3, 0), Demand(0, 1)])
    assert asked.commands(1.0) == [("WAIT", 3, 900), ("WAITAOF", 1, 0, 900)]


def test_each_is_judged_by_what_it_asked_for() -> None:
    asked = Demand(3, 1)
    assert Demand(2, 0).shortfall("redis", asked, [2, [0, 0]]) is None
    assert Demand(0, 1).shortfall("redis", asked, [0, [1, 2]]) is None
    assert Demand(3, 0).shortfall("redis", asked, [2, [1, 0]]) is not None
    assert Demand(0, 1).shortfall("redis", asked, [3, [0, 0]]) is not None


def test_a_shortfall_is_said_with_its_numbers() -> None:
    error = Demand(2, 0).shortfall("redis", Demand(2, 0), [1])
    assert error is not None
    assert error.maybe_sent
    assert str(error).startswith(
        "redis: stored, but only 1 of 2 replicas confirmed in time; "
        "dispatching again with the same idempotency key is safe"
    )


def test_an_error_of_redis_is_no_confirmation() -> None:
    error = Demand(0, 1).shortfall("redis", Demand(0, 1), [ValueError("appendonly is disabled")])
    assert error is not None
    assert "stored, but Redis did not confirm it (appendonly is disabled)" in str(error)


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        (ServerInfo((7, 0, 15), has_log=True), "needs Redis 7.2 or later, got 7.0.15; use 'replicated'"),
        (ServerInfo(), "got an unknown version"),
        (ServerInfo((7, 4, 0)), "set 'appendonly yes' in redis.conf"),
    ],
)
def test_a_redis_that_cannot_is_known_before(facts: ServerInfo, problem: str) -> None:
    with pytest.raises(Unsupported, match=problem):
        proof("fsync").check("redis", facts)


@pytest.mark.parametrize(("level", "facts"), [("fsync", LOGGING), ("replicated", ServerInfo())])
def test_a_redis_that_can_is_asked(level: str, facts: ServerInfo) -> None:
    proof(level).check("redis", facts)

"""What is known of a request to Redis at each of its stages."""

from collections.abc import Iterable

import pytest
from redis.exceptions import (
    NoScriptError,
    ReadOnlyError,
    ResponseError,
)

from mesa_ws.backend.redis_client.batch import Batch
from mesa_ws.backend.redis_client.command import Command
from mesa_ws.errors import BackendRefused, BackendUnavailable

COMMANDS: list[Command] = [("A",), ("B",), ("C",)]
UNKNOWN = NoScriptError("NOSCRIPT No matching script")


def answer(batch: Batch, replies: Iterable[object]) -> None:
    """Have what is missing of a batch written, and answered; the last reply makes it whole."""
    commands = batch.begin(0.0)
    is_whole = [batch.add(reply) for reply in replies]
    assert is_whole == [*[False] * (len(commands) - 1), True]


def test_all_commands_are_unsent_at_first() -> None:
    batch = Batch(COMMANDS)
    assert not batch.is_written
    assert (batch.begin(0.0), batch.is_written) == (COMMANDS, True)


def test_an_answered_exchange_has_its_replies() -> None:
    batch = Batch(COMMANDS)
    answer(batch, [1, None, b"x"])
    assert (batch.replies, batch.missing, batch.is_written) == ([1, None, b"x"], (), True)
    assert batch.failure("redis") is None


def test_only_unknown_scripts_are_sent_again() -> None:
    batch = Batch(COMMANDS)
    answer(batch, [1, UNKNOWN, UNKNOWN])
    assert [COMMANDS[at] for at in batch.missing] == COMMANDS[1:]
    answer(batch, [2, 3])
    assert (batch.replies, batch.missing) == ([1, 2, 3], ())


def test_a_request_of_unknown_scripts_alone_was_not_carried_out() -> None:
    batch = Batch(COMMANDS[:1])
    answer(batch, [UNKNOWN])
    assert not batch.is_written


def test_a_script_that_stays_unknown_is_a_failure() -> None:
    batch = Batch(COMMANDS[:1])
    for _ in range(2):
        answer(batch, [UNKNOWN])
    assert isinstance(batch.failure("redis"), BackendRefused)


def test_the_first_error_is_the_failure_and_keeps_its_cause() -> None:
    batch, error = Batch(COMMANDS), ResponseError("WRONGTYPE Operation against a key")
    answer(batch, [1, error, ResponseError("another")])
    failure = batch.failure("redis at h:1")
    assert str(failure) == (
        "redis at h:1: refused (WRONGTYPE Operation against a key); a part may have been sent"
    )
    assert failure is not None
    assert failure.__cause__ is error


@pytest.mark.parametrize(
    ("replies", "maybe_sent"),
    [
        ([ResponseError("no"), ResponseError("no")], False),
        ([1, ResponseError("no")], True),
        ([ResponseError("no"), ResponseError("PARTLY no")], True),
        ([ResponseError("no"), ResponseError("user_script:7: attempt to index a nil value")], True),
    ],
)
def test_a_refusal_says_whether_a_part_was_done(replies: list[object], maybe_sent: bool) -> None:
    batch = Batch(COMMANDS[:2])
    answer(batch, replies)
    failure = batch.failure("redis")
    assert isinstance(failure, BackendRefused)
    assert (failure.maybe_sent, "part may have been sent" in str(failure)) == (maybe_sent, maybe_sent)
    assert "PARTLY" not in str(failure)


@pytest.mark.parametrize(("others", "maybe_sent"), [([1], True), ([ReadOnlyError("READONLY")], False)])
def test_a_replica_did_what_it_did_not_refuse(others: list[object], maybe_sent: bool) -> None:
    batch = Batch(COMMANDS[:2])
    answer(batch, [ReadOnlyError("READONLY You can't write against a read only replica."), *others])
    failure = batch.failure("redis")
    assert isinstance(failure, BackendUnavailable)
    assert (failure.maybe_sent, batch.is_read_only) == (maybe_sent, True)


def test_what_is_repeatable_starts_anew_and_stays_doubtful() -> None:
    batch = Batch(COMMANDS, is_repeatable=True)
    answer(batch, [1, UNKNOWN, UNKNOWN])
    assert batch.repeat(1.0)
    assert (batch.is_written, batch.is_doubtful, batch.replies) == (True, True, [None] * 3)
    assert batch.begin(1.0) == COMMANDS


def test_what_was_never_written_is_not_repeated() -> None:
    assert not Batch(COMMANDS, is_repeatable=True).repeat(1.0)


@pytest.mark.parametrize(("since", "is_repeated"), [(60.0, True), (60.1, False)])
def test_what_redis_may_have_forgotten_is_not_repeated(since: float, is_repeated: bool) -> None:
    batch = Batch(COMMANDS, is_repeatable=True, known_for=120.0)
    batch.begin(100.0)
    assert batch.repeat(110.0)
    batch.begin(115.0)
    assert batch.repeat(100.0 + since) == is_repeated


def test_a_reply_is_waited_for_as_long_as_a_repetition_has_time() -> None:
    stored, unstored = Batch(COMMANDS, is_repeatable=True, known_for=120.0), Batch(COMMANDS)
    assert [stored.first_limit(100.0, 100.0 + timeout) for timeout in (5.0, 600.0)] == [102.5, 130.0]
    assert unstored.first_limit(100.0, 700.0) == 700.0


def test_what_is_not_repeatable_is_not_repeated() -> None:
    batch = Batch(COMMANDS)
    batch.begin(0.0)
    assert not batch.repeat(1.0)


def test_errors_of_a_repetition_say_that_it_may_have_been_sent() -> None:
    batch = Batch(COMMANDS[:1], is_repeatable=True)
    batch.begin(0.0)
    batch.repeat(1.0)
    answer(batch, [ReadOnlyError("READONLY")])
    errors = [
        batch.failure("redis"),
        batch.doubting(BackendUnavailable("no connection")),
        batch.doubting(BackendRefused("no")),
    ]
    assert [getattr(error, "maybe_sent", None) for error in errors] == [True, True, True]


def test_errors_of_a_first_attempt_stay_what_they_are() -> None:
    batch = Batch(COMMANDS)
    refused, unavailable = BackendRefused("no"), BackendUnavailable("no connection")
    assert isinstance(batch.doubting(refused), BackendRefused)
    assert str(batch.doubting(unavailable)) == str(unavailable)


def test_each_step_is_written_when_the_one_before_has_its_replies() -> None:
    batch = Batch(COMMANDS, is_repeatable=True, steps=[1])
    assert batch.begin(0.0) == COMMANDS[:1]
    assert batch.add(1)
    assert (batch.missing, batch.runs_again) == (range(1, 3), False)
    answer(batch, [UNKNOWN, 3])
    assert (batch.missing, batch.runs_again) == ([1], True)
    answer(batch, [2])
    assert (batch.replies, batch.missing, batch.runs_again) == ([1, 2, 3], (), False)
    assert batch.repeat(0.0)
    assert batch.begin(0.0) == COMMANDS[:1]


def test_a_step_that_is_not_due_yet_was_not_carried_out() -> None:
    batch = Batch(COMMANDS, steps=[1, 2])
    for _ in range(2):
        answer(batch, [UNKNOWN])
    failure = batch.failure("redis")
    assert failure is not None
    assert not failure.maybe_sent


def test_no_step_follows_one_that_was_refused() -> None:
    """An order counts as given only with its revocation: a repetition of a given one revokes nothing."""
    batch = Batch(COMMANDS, steps=[1, 2])
    answer(batch, [UNKNOWN])
    answer(batch, [1])
    assert list(batch.missing) == [1]
    answer(batch, [ReadOnlyError("READONLY")])
    assert (list(batch.missing), batch.replies[2]) == ([], None)
    assert isinstance(batch.failure("redis"), BackendUnavailable)

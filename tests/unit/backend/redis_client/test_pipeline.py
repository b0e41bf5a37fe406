"""What is known of a request to Redis at each of its stages."""

from pathlib import Path

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import (
    AuthenticationError,
    ClusterCrossSlotError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mesa_ws.backend.redis_client.command import CLUSTER, Command
from mesa_ws.backend.redis_client.failures import RIGHTS_PAGE, failed_call, failed_connect, failed_reply
from mesa_ws.backend.redis_client.pipeline import Batch
from mesa_ws.errors import BackendRefused, BackendUnavailable

DOCS = Path(__file__).parents[4] / "docs"


def parsed(text: str) -> RedisError:
    """What redis-py makes of an answer."""
    error = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]
    assert isinstance(error, RedisError)
    return error


COMMANDS: list[Command] = [("A",), ("B",), ("C",)]
UNKNOWN = NoScriptError("NOSCRIPT No matching script")


def test_all_commands_are_unsent_at_first() -> None:
    batch = Batch(COMMANDS)
    assert (batch.unsent, batch.is_written) == (COMMANDS, False)


def test_an_answered_exchange_has_its_replies() -> None:
    batch = Batch(COMMANDS)
    batch.on_write(0.0)
    batch.on_replies([1, None, b"x"])
    assert (batch.replies, batch.missing, batch.is_written) == ([1, None, b"x"], [], True)
    assert batch.failure("redis") is None


def test_only_unknown_scripts_are_sent_again() -> None:
    batch = Batch(COMMANDS)
    batch.on_replies([1, UNKNOWN, UNKNOWN])
    assert batch.unsent == COMMANDS[1:]
    batch.on_replies([2, 3])
    assert (batch.replies, batch.missing) == ([1, 2, 3], [])


def test_a_request_of_unknown_scripts_alone_was_not_carried_out() -> None:
    batch = Batch(COMMANDS[:1])
    batch.on_write(0.0)
    batch.on_replies([UNKNOWN])
    assert not batch.is_written


def test_a_script_that_stays_unknown_is_a_failure() -> None:
    batch = Batch(COMMANDS[:1])
    for _ in range(2):
        batch.on_replies([UNKNOWN])
    assert isinstance(batch.failure("redis"), BackendRefused)


def test_the_first_error_is_the_failure_and_keeps_its_cause() -> None:
    batch, error = Batch(COMMANDS), ResponseError("WRONGTYPE Operation against a key")
    batch.on_replies([1, error, ResponseError("another")])
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
    batch.on_replies(replies)
    failure = batch.failure("redis")
    assert isinstance(failure, BackendRefused)
    assert (failure.maybe_sent, "part may have been sent" in str(failure)) == (maybe_sent, maybe_sent)
    assert "PARTLY" not in str(failure)


@pytest.mark.parametrize(("others", "maybe_sent"), [([1], True), ([ReadOnlyError("READONLY")], False)])
def test_a_replica_did_what_it_did_not_refuse(others: list[object], maybe_sent: bool) -> None:
    batch = Batch(COMMANDS[:2])
    batch.on_replies([ReadOnlyError("READONLY You can't write against a read only replica."), *others])
    failure = batch.failure("redis")
    assert isinstance(failure, BackendUnavailable)
    assert (failure.maybe_sent, batch.is_read_only) == (maybe_sent, True)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (AuthenticationError("WRONGPASS invalid"), "check the user name and the password"),
        (NoPermissionError("NOPERM this user"), f"grant the user all rights that Mesa needs, {RIGHTS_PAGE}"),
        (
            ResponseError("ACL failure in script: User u has no permissions to run the 'hset' command"),
            f"grant the user all rights that Mesa needs, {RIGHTS_PAGE}",
        ),
        (
            ResponseError("The user executing the script can't run this command or subcommand"),
            f"grant the user all rights that Mesa needs, {RIGHTS_PAGE}",
        ),
        (OutOfMemoryError("OOM command not allowed"), "Redis is full"),
        (MovedError("1 127.0.0.1:7000"), CLUSTER),
        (ClusterCrossSlotError("Keys in request"), CLUSTER),
        (ResponseError("Error compiling script (new function)"), "Redis 7 or later is needed"),
    ],
)
def test_a_refusal_says_what_to_do(error: ResponseError, text: str) -> None:
    for refused in (failed_connect("redis at h:1", error), failed_reply("redis at h:1", error)):
        assert isinstance(refused, BackendRefused)
        assert str(refused).startswith("redis at h:1: refused (")
        assert str(refused).endswith(f"; {text}")


NOT_NOW = [
    "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.",
    "MASTERDOWN Pipeline with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MISCONF Errors writing to the AOF file: No space left on device",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS Not enough good replicas to write.",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN The cluster is down",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "ERR max number of clients reached",
]


@pytest.mark.parametrize("text", NOT_NOW)
def test_not_now_is_no_refusal(text: str) -> None:
    error = parsed(text)
    for unavailable in (failed_connect("redis", error), failed_reply("redis", error)):
        assert isinstance(unavailable, BackendUnavailable)
        assert not unavailable.maybe_sent


@pytest.mark.parametrize("text", NOT_NOW)
def test_each_not_now_is_in_the_table_of_the_reference(text: str) -> None:
    code = text.removeprefix("ERR ").split(" ")[0]
    assert f"| `{code}" in (DOCS / "reference" / "redis.md").read_text()


def test_what_redis_will_never_do_is_a_refusal() -> None:
    for text in ("OOM command not allowed", "NOREPLICAS no replica is online", "WRONGTYPE", "NOPERM no"):
        assert isinstance(failed_reply("redis", parsed(text)), BackendRefused)


def test_the_system_says_why_a_connection_failed() -> None:
    error = RedisConnectionError("Error 111 connecting to h:1. Connect call failed ('h', 1).")
    error.__cause__ = ConnectionRefusedError(111, "Connect call failed ('h', 1)")
    assert str(failed_connect("redis at h:1", error)) == (
        "redis at h:1: no connection (Connection refused); nothing was sent"
    )


@pytest.mark.parametrize("error", [TimeoutError(), RedisTimeoutError("Timeout reading from socket")])
def test_a_timeout_is_called_one(error: Exception) -> None:
    text = str(failed_call("redis", error, maybe_sent=True))
    assert text == "redis: no answer in time; the message may have been sent"


def test_foreign_text_is_one_short_line() -> None:
    text = str(failed_reply("redis", ResponseError("ERR \x1b[31m\r\n" + "x" * 5000)))
    assert len(text) < 300
    assert text.isprintable()


def test_an_error_without_text_has_its_name() -> None:
    assert "(ConnectionResetError)" in str(failed_call("redis", ConnectionResetError(), maybe_sent=False))


def test_what_is_repeatable_starts_anew_and_stays_doubtful() -> None:
    batch = Batch(COMMANDS, is_repeatable=True)
    batch.on_write(0.0)
    batch.on_replies([1, UNKNOWN, UNKNOWN])
    assert batch.repeat(1.0)
    assert (batch.unsent, batch.replies) == (COMMANDS, [None] * 3)
    assert (batch.is_written, batch.is_doubtful) == (True, True)


def test_what_was_never_written_is_not_repeated() -> None:
    assert not Batch(COMMANDS, is_repeatable=True).repeat(1.0)


@pytest.mark.parametrize(("since", "is_repeated"), [(60.0, True), (60.1, False)])
def test_what_redis_may_have_forgotten_is_not_repeated(since: float, is_repeated: bool) -> None:
    batch = Batch(COMMANDS, is_repeatable=True, known_for=120.0)
    batch.on_write(100.0)
    assert batch.repeat(110.0)
    batch.on_write(115.0)
    assert batch.repeat(100.0 + since) == is_repeated


def test_a_reply_is_waited_for_as_long_as_a_repetition_has_time() -> None:
    stored, unstored = Batch(COMMANDS, is_repeatable=True, known_for=120.0), Batch(COMMANDS)
    assert [stored.first_limit(100.0, 100.0 + timeout) for timeout in (5.0, 600.0)] == [102.5, 130.0]
    assert unstored.first_limit(100.0, 700.0) == 700.0


def test_what_is_not_repeatable_is_not_repeated() -> None:
    batch = Batch(COMMANDS)
    batch.on_write(0.0)
    assert not batch.repeat(1.0)


def test_errors_of_a_repetition_say_that_it_may_have_been_sent() -> None:
    batch = Batch(COMMANDS[:1], is_repeatable=True)
    batch.on_write(0.0)
    batch.repeat(1.0)
    batch.on_replies([ReadOnlyError("READONLY")])
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

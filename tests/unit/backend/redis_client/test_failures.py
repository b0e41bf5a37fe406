"""Errors of Mesa for those of Redis and of the network."""

from pathlib import Path

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import (
    AuthenticationError,
    ClusterCrossSlotError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mesa_ws.backend.redis_client.command import CLUSTER
from mesa_ws.backend.redis_client.failures import RIGHTS_PAGE, failed_call, failed_connect, failed_reply
from mesa_ws.errors import BackendRefused, BackendUnavailable

DOCS = Path(__file__).parents[4] / "docs"


def parsed(text: str) -> RedisError:
    """What redis-py makes of an answer."""
    error = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]
    assert isinstance(error, RedisError)
    return error


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


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_the_system_says_why_a_connection_failed(is_wrapped: bool) -> None:
    error: Exception = ConnectionRefusedError(111, "Connect call failed ('h', 1)")
    if is_wrapped:
        cause, error = error, RedisConnectionError("Error 111 connecting to h:1. Connect call failed.")
        error.__cause__ = cause
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

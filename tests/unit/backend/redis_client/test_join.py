"""Calls of a script that one run makes together."""

import asyncio

import pytest
from redis.exceptions import NoPermissionError, NoScriptError, ReadOnlyError

from mesa_ws.backend.redis_client.batch import MAX_JOINT, Batch, Group, join, split_reply
from mesa_ws.backend.redis_client.command import MAX_IDS, Command, JointCommand
from mesa_ws.backend.redis_client.master import FIXED
from mesa_ws.errors import BackendError

REFUSED = NoPermissionError("NOPERM no permissions")
UNKNOWN = NoScriptError("NOSCRIPT No matching script")


def call(name: str, kind: str = "message", *, keys: int = 1, size: int = 1) -> Command:
    own = [f"{name}{n}" for n in range(keys)]
    shared = ("k", "l", *own, "prefix", kind, "")
    return JointCommand(("EVALSHA", "sha", 2 + keys, *shared, name, b"x" * size, keys))


def test_neighbours_run_together() -> None:
    commands = [call("a", keys=2), call("b"), ("PING",), call("c"), call("d", "request")]
    joined, counts = join(commands)
    together = ("EVALSHA", "sha", 5, "k", "l", "a0", "a1", "b0", "prefix", "message", "")
    assert joined == [(*together, "a", b"x", 2, "b", b"x", 1), *commands[2:]]
    assert counts == [2, 1, 1, 1]


def test_one_run_takes_so_many_keys_and_bytes() -> None:
    assert join([call("a", keys=MAX_IDS - 1), call("b"), call("c")])[1] == [2, 1]
    assert join([call("a", size=MAX_JOINT - 1), call("b"), call("c")])[1] == [2, 1]
    assert join([call("a", keys=MAX_IDS + 1), call("b", size=MAX_JOINT + 1), call("c")])[1] == [1, 1, 1]


def test_a_reply_is_split_into_those_of_its_commands() -> None:
    assert split_reply([1, [2], REFUSED], 3) == [1, [2], REFUSED]
    assert split_reply(UNKNOWN, 2) == [UNKNOWN, UNKNOWN]


async def test_what_redis_refuses_for_itself_refuses_all_and_runs_nothing_again() -> None:
    away = ReadOnlyError("READONLY You can't write against a read only replica.")
    assert split_reply(away, 2) == [away, away]
    first, second = Batch([call("a")]), Batch([call("b")])
    group, _ = group_of([first, second])
    group.begin([first, second], 0.0)
    for batch in (first, second):
        batch.future = asyncio.get_running_loop().create_future()
    group.add(away)
    for batch in (first, second):
        assert (batch.runs_again, batch.is_part_done, batch.is_read_only) == (False, False, True)
        with pytest.raises(BackendError) as refused:
            await batch.future
        assert not getattr(refused.value, "maybe_sent", None)


def group_of(batches: list[Batch]) -> tuple[Group, list[Group]]:
    read: list[Group] = []
    return Group("redis", FIXED, read.append), read


def test_calls_of_several_batches_run_together_and_get_their_own_replies() -> None:
    first, second = Batch([call("a"), call("b")]), Batch([call("c")])
    group, read = group_of([first, second])
    for batch in (first, second):
        batch.proof = object()  # type: ignore[assignment]  # for which no future is settled
    commands = [*group.begin([first], 0.0), *group.begin([second], 0.0)]
    assert [command[2] for command in commands] == [4, 3]
    group.add([1, 2])
    assert (first.replies, first.missing, read) == ([1, 2], (), [])
    group.add(3)
    assert (second.replies, read) == ([3], [])
    group.close()
    assert read == [group]


def test_calls_that_were_refused_together_are_made_again_each_alone() -> None:
    first, second = Batch([call("a")]), Batch([call("b")])
    group, read = group_of([first, second])
    assert len(group.begin([first, second], 0.0)) == 1
    group.close()
    group.add(REFUSED)
    assert read == [group]
    assert [(list(batch.missing), batch.runs_again) for batch in (first, second)] == [([0], True)] * 2
    assert not first.is_written
    again, _ = group_of([first, second])
    commands = again.begin([first, second], 1.0)
    assert commands == [call("a"), call("b")]
    for batch in (first, second):
        batch.proof = object()  # type: ignore[assignment]
    again.add(1)
    assert (first.replies, first.failure("redis")) == ([1], None)

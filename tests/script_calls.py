"""The script calls that commands for Redis make."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from mesa_ws.backend.redis.scripts import SCRIPTS
from mesa_ws.backend.redis_client.batch import join, split_reply
from mesa_ws.backend.redis_client.command import Call, Command

_BY_SHA = {script.sha: script for script in SCRIPTS}


def calls_of(commands: Sequence[Command]) -> list[Call]:
    """Return the calls, each with its script, keys and arguments; those that can be joined as one."""
    return [_call_of(*command) for command in join(commands)[0]]


def replies_to(commands: Sequence[Command], run: Callable[[Call], Any]) -> list[Any]:
    """Run calls, and return the reply to each of the commands."""
    joined, counts = join(commands)
    answered = zip(calls_of(joined), counts, strict=True)
    return [reply for call, count in answered for reply in split_reply(run(call), count)]


def _call_of(name: object, sha: object, keys: object, *rest: str | bytes | int) -> Call:
    assert name == "EVALSHA"
    assert isinstance(sha, str)
    assert isinstance(keys, int)
    return Call(_BY_SHA[sha], tuple(map(str, rest[:keys])), rest[keys:])


def map_of(call: Call) -> Any:
    """Return the map that is the first argument of a call."""
    assert isinstance(call.args[0], bytes)
    return msgspec.msgpack.decode(call.args[0])

"""What is asked about the rights of a user of Redis."""

import re

import pytest
from msgspec import msgpack

from mesa_ws.backend.mesa1 import rights as rights_of_1x
from mesa_ws.backend.mesa1.commands import SCRIPTS as SCRIPTS_OF_1X
from mesa_ws.backend.mesa1.keys import Mesa1Keys as Keys1x
from mesa_ws.backend.redis import rights
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.scripts import SCRIPTS
from mesa_ws.backend.redis_client.command import Script
from mesa_ws.backend.redis_wire.rights import GrantedName, Rights, commands_of

KEY, CHANNEL = GrantedName("~m:*", "m:k"), GrantedName("&m:*", "m:c")


def tried(asked: Rights) -> list[list[str]]:
    packed = asked.command[3]
    assert isinstance(packed, bytes)
    return msgpack.decode(packed, type=list[list[str]])


@pytest.mark.parametrize("script", [*SCRIPTS, *SCRIPTS_OF_1X], ids=lambda script: script.name)
def test_every_command_of_every_script_can_be_tried(script: Script) -> None:
    names = {each[0] for each in tried(Rights([script], [KEY], [CHANNEL]))}
    assert names == {*commands_of(script), "EXISTS", "PEXPIRE", "PUBLISH"}
    assert re.findall(rb"\bcall\((?!')", script.source) == []


@pytest.mark.parametrize(
    ("problem", "right"),
    [
        ("ERR The user executing the script can't run this command or subcommand", "+memory|usage"),
        (
            "ERR ACL failure in script: User key has no permissions to run the 'memory|usage' command",
            "+memory|usage",
        ),
        (
            "ERR The user executing the script can't access at least one of the keys mentioned in the "
            "command arguments",
            "~m:*",
        ),
        ("ERR ACL failure in script: No permissions to access a key", "~m:*"),
    ],
)
def test_a_right_is_named_as_redis_takes_it(problem: str, right: str) -> None:
    asked = Rights([], [KEY], [CHANNEL], ["MEMORY"])
    assert asked.lacking([len(tried(asked)), problem.encode()]) == [right]


def test_a_channel_is_named_by_its_pattern() -> None:
    asked = Rights([], [KEY], [CHANNEL])
    assert asked.lacking([3, b"ERR ACL failure in script: No permissions to access a channel"]) == ["&m:*"]


def test_a_key_that_is_only_read_is_not_tried_to_be_written() -> None:
    asked = Rights([], [KEY, GrantedName("%R~r", "r", is_written=False)], [CHANNEL])
    assert [each[0] for each in tried(asked) if each[1] == "r"] == ["EXISTS"]


def test_who_stores_nothing_needs_no_outbox() -> None:
    for few, more in (
        (rights.of_dispatcher(Keys("n"), stores=False), rights.of_dispatcher(Keys("n"), stores=True)),
        (
            rights_of_1x.of_dispatcher(Keys1x("n"), stores=False),
            rights_of_1x.of_dispatcher(Keys1x("n"), stores=True),
        ),
    ):
        assert len(tried(few)) < len(tried(more))
    assert "RPUSH" not in {each[0] for each in tried(rights.of_dispatcher(Keys("n"), stores=False))}

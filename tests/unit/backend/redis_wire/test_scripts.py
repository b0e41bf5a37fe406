"""The text of scripts: a head that documents each of them, and what is taken over from shared files."""

import re
from pathlib import Path

import pytest

import mesa_ws.backend
from mesa_ws.backend.mesa1.commands import SCRIPTS as SCRIPTS_OF_1X
from mesa_ws.backend.redis.scripts import CONSTANTS, SCRIPTS
from mesa_ws.backend.redis_client.command import Script

ALL = list(dict.fromkeys([*SCRIPTS, *SCRIPTS_OF_1X]))

HEAD = re.compile(
    r"""
    \#!lua(?:\ flags=(?P<flags>[a-z,-]+))?\n
    --\ (?P<purpose>[A-Z].*\.)\n
    --\n
    --\ KEYS\ \ \ (?P<keys>.*\n(?:--\ {8}.*\n)*)
    --\ ARGV\ \ \ (?P<args>.*\n(?:--\ {8}.*\n)*)
    (?:--\ MAP\ \ \ \ (?P<map>.*\n(?:--\ {8}.*\n)*))?
    --\ REPLY\ \ (?P<reply>.*\n(?:--\ {8}.*\n)*)
    (?:--\n(?:--\ .*\n)+)?
    \n
    """,
    re.VERBOSE,
)
"""Flags; what the script does; its keys, arguments and reply; then remarks."""

FILES = {
    path: path.read_text("utf-8")
    for path in sorted(Path(mesa_ws.backend.__file__).parent.glob("*/scripts/*.lua"))
}
RUN = {path: text for path, text in FILES.items() if text.startswith("#!lua")}


def test_every_script_has_a_file() -> None:
    assert sorted(path.stem for path in RUN) == sorted(script.name for script in ALL)


@pytest.mark.parametrize("path", RUN, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_script_begins_with_its_purpose_keys_arguments_and_reply(path: Path) -> None:
    text = RUN[path]
    head = HEAD.match(text)
    assert head, f"{path.name} has no head like that of others"
    body = text[head.end() :]
    fields = re.findall(r"(?:^|(?<=\n)-- {8})((?:[a-z_0-9]+, )*[a-z_0-9]+): ", head["map"] or "")
    named = {name for some in fields for name in some.split(", ")}
    assert named == set(re.findall(r"\bargs\.(\w+)", body)), "the head names each member of the map"
    assert ("map" in head["args"]) == ("cmsgpack.unpack(ARGV[1])" in body and bool(named))
    numbers = [int(number) for number in re.findall(r"\bARGV\[(\d+)\]", body)]
    told = [int(number) for number in re.findall(r"(?:^|[ ,])(\d+)(?:\.\.)? [A-Za-z]", head["args"])]
    assert max(numbers, default=0) <= max(told, default=1), "the head tells each argument"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_line_of_lua_is_not_too_long(path: Path) -> None:
    assert [line for line in FILES[path].splitlines() if len(line) > 118] == []


@pytest.mark.parametrize("script", ALL, ids=lambda script: script.name)
def test_a_script_knows_the_values_of_all_constants(script: Script) -> None:
    text = re.sub(r"'[^'\n]*'", "", script.source.decode())
    own = " ".join(re.findall(r"^local ([\w, ]+) =", text, re.MULTILINE))
    capitals = re.compile(r"\b[A-Z_]{4,}\b")
    assert set(capitals.findall(text)) - set(capitals.findall(own)) <= {"KEYS", "ARGV"}


def test_every_constant_is_in_use() -> None:
    lua = "\n".join(FILES.values())
    assert [name for name in CONSTANTS if not re.search(rf"\b{name}\b", lua)] == []


@pytest.mark.parametrize("script", ALL, ids=lambda script: script.name)
def test_a_script_brings_no_function_that_it_does_not_use(script: Script) -> None:
    text = script.source.decode()
    functions = re.findall(r"^local function (\w+)", text, re.MULTILINE)
    assert [name for name in functions if len(re.findall(rf"\b{name}\b", text)) == 1] == []
    assert text.count("#!lua") == 1


@pytest.mark.parametrize(("name", "most"), [("relay", 11), ("broadcast", 9), ("dispatch", 23), ("ack", 21)])
def test_a_run_of_a_frequent_script_defines_few_functions(name: str, most: int) -> None:
    """Rare ones are defined when one of them is called, and then all together."""
    source = next(script.source.decode() for script in SCRIPTS if script.name == name)
    usual, begin, rest = source.partition("\nfunction rare(name)\nif not made then\n")
    rare, end, body = rest.partition("\nmade = {")
    assert begin
    assert end
    functions = re.compile(r"^local function (\w+)", re.MULTILINE)
    assert len(functions.findall(usual + body)) <= most
    names = re.findall(r"(\w+) = \1\b", body.partition("\n")[0])
    assert set(names) <= set(functions.findall(rare))
    assert not re.search(rf"(?<![.'\w])(?:{'|'.join(names)})\(", usual + body), "called as rare('...')(...)"

"""Every `mesa ...` and `make ...` command of the documentation exists."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mesa_ws.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
LINE = re.compile(r"""(?:'[^']*'|"[^"]*"|(?<=\s)#[^\n]*|[^'"\n])+""")
"""A shell command, which a quotation may continue over several lines."""

INLINE = re.compile(r"`((?:mesa|make) [^`]+)`")
OPTIONAL = re.compile(r" \[[A-Z-][^\]]*\]")
"""Placeholders of a synopsis such as `mesa serve [OPTIONS] [APP:server]`."""

TARGETS = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def shell_lines(text: str) -> Iterator[str]:
    for block in BLOCK.findall(text):
        yield from (" ".join(line.split("\n")) for line in LINE.findall(block.replace("\\\n", " ")))
    yield from INLINE.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def calls(line: str) -> Iterator[tuple[str, list[str]]]:
    """Return the programs of a line with their arguments, one for each part of a pipe."""
    lexer = shlex.shlex(OPTIONAL.sub("", line), posix=True, punctuation_chars="|")
    lexer.whitespace_split = True
    words = list(lexer)
    while words:
        end = words.index("|") if "|" in words else len(words)
        call, words = words[:end], words[end + 1 :]
        while call and re.fullmatch(r"[A-Z_]+=.*", call[0]):
            del call[0]
        if call:
            yield call[0], call[1:]


CALLS = [
    (page.relative_to(ROOT).as_posix(), line, program, arguments)
    for page in PAGES
    for line in shell_lines(page.read_text())
    for program, arguments in calls(line)
]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment of the pages: only the key."""
    monkeypatch.setenv("MESA_API_KEY", "a-long-random-secret")


def parse(arguments: list[str]) -> None:
    """Parse arguments as `mesa` does, without running the command. A bare command name is only looked up."""
    name, *rest = arguments
    command = main.commands[name]
    if rest and rest != ["--help"]:
        command.make_context(
            name, rest, parent=click.Context(main, info_name="mesa", **main.context_settings)
        )


@pytest.mark.parametrize(
    ("page", "line", "arguments"), [(page, line, rest) for page, line, name, rest in CALLS if name == "mesa"]
)
def test_a_command_is_one_that_mesa_understands(page: str, line: str, arguments: list[str]) -> None:
    parse(arguments)


@pytest.mark.parametrize(
    ("page", "line", "arguments"), [(page, line, rest) for page, line, name, rest in CALLS if name == "make"]
)
def test_a_target_is_one_that_make_has(page: str, line: str, arguments: list[str]) -> None:
    assert arguments[0] in TARGETS


@pytest.mark.parametrize(
    "line", ["mesa serv", "mesa serve --prot 1", "mesa dispatch TYPE", "mesa check-config --config"]
)
def test_a_command_that_mesa_lacks_is_noticed(line: str) -> None:
    [(_, arguments)] = calls(line)
    with pytest.raises((click.UsageError, KeyError)):
        parse(arguments)


def test_commands_are_found_in_blocks_in_pipes_and_in_text() -> None:
    block = "A=1 mesa serve --port \\\n 1\necho | mesa tail # that's it\ncurl -d '{\n}'\n"
    text = f"```sh\n{block}```\nSee `mesa demo` and `make demo`."
    found = [call for line in shell_lines(text) for call in calls(line)]
    assert found == [
        ("mesa", ["serve", "--port", "1"]),
        ("echo", []),
        ("mesa", ["tail"]),
        ("curl", ["-d", "{ }"]),
        ("mesa", ["demo"]),
        ("make", ["demo"]),
    ]


def test_there_are_commands_in_the_documentation() -> None:
    assert len(CALLS) > 30

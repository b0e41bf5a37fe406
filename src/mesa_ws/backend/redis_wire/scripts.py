"""Lua scripts: a file, with the functions that it uses from shared files, becomes a script of Redis.

A script takes more than five values as one map, and names all others at its beginning. Scripts that run for
each message, event, login or acknowledgement take positions however many there are: to read a map takes Redis
one to two microseconds, which is 4 to 25 % of such a script.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple

from ..redis_client.command import Script


def _read(package: str, name: str) -> str:
    return files(package).joinpath("scripts", f"{name}.lua").read_text("utf-8")


class _Part(NamedTuple):
    """A piece of Lua: a function of that name, or the text between functions."""

    name: str
    text: str
    words: frozenset[str]


_FUNCTION = re.compile(r"^local function (\w+)\(.*?^end\n", re.MULTILINE | re.DOTALL)

_REMARK = re.compile(r" -- [^'\"]*$")
"""A comment after code."""


def _without_comments(text: str) -> str:
    lines = (_REMARK.sub("", line).rstrip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.lstrip().startswith(("--", "#!")))


@cache
def _parts(package: str, name: str) -> list[_Part]:
    """Return the top-level functions of a file, and the text between them, in order."""
    text, at, parts = _without_comments(_read(package, name)), 0, list[tuple[str, str]]()
    for function in _FUNCTION.finditer(text):
        parts += [("", text[at : function.start()]), (function[1], function[0])]
        at = function.end()
    return [_Part(*part, frozenset(re.findall(r"\w+", part[1]))) for part in (*parts, ("", text[at:]))]


def _in_use(parts: Sequence[_Part]) -> str:
    """Return the text without the functions that no later part calls; every connection loads all scripts."""
    kept, words = list[str](), set[str]()
    for part in reversed(parts):
        if not part.name or part.name in words:
            kept.append(part.text)
            words |= part.words
    return "\n".join(line.strip() for text in reversed(kept) for line in text.splitlines())


def script(package: str, name: str, *parts: str, constants: Mapping[str, int | str]) -> Script:
    """Build the script of a file: its flags, the functions that it uses from shared files, its body.

    Args:
        package: where the file is.
        name: its name.
        parts: files of the same package that come before it.
        constants: values that replace names in it. Arguments of commands are texts, which cost less: Redis
            formats a number for each call.
    """
    shared = [part for each in ("access", "leases", "runs") for part in _parts(__package__, each)]
    own = [part for each in (*parts, name) for part in _parts(package, each)]
    flags = _read(package, name).partition("\n")[0]
    # A local for redis.call is shorter, and saves a look-up for each call.
    body = _in_use([*shared, *own]).replace("redis.call(", "call(")
    for word in constants.keys() & set(re.findall(r"\w+", body)):
        body = re.sub(rf"\b{word}\b", repr(constants[word]), body)
    source = f"{flags}\nlocal call = redis.call\n{body}".encode()
    return Script(name, source, sha1(source, usedforsecurity=False).hexdigest())


RIGHTS = script(__package__, "rights", constants={})

"""Lua scripts: a file, with the functions that it uses from shared files, becomes a script of Redis.

A script takes more than five values as one map, and names all others at its beginning. Scripts that run for
each message, event, login or acknowledgement take positions however many there are: to read a map takes Redis
one to two microseconds, which is 4 to 25 % of such a script.

Each run of a script defines its functions, which takes its time. So functions of shared files that most
runs do not call are marked `-- rare` where they begin: all of them are defined when the first one is called.
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
    """A piece of Lua: a function or a constant of that name, or the text between them."""

    name: str
    text: str
    words: frozenset[str]
    is_rare: bool


_NAMED = re.compile(r"^local (?:function (\w+)\(.*?^end|([A-Z_]+) = [^\n]*)\n", re.MULTILINE | re.DOTALL)

_RARE = re.compile(r"^local function (\w+)\(.*\) -- rare$", re.MULTILINE)

_REMARK = re.compile(r" -- [^'\"]*$")
"""A comment after code."""


def _without_comments(text: str) -> str:
    lines = (_REMARK.sub("", line).rstrip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.lstrip().startswith(("--", "#!")))


@cache
def _parts(package: str, name: str) -> list[_Part]:
    """Return the top-level functions and constants of a file, and the text between them, in order."""
    source = _read(package, name)
    text, at, parts = _without_comments(source), 0, list[tuple[str, str]]()
    for named in _NAMED.finditer(text):
        parts += [("", text[at : named.start()]), (named[1] or named[2], named[0])]
        at = named.end()
    rare = set(_RARE.findall(source))
    return [
        _Part(name, text, frozenset(re.findall(r"\w+", text)), name in rare)
        for name, text in (*parts, ("", text[at:]))
    ]


def _in_use(parts: Sequence[_Part]) -> list[_Part]:
    """Return the parts without those that no later part uses; every connection loads all scripts.

    What only rare functions use is rare, too.
    """
    kept, usual, rare = list[_Part](), set[str](), set[str]()
    for part in reversed(parts):
        is_usual = not part.is_rare and (not part.name or part.name in usual)
        if is_usual or part.name in usual | rare:
            kept.append(part._replace(is_rare=not is_usual))
            (usual if is_usual else rare).update(part.words)
    return kept[::-1]


def _text(parts: Sequence[_Part], own: Sequence[_Part]) -> str:
    """Join shared parts and a script's own, with rare functions that are defined on demand between them."""
    rare = [part for part in parts if part.is_rare]
    before, after = ("".join(each.text for each in some if not each.is_rare) for some in (parts, own))
    if rare:
        names = [part.name for part in rare if "function" in part.words]
        call = re.compile(rf"(?<![.'\w])({'|'.join(names)})\(")
        called = sorted(set(call.findall(before + after)))
        before, after = (call.sub(r"rare('\1')(", text) for text in (before, after))
        table = ", ".join(f"{name} = {name}" for name in called)
        made = f"made = {{{table}}}\nend\nreturn made[name]\nend\n"
        functions = "".join(part.text for part in rare)
        before = f"local rare, made\n{before}function rare(name)\nif not made then\n{functions}{made}"
    return "\n".join(line.strip() for line in (before + after).splitlines())


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
    shared += [part for each in parts for part in _parts(package, each)]
    own = _in_use(_parts(package, name))
    used = _in_use([*shared, *own])[: -len(own)]
    flags = _read(package, name).partition("\n")[0]
    # A local for redis.call is shorter, and saves a look-up for each call.
    body = _text(used, own).replace("redis.call(", "call(")
    for word in constants.keys() & set(re.findall(r"\w+", body)):
        body = re.sub(rf"\b{word}\b", repr(constants[word]), body)
    source = f"{flags}\nlocal call = redis.call\n{body}".encode()
    return Script(name, source, sha1(source, usedforsecurity=False).hexdigest())


RIGHTS = script(__package__, "rights", constants={})

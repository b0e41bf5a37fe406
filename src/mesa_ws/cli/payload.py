"""JSON on the command line or on stdin; what is wrong with it is shown where it is wrong."""

import re
import sys
from typing import Any

import click
import msgspec

from ..errors import InvalidInput
from ..json_keys import check_members

_AROUND = 16
"""Characters that are shown on either side of a mistake."""

_BYTE = re.compile(r"\(byte (\d+)\)")


def read_json(argument: str, name: str) -> Any:
    """Read a JSON argument, or stdin if it is `-`.

    Args:
        argument: what was typed.
        name: what the argument is called in errors.

    Raises:
        BadParameter: it is not JSON, or a name stands twice in one of its objects.
    """
    content = sys.stdin.buffer.read() if argument == "-" else argument.encode("utf-8", "surrogateescape")
    try:
        check_members(content)
        return msgspec.json.decode(content)
    except InvalidInput as error:
        raise click.BadParameter(str(error), param_hint=name) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        mend = "; text needs double quotes of its own" if content.strip().isalpha() else ""
        problem = f"expected JSON, got {_mistake(content, error)}{mend}"
        raise click.BadParameter(problem, param_hint=name) from error


def _mistake(content: bytes, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it nested too deep"
    if "utf-8" in str(error).lower():  # msgspec says which byte before 0.23, and not since
        return f"bytes that are not UTF-8, such as 0x{_first_foreign(content):02x}"
    found = _BYTE.search(str(error))
    if found is None:
        return f"the beginning of it: {_end(content)!r} ends too early" if content.strip() else "nothing"
    at = int(found.group(1))
    problem = _BYTE.sub("", str(error).removeprefix("JSON is malformed: ")).strip()
    line, column = content.count(b"\n", 0, at) + 1, at - content.rfind(b"\n", 0, at)
    return f"{problem} at line {line}, column {column}, after {_end(content[:at])!r}"


def _first_foreign(content: bytes) -> int:
    """The first byte that is no part of UTF-8; as surrogates such bytes stand for themselves (PEP 383)."""
    text = content.decode("utf-8", "surrogateescape")
    return next(ord(sign) - 0xDC00 for sign in text if "\udc80" <= sign <= "\udcff")


def _end(content: bytes) -> str:
    text = content.decode("utf-8", "replace")
    return text if len(text) <= _AROUND else f"...{text[-_AROUND:]}"

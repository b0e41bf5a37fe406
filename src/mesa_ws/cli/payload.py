"""JSON on the command line or on stdin; what is wrong with it is shown where it is wrong."""

import re
import sys
from typing import Any

import click
import msgspec

_AROUND = 16
"""Characters that are shown on either side of a mistake."""

_BYTE = re.compile(r"\(byte (\d+)\)")


def read_json(argument: str, name: str) -> Any:
    """Read a JSON argument, or stdin if it is `-`.

    Args:
        argument: what was typed.
        name: what the argument is called in errors.

    Raises:
        BadParameter: it is not JSON.
    """
    content = sys.stdin.buffer.read() if argument == "-" else argument.encode("utf-8", "surrogateescape")
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        mend = "; text needs double quotes of its own" if content.strip().isalpha() else ""
        problem = f"expected JSON, got {_mistake(content, error)}{mend}"
        raise click.BadParameter(problem, param_hint=name) from error


def _mistake(content: bytes, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return f"bytes that are not UTF-8, such as 0x{error.object[error.start]:02x}"
    found = _BYTE.search(str(error))
    if found is None:
        return f"the beginning of it: {_end(content)!r} ends too early" if content.strip() else "nothing"
    at = int(found.group(1))
    problem = _BYTE.sub("", str(error).removeprefix("JSON is malformed: ")).strip()
    line, column = content.count(b"\n", 0, at) + 1, at - content.rfind(b"\n", 0, at)
    return f"{problem} at line {line}, column {column}, after {_end(content[:at])!r}"


def _end(content: bytes) -> str:
    text = content.decode("utf-8", "replace")
    return text if len(text) <= _AROUND else f"...{text[-_AROUND:]}"

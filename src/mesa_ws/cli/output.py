"""Where results go: JSON lines for programs, tables for people, colours only on a terminal."""

import re
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.text import Text

_WIDTH_OF_FILES = 120
"""Columns of a table that is not shown on a terminal."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def console() -> Console:
    """Whatever stdout is now; colours are for terminals only, and not where `NO_COLOR` is set."""
    output = Console(highlight=False)
    return output if output.is_terminal else Console(highlight=False, no_color=True, width=_WIDTH_OF_FILES)


def print_json(document: Any) -> None:
    """Print one JSON document on one line, at once, whoever reads it."""
    click.echo(msgspec.json.encode(document))


def plain(text: str) -> Text:
    """Text from outside, which can neither colour the table nor drive the terminal."""
    return Text(escaped(text))


def escaped(text: str) -> str:
    """Text from outside on one line, control characters as their escapes."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def compact(data: Any) -> str:
    """Data from outside as JSON on one line."""
    return escaped(msgspec.json.encode(data).decode())

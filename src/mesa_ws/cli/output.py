"""Output and errors of commands: JSON lines for programs, tables for people, colours only on a terminal."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import BackendError, ConnectFailed, InvalidInput, MesaError
from ..messages.json_keys import check_members
from ..messages.receipt import Delivery, Receipt

_WIDTH_OF_FILES = 120
"""Columns of a table that is not printed on a terminal."""

_LONGEST = 60
"""Characters of data, or of a reason, that a table shows."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def console() -> Console:
    """Return a console on stdout, with colours only on a terminal, and not where `NO_COLOR` is set."""
    output = Console(highlight=False)
    return output if output.is_terminal else Console(highlight=False, no_color=True, width=_WIDTH_OF_FILES)


def print_json(document: Any) -> None:
    """Print one JSON document on one line, without buffering."""
    click.echo(msgspec.json.encode(document))


def report(text: str, document: Any, *, as_json: bool) -> None:
    """Print a line for people, or a JSON document instead."""
    if as_json:
        print_json(document)
    else:
        click.echo(text)


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a number with what it counts, such as `2 messages`."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def shown_time(seconds: float) -> str:
    """Return a time for a table."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def short(text: str) -> Text:
    """Return the beginning of untrusted text for a table."""
    return plain(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ...")


def plain(text: str) -> Text:
    """Return untrusted text for a table, where it can neither add colours nor control the terminal."""
    return Text(escaped(text))


def escaped(text: str) -> str:
    """Return untrusted text on one line, with control characters escaped."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def compact(data: Any) -> str:
    """Return untrusted data as JSON on one line."""
    return escaped(msgspec.json.encode(data).decode())


_AROUND = 16
"""Characters that an error shows before a mistake."""

_BYTE = re.compile(r"\(byte (\d+)\)")


def read_json(argument: str, name: str) -> Any:
    """Read a JSON argument, or stdin if it is `-`; errors call it `name`."""
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
    """Return the first byte that is not UTF-8; `surrogateescape` keeps such bytes as surrogates (PEP 383)."""
    text = content.decode("utf-8", "surrogateescape")
    return next(ord(sign) - 0xDC00 for sign in text if "\udc80" <= sign <= "\udcff")


def _end(content: bytes) -> str:
    text = content.decode("utf-8", "replace")
    return text if len(text) <= _AROUND else f"...{text[-_AROUND:]}"


def receipt_document(receipt: Receipt, at: float, took_ms: float) -> dict[str, Any]:
    """Return the receipt as a JSON document; the dispatch began `at`, in seconds since 1970."""
    return {
        "message_id": receipt.message_id,
        "nodes": receipt.nodes,
        "deliveries": {id: delivery._asdict() for id, delivery in receipt.deliveries.items()},
        "dispatched_at": at,
        "took_ms": round(took_ms, 3),
    }


def print_receipt(receipt: Receipt, took_ms: float) -> None:
    """Print the receipt as a table, with one row for each id."""
    output = console()
    if receipt.deliveries:
        table = Table("id", "connections", "result")
        for id, delivery in receipt.deliveries.items():
            table.add_row(plain(id), str(delivery.online), _result(delivery))
        output.print(table)
    servers = counted(receipt.nodes, "server")
    output.print(f"message {receipt.message_id} handed to {servers} in {took_ms:.1f} ms")


def _result(delivery: Delivery) -> str:
    if delivery.dropped is not None:
        return f"dropped: {delivery.dropped}"
    return "stored" if delivery.stored else "sent"


_ADDRESS = "mesa_ws.address"


@contextmanager
def from_command_line() -> Iterator[None]:
    """Report `InvalidInput` as an error of the command line, with exit code 2."""
    try:
        yield
    except InvalidInput as error:
        raise click.UsageError(said(error)) from error


def note_address(context: click.Context, param: click.Parameter, url: str) -> str:
    """Remember the source of a command's address; the callback of its option."""
    context.meta[_ADDRESS] = _source(context, param)
    return url


def said(error: MesaError) -> str:
    """Return the text of an error on one line; if it is about the address, with the address's source."""
    context = click.get_current_context(silent=True)
    where: str | None = context.meta.get(_ADDRESS) if context is not None else None
    text = str(error)
    if where is not None and text.startswith("url: "):
        text = f"{where}: {text.removeprefix('url: ')}"
    elif where is not None and isinstance(error, BackendError | ConnectFailed):
        text = f"{text} (address: {where})"
    return escaped(text)


def _source(context: click.Context, param: click.Parameter) -> str:
    source = context.get_parameter_source(param.name or "")
    variables: Any = param.envvar
    names: list[str] = [variables] if isinstance(variables, str) else list(variables or ())
    if source is ParameterSource.ENVIRONMENT:
        return next(name for name in names if os.environ.get(name))
    option = param.opts[0]
    if source is ParameterSource.COMMANDLINE:
        return option
    return f"the default; {option} or {' or '.join(names)} names another"

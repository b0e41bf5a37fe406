"""`--to`, `--excluding` and `--all`: whom a dispatch is for."""

from collections.abc import Callable, Sequence
from typing import Any

import click
import msgspec

from ..errors import InvalidRecipients
from ..recipients import check_id

_NOBODY_NAMED = (
    "expected recipients, got none; --to 1,2 names clients by their id, --all means every connected client"
)


def recipient_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as `to`, `excluding` and `everybody`."""
    for option in (
        click.option(
            "--excluding",
            callback=_read,
            metavar="ID,...",
            multiple=True,
            help="Ids that are left out.",
        ),
        click.option(
            "--all", "everybody", is_flag=True, help="For every connected client; the same as --to '*'."
        ),
        click.option(
            "--to",
            callback=_read,
            metavar="ID,...",
            multiple=True,
            help="""Ids it is for, with commas between; may be given again. A JSON list, as in '["a,b"]', """
            "where an id contains a comma.",
        ),
    ):
        command = option(command)
    return command


def recipients_of(to: tuple[str, ...], everybody: bool) -> Sequence[str]:
    """Whom the options name. Nobody gets everything by leaving something out.

    Everybody is written out, since an event is refused for recipients that were not.

    Raises:
        UsageError: neither ids nor everybody, or both.
    """
    if everybody and to:
        raise click.UsageError("expected --to or --all, got both")
    if not everybody and not to:
        raise click.UsageError(_NOBODY_NAMED)
    return ["*"] if everybody else to


def _read(context: click.Context, param: click.Parameter, typed: tuple[str, ...]) -> tuple[str, ...]:
    """Ids between commas, or a JSON list; `*` may stand for everybody in `--to` only."""
    ids = tuple(id for text in typed for id in _ids(text))
    try:
        for id in ids:
            if id != "*" or param.name != "to":
                check_id(id)
    except InvalidRecipients as error:
        raise click.BadParameter(str(error)) from None
    return ids


def _ids(text: str) -> list[str]:
    if not text.lstrip().startswith("["):
        return [id.strip() for id in text.split(",")]
    try:
        return msgspec.json.decode(text, type=list[str])
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"expected a JSON list of ids as text, got {text!r}: {error}") from None

"""What applications register to be called."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from mesa_ws.errors import InvalidSettings
from mesa_ws.handlers.caller import checked


class Handlers:
    def two(self, message: object, connection: object) -> None: ...

    def __call__(self, message: object) -> None: ...


async def two(message: object, connection: object) -> None: ...


def injected(function: Callable[..., Any]) -> Callable[..., Any]:
    """What gives a function more than it is called with, as libraries do."""

    @functools.wraps(function)
    def call(*arguments: object) -> Any:
        return function("session", *arguments)

    return call


@injected
def three(session: object, message: object, connection: object) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [
        two,
        Handlers().two,
        three,
        print,
        functools.partial(three, "session"),
        lambda *arguments: None,
        lambda message, connection, more=None: None,
    ],
)
def test_what_takes_the_arguments_is_returned_as_it_is(handler: Callable[..., Any]) -> None:
    assert checked("on_message", handler, "message", "connection") is handler


def test_what_was_written_in_c_is_believed() -> None:
    assert checked("on_message", dict.fromkeys, "message") == dict.fromkeys
    assert checked("on_message", type, "message", "connection") is type


@pytest.mark.parametrize(
    ("handler", "got"),
    [
        (lambda message: None, "test_handler.<lambda>(message)"),
        (Handlers(), "Handlers(message: object) -> None"),
        (lambda message, connection, more: None, "<lambda>(message, connection, more)"),
        (lambda message, *, connection: None, "<lambda>(message, *, connection)"),
    ],
)
def test_what_takes_others_is_refused_with_what_it_takes(handler: Callable[..., Any], got: str) -> None:
    with pytest.raises(InvalidSettings) as raised:
        checked("on_message", handler, "message", "connection")
    assert str(raised.value).startswith(
        "on_message: expected a function to be called as handler(message, connection), got "
    )
    assert str(raised.value.got).endswith(got.removeprefix("test_handler."))


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(InvalidSettings, match=r"on_stop: .* handler\(\), got 7"):
        checked("on_stop", 7)  # type: ignore[type-var]

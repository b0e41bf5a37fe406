"""What applications register to be called: whether it can be called like that."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from .errors import InvalidSettings

AnyHandler = TypeVar("AnyHandler", bound=Callable[..., Any])


def checked(field: str, handler: AnyHandler, *arguments: str) -> AnyHandler:
    """Return `handler`, which will be called with so many arguments; their names are for people.

    A function of another library may hide what it takes, and is believed.

    Raises:
        InvalidSettings: it cannot be called, or not with so many.
    """
    expected = f"a function to be called as handler({', '.join(arguments)})"
    if not callable(handler):
        raise InvalidSettings(field, expected, handler)
    try:
        signature = inspect.signature(handler, follow_wrapped=False)
    except (TypeError, ValueError):  # written in C
        return handler
    try:
        signature.bind(*arguments)
    except TypeError:
        name = getattr(handler, "__qualname__", type(handler).__qualname__)
        raise InvalidSettings(field, expected, f"{name}{signature}") from None
    return handler

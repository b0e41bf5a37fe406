"""Plain text from the strings that callers give.

`class Color(str, Enum)`, `StrEnum` members and other subclasses of `str` compare equal to the text
that they hold, but they may be formatted, hashed and encoded as something else: `f"{Color.RED}"`
is `Color.RED` and not `red`. So text that becomes part of a key, a header or a lookup is made plain
where it enters.
"""

from typing import TypeVar

T = TypeVar("T")


def plain(value: T) -> T:
    """Return the text that an instance of a subclass of `str` holds, as a `str`; anything else unchanged."""
    if type(value) is not str and isinstance(value, str):
        return str.__str__(value)  # type: ignore[return-value]  # a str stands for any of its subclasses
    return value

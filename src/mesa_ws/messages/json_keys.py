"""Names of object members in JSON: text, and each once in its object.

Python's dicts have other keys too. An integer becomes text, as in JavaScript; any other kind of
key is refused, because it has no one obvious spelling (`None`, `null` or `NULL`?). So are two keys
of one dict that become the same text: a reader would keep one of the two, and which one differs.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import msgspec

from ..errors import InvalidInput, InvalidMessage

_SHOWN = 40
"""Characters of a key that are shown in a path."""


def check_keys(data: Any, encode: Callable[[Any], object]) -> None:
    """Find the keys in `data`, at any depth, that JSON cannot hold.

    Args:
        data: the data to encode, of which some keys are not text.
        encode: encodes, and fails at each dict with a key that is not text.

    Raises:
        InvalidMessage: a key is neither text nor an integer, or becomes the same text as another
            key of its dict; the error has the path to that dict.
        RecursionError: `data` contains itself, or is nested too deep.
    """
    try:
        _check(data, encode)
    except _BadKeys as bad:
        raise InvalidMessage(f"data{''.join(reversed(bad.path))}: {bad.problem}") from None


def check_members(content: bytes) -> None:
    """Check that each name occurs once in its object of a JSON text.

    Text that is not JSON passes: the caller's own reader says what is wrong with it. The usual case
    costs one quick decoding and encoding: a text that loses a member by that has fewer colons then.

    Raises:
        InvalidInput: a name occurs twice, or the text is nested too deep.
    """
    try:
        data = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return
    try:
        colons = msgspec.json.encode(data).count(b":")
        if content.count(b":") != colons or b"\\u003" in content:
            json.loads(content, object_pairs_hook=_read_members, parse_int=str, parse_float=str)
    except RecursionError:
        raise InvalidInput("expected JSON of less depth, got it nested too deep; flatten it") from None


def _read_members(members: list[tuple[str, object]]) -> None:
    names = set()
    for name, _ in members:
        if name in names:
            raise InvalidInput(
                f"expected each name once in an object, got {_brief(name)!r} twice; leave one out"
            )
        names.add(name)


class _BadKeys(Exception):
    """Error of keys that cannot be written, with the path to their dict, last step first."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: list[str] = []


def _check(value: Any, encode: Callable[[Any], object]) -> None:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, Mapping):
        _check_names(value)
    for step, member in _members(value):
        try:
            with suppress(TypeError, ValueError, OverflowError):  # then its keys are in doubt
                encode(member)
                continue
            _check(member, encode)
        except _BadKeys as bad:
            bad.path.append(_shown(step))
            raise


def _check_names(mapping: Mapping[Any, Any]) -> None:
    named: dict[str, Any] = {}
    for key in mapping:
        name = _name(key)
        if name is None:
            got = repr(key) if key is None or isinstance(key, bool) else f"one of type {type(key).__name__}"
            raise _BadKeys(f"expected keys that are text or integers, got {got}; write str(key)")
        if name in named:
            twice = " and ".join(
                repr(_brief(name)) if isinstance(k, str) else name for k in (named[name], key)
            )
            raise _BadKeys(f"expected each key once, got {twice}, which are the same text in JSON")
        named[name] = key


def _name(key: Any) -> str | None:
    """Return the text that `key` becomes; None if it must not be a key."""
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return int.__repr__(key)
    return None


def _members(value: Any) -> Iterable[tuple[object, Any]]:
    """Yield the members of `value`, each with its key or its index."""
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, list | tuple | AbstractSet):
        return enumerate(value)
    if isinstance(value, msgspec.Struct):
        return ((name, getattr(value, name)) for name in value.__struct_fields__)
    if is_dataclass(value):
        return ((field.name, getattr(value, field.name, None)) for field in fields(value))
    attributes = getattr(type(value), "__attrs_attrs__", ())
    return ((attribute.name, getattr(value, attribute.name, None)) for attribute in attributes)


def _shown(step: object) -> str:
    """Write a step of a path as Python does: `.name` for a name."""
    if isinstance(step, str):
        return f".{step}" if step.isidentifier() and len(step) <= _SHOWN else f"[{_brief(step)!r}]"
    return f"[{_brief(str(step))}]"


def _brief(name: str) -> str:
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."

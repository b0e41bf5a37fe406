"""The dispatcher of a process, and messages that are sent when a transaction is committed."""

import os
from collections.abc import Iterable, Mapping
from functools import cache
from threading import Lock
from typing import Any

from django.core.signals import setting_changed
from django.db import transaction

from ... import Dispatcher, DispatchEvent, Message
from ...messages.envelope import prepare
from ...messages.recipients import EVERYBODY
from ...settings import Durability
from .configuration import configured, shared_options


def dispatcher() -> Dispatcher:
    """Return the dispatcher of this process, for any thread.

    It connects with its first dispatch, also in a worker that was forked after this.

    Raises:
        ImproperlyConfigured: the setting `MESA` is wrong.
        InvalidSettings: the dispatcher cannot use it.
    """
    with _in_turn[-1]:
        return _make()


_in_turn = [Lock()]
"""The lock of this process: threads that come at once get one dispatcher."""

os.register_at_fork(after_in_child=lambda: _in_turn.append(Lock()))  # another thread may have held that one


@cache
def _make() -> Dispatcher:
    found = configured()
    given = found["DISPATCHER"]
    if not isinstance(given, Mapping):
        made: Dispatcher = given
        return made
    return Dispatcher(found["URL"], **{**shared_options(found), **given})


def dispatch_on_commit(
    message: Message | DispatchEvent,
    recipients: Iterable[str] = EVERYBODY,
    excluding: Iterable[str] = (),
    *,
    idempotency_key: str | None = None,
    durability: Durability = "memory",
    using: str | None = None,
) -> None:
    """Dispatch a message when the transaction is committed; at once where there is none.

    The data is saved by then, so a backend that is away fails no request: Django logs that the message was
    not sent, and goes on. Where each message has to arrive, write it into the database in the transaction.

    Args:
        message: as of `Dispatcher.dispatch`, like the following.
        recipients: ids, or `"*"` for everybody.
        excluding: ids that do not receive it.
        idempotency_key: a name for this message.
        durability: where it is stored.
        using: the database whose transaction it is; the default one if None.

    Raises:
        InvalidInput: the message or the recipients cannot be used; nothing will be sent.
    """
    to = recipients if isinstance(recipients, str) else list(recipients)
    without = excluding if isinstance(excluding, str) else list(excluding)
    prepare(message, to, without, idempotency_key=idempotency_key)

    def dispatch() -> None:
        dispatcher().dispatch(message, to, without, idempotency_key=idempotency_key, durability=durability)

    dispatch.__qualname__ = f"dispatch of {message!r}"
    transaction.on_commit(dispatch, using=using, robust=True)


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "MESA":
        _make.cache_clear()


setting_changed.connect(_forget)  # by a test that overrides settings

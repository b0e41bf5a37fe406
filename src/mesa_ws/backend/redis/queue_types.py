"""Portal keys of a wrong type, which are set aside so that work continues."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from redis.exceptions import ResponseError

from ...errors import BackendRefused
from ..inbox import PARTITIONS
from ..redis_client.command import Call, Command
from .keys import Keys
from .scripts import SET_ASIDE

_log = logging.getLogger("mesa_ws.backend")


class QueueTypes:
    """Sets keys of a wrong type aside when Redis refuses a call for them, so that it can be repeated.

    Types are checked only after a refusal, so a call that works costs nothing more. The scripts check
    types before they write anything that must not be written twice.

    Args:
        keys: names of the namespace.
        execute: runs one command.
        node: id of a server's node, whose connections portals know of; empty in a portal.
    """

    def __init__(
        self, keys: Keys, execute: Callable[[Command], Awaitable[list[Any]]], node: str = ""
    ) -> None:
        self._keys = keys
        self._execute = execute
        self._node = node

    async def repair(self, error: BackendRefused, *, is_repeated: bool) -> Literal[True]:
        """Set keys aside after a call was refused; then it can be repeated, once.

        Returns:
            That the call is repeated, for the next time.

        Raises:
            BackendError: `error`, which has another reason, or Redis did not answer.
        """
        cause = error.__cause__
        if is_repeated or not isinstance(cause, ResponseError) or not str(cause).startswith("WRONGTYPE"):
            raise error
        types = expected_types(self._keys)
        if self._node:
            types[self._keys.connections(self._node)] = "hash"
        names = list(types)
        (found,) = await self._execute(Call(SET_ASIDE, tuple(names), tuple(types.values())).command)
        for number in found:
            name = names[number - 1]
            _log.warning(
                "%r had another type than Mesa keeps there; it was set aside as %r for 7 days",
                name,
                self._keys.aside(name),
            )
        return True


def expected_types(keys: Keys) -> dict[str, str]:
    """Return the keys that portal scripts use, each with its type in Redis."""
    numbers = range(PARTITIONS)
    names = {
        "hash": [keys.signs, keys.counters, keys.tallies, keys.tokens],
        "zset": [keys.leases, keys.graces, keys.portals, keys.observers],
        "stream": [keys.observed, keys.dead, *map(keys.queue, numbers)],
        "string": [keys.rejected, *map(keys.owner, numbers)],
    }
    names["hash"] += (*map(keys.deliveries, numbers), *map(keys.weights, numbers))
    return {name: type for type, some in names.items() for name in some}

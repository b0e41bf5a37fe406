"""Portal keys of a wrong type, which are set aside so that work continues."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from ...errors import BackendRefused
from ..inbox import PARTITIONS
from ..redis_client.command import Call, Command
from .keys import Keys
from .scripts import SET_ASIDE

T = TypeVar("T")

_log = logging.getLogger("mesa_ws.backend")


class QueueTypes:
    """Sets keys of a wrong type aside when Redis refuses a call for them, and repeats the call.

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

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Run `call`, and again if keys had to be set aside.

        Raises:
            BackendError: the call failed.
        """
        try:
            return await call()
        except BackendRefused as error:
            if not _is_of_wrong_type(error.__cause__):
                raise
        await self._set_aside()
        return await call()

    async def _set_aside(self) -> None:
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


def expected_types(keys: Keys) -> dict[str, str]:
    """Return the keys that portal scripts use, each with its type in Redis."""
    shared = {
        keys.leases: "zset",
        keys.signs: "hash",
        keys.counters: "hash",
        keys.graces: "zset",
        keys.tallies: "hash",
        keys.portals: "zset",
        keys.tokens: "hash",
        keys.observers: "zset",
        keys.observed: "stream",
        keys.dead: "stream",
        keys.rejected: "string",
    }
    for number in range(PARTITIONS):
        shared[keys.queue(number)] = "stream"
        shared[keys.deliveries(number)] = "hash"
        shared[keys.weights(number)] = "hash"
        shared[keys.owner(number)] = "string"
    return shared


def _is_of_wrong_type(error: BaseException | None) -> bool:
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")

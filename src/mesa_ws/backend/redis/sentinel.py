"""Asking Sentinels who is master, anew for every connection."""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.sentinel import Sentinel

DEFAULT_PORT = 26379


class Sentinels(NamedTuple):
    """Where Sentinels listen and which master they shall name.

    Args:
        hosts: host and port of each.
        service: name of the master.
        options: redis-py options for connections to the Sentinels themselves.
    """

    hosts: tuple[tuple[str, int], ...]
    service: str
    options: Mapping[str, Any]

    def find(self, timeout: float) -> dict[str, Any]:
        """Ask one after another; each gets an equal part of `timeout`.

        Returns:
            `host` and `port` of the master, as redis-py options.
        """
        sentinel: Any = Sentinel(self.hosts, sentinel_kwargs=self._limited(timeout))  # type: ignore[no-untyped-call]
        try:
            host, port = sentinel.discover_master(self.service)
        finally:
            for client in sentinel.sentinels:
                client.close()
        return {"host": host, "port": port}

    async def afind(self, timeout: float) -> dict[str, Any]:
        """`find` for asyncio."""
        sentinel: Any = AsyncSentinel(self.hosts, sentinel_kwargs=self._limited(timeout))  # type: ignore[no-untyped-call]
        try:
            host, port = await sentinel.discover_master(self.service)
        finally:  # also when whoever asks has no more time for it
            await asyncio.shield(asyncio.gather(*(client.aclose() for client in sentinel.sentinels)))
        return {"host": host, "port": port}

    def _limited(self, timeout: float) -> dict[str, Any]:
        part = timeout / (len(self.hosts) + 1)
        limits = {"socket_timeout": part, "socket_connect_timeout": part, "protocol": 2, "retry": None}
        return {**self.options, **limits}

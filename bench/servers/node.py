"""A cluster node without clients: it holds ids, and drops the messages to them."""

import sys

from mesa_ws.backend.redis import RedisBackend

from .orders import obey_orders, run

LEASE = 3600.0
"""Seconds; long enough that no heartbeat disturbs the measurement."""

url, namespace = sys.argv[1:]


async def main() -> None:
    backend = RedisBackend(url, namespace=namespace, lease=LEASE)
    await backend.open(lambda envelope: None)

    async def hold(first: int, ids: int) -> None:
        for number in range(first, first + ids):
            await backend.attach(str(number), 1)

    try:
        await obey_orders(0, {"hold": hold})
    finally:
        await backend.aclose()


run(main)

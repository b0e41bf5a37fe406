"""A node as a process of its own: python redis_node.py REDIS_URL NAMESPACE LEASE ID...

Holds the ids, prints its node id when it does, and then the body of each message it receives.
"""

import asyncio
import sys

from mesa_ws.backend.redis import RedisBackend


async def main(redis_url: str, namespace: str, lease: str, *ids: str) -> None:
    backend = RedisBackend(redis_url, namespace=namespace, lease=float(lease))
    await backend.open(lambda envelope: print(envelope.body.decode(), flush=True))
    for id in ids:
        await backend.attach(id, 1)
    print(backend.node_id, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""Embedded backend: one process, no Redis, the same semantics.

Nothing survives the process. A `MemoryHub` takes the place of Redis: backends that share a hub
form a cluster, which is how several servers in one process (and the tests) see each other.

| module | holds |
|---|---|
| `backend` | the hub, and the ports for one node |
| `cluster` | one namespace: each dispatch is one atomic step here, as it is one script in Redis |
| `node` | which node holds which ids, and the ids that come and go |
| `outbox` | numbered messages of one id, and the outboxes of all ids |
| `inbox` | events for portals |
| `portal_consumer` | a portal's end of the inbox |
| `bus` | dispatchers, in any thread and any event loop |
"""

from .backend import MemoryBackend, MemoryHub
from .bus import AsyncMemoryBus, BlockingMemoryBus
from .cluster import check_durability
from .portal_consumer import MemoryPortalConsumer

__all__ = [
    "AsyncMemoryBus",
    "BlockingMemoryBus",
    "MemoryBackend",
    "MemoryHub",
    "MemoryPortalConsumer",
    "check_durability",
]

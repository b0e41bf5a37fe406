"""The embedded backend: one process, no Redis, the same semantics.

Nothing survives the process. A `MemoryHub` stands for what Redis would be: backends that share
one form a cluster, which is how several servers in one process (and the tests) see each other.

| module | holds |
|---|---|
| `backend` | the ports, for one node |
| `hub` | what nodes share, by namespace |
| `cluster` | one namespace: a dispatch is one step here, as it is one script in Redis |
| `holders` | which node holds whom, and who came and went |
| `outbox`, `outboxes` | numbered messages of one id; those of all ids, until nobody needs them |
| `inbox`, `attendance` | letters for portals; a portal's seat |
| `remembered` | what is known by its message id |
| `timetable` | what has to be looked at later |
"""

from .backend import MemoryBackend, MemoryHub
from .cluster import check_durability
from .portal_consumer import MemoryPortalConsumer

__all__ = ["MemoryBackend", "MemoryHub", "MemoryPortalConsumer", "check_durability"]

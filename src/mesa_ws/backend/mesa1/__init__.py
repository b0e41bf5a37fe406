"""The Redis wire of @cryb/mesa 1.x: its keys, channels and payloads, for clusters of both kinds of servers.

Delivery is that of 1.x: a message to ids that are connected is published once, and lost to a server that
does not hear it; a message to ids that are away waits in a list. Where its wire allows, the defects of 1.x
are not repeated: lists are changed atomically and keep messages until clients acknowledge them, devices are
counted, and nodes that died are cleaned up after.

| module | holds |
|---|---|
| `keys` | names of keys and channels, of 1.x and our own |
| `payloads` | payloads of the channels |
| `commands` | calls of scripts, and the meaning of their replies |
| `wire` | the handshake, and the operations of dispatchers |
| `outbox` | the lists of `undelivered_messages`, and a node's reads and acknowledgements |
| `channel`, `members`, `node`, `backend` | an open node, and the ports |
| `portal_liveness` | which portals live |
| `portal_dispatch` | sends events to the portals in turn |
| `portal_consumer` | a portal's end |
| `rights` | the rights that the Redis user of a process needs |
"""

from .backend import Mesa1Backend
from .portal_consumer import Mesa1PortalConsumer
from .wire import Mesa1Wire

__all__ = ["Mesa1Backend", "Mesa1PortalConsumer", "Mesa1Wire"]

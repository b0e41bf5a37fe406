"""The Redis wire of @cryb/mesa 1.x: its keys, channels and payloads, for clusters of both kinds.

Delivery is what 1.x gives: a message to those who are connected is published once, and lost to a
server that does not hear it; one to those who are away waits in a list. Where its wire allows, the
defects of 1.x are not repeated: lists are changed atomically and kept until what they held is
proven to be received, devices are counted, and nodes that died are cleaned up after.

| module | holds |
|---|---|
| `keys` | the names, of 1.x and of our own |
| `payload` | what is published on `ws` |
| `waiting` | the lists of `undelivered_messages` |
| `plan`, `script` | what is asked of Redis, and what it answers |
| `dialect` | the operations of dispatchers |
| `stream` | what a node has read of an id's list, and what of that is proven |
| `lists` | reads and shrinks the lists of a node's ids |
| `importing` | moves lists into outboxes of the native wire |
| `resident`, `node` | a node while it is open, and the ports |
| `events` | what is published for portals, and by them |
| `pool`, `census`, `vitality`, `portals` | portals, whether they live, whose turn it is |
| `attending` | a portal's seat |
| `rights` | what its user of Redis has to be granted |
"""

from .backend import Mesa1Backend
from .importing import ImportingBackend
from .operations import Mesa1
from .portal_consumer import Mesa1PortalConsumer

__all__ = ["ImportingBackend", "Mesa1", "Mesa1Backend", "Mesa1PortalConsumer"]

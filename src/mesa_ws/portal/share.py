"""Who should own what: the same answer wherever it is asked, and little moves when somebody comes or goes."""

from collections.abc import Collection
from hashlib import sha1

from ..backend.inbox import PARTITIONS


def share(portals: Collection[str], portal: str) -> frozenset[int]:
    """The queues that one of the living portals should own.

    Rendezvous hashing: each queue goes to the portal that draws the highest lot for it, but nobody
    gets more than an equal part, rounded up. So sixteen portals have one each.
    """
    most = -(-PARTITIONS // max(1, len(portals)))
    loads = dict.fromkeys(portals, 0)
    mine = set()
    for number in range(PARTITIONS):
        free = [each for each in loads if loads[each] < most]
        if not free:
            break
        owner = max(free, key=lambda each: _lot(each, number))
        loads[owner] += 1
        if owner == portal:
            mine.add(number)
    return frozenset(mine)


def _lot(portal: str, number: int) -> bytes:
    return sha1(f"{portal}:{number}".encode(), usedforsecurity=False).digest()

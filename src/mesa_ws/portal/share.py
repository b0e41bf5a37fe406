"""Who should own what: the same answer wherever it is asked, and little moves when somebody comes or goes."""

from collections.abc import Collection
from hashlib import sha1

from ..backend.inbox import PARTITIONS


def share(portals: Collection[str], portal: str) -> frozenset[int]:
    """The queues that one of the living portals should own.

    Rendezvous hashing: each queue goes to the portal that draws the highest lot for it, as long as
    that has less than its part. Parts differ by one at most, so sixteen portals have one each.
    """
    if portal not in portals:
        return frozenset()
    part, larger = divmod(PARTITIONS, len(portals))
    loads = dict.fromkeys(sorted(portals), 0)
    mine = set()
    for number in range(PARTITIONS):
        free = [each for each, load in loads.items() if load < part + (larger > 0)]
        owner = max(free, key=lambda each: _lot(each, number))
        loads[owner] += 1
        larger -= loads[owner] > part
        if owner == portal:
            mine.add(number)
    return frozenset(mine)


def _lot(portal: str, number: int) -> bytes:
    return sha1(f"{portal}:{number}".encode(), usedforsecurity=False).digest()

"""Counts the connections of a node against their limits. No I/O, and no clock but that of the log.

A connection counts as unauthenticated from its handshake to its login, or to the end of its socket. These are
counted for each address, as one client could open any number of them; an address in IPv6 is its network of 64
bits, which one client has to itself. Connections for another service on the same port count among them as
long as they have shown no key; without an authenticator, they are the only ones.

Close to the limits of the node, strangers are refused first: addresses that have logged in lately, and those
without a limit, have a share that is kept for them. Without an authenticator there are no strangers.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeVar

from ..concurrency.limited_log import LimitedLog
from ..settings import Limits

Connected = TypeVar("Connected")

PREFIX_OF_IPV6 = 64
"""Bits of an IPv6 address that all addresses of one client have in common."""

SHARE = 10
"""The tenth part of connections and handshakes is kept for addresses that have logged in."""

MAX_KNOWN = 65_536
"""Addresses that have logged in, of which the last ones are remembered."""

IN_ALL = "max_connections"
HANDSHAKES = "max_handshakes"
PER_ADDRESS = "max_unauthenticated_per_address"
PER_ID = "max_connections_per_id"
FAILED_LOGINS = "max_failed_logins_per_address"
WAIT = "max_wait"


class ConnectionLimits:
    """The counts of one node. For its event loop only.

    Args:
        limits: the settings.
        log: gets a line a minute for each limit that refuses connections.
        proxies: networks of trusted proxies. Their own addresses count where they name no other, and are not
            exempt, or clients that make them name none would have no limit.

    Attributes:
        has_authenticator: whether clients can log in; without that, addresses have no limit.
        network_of: returns what the connections of an address are counted under; None for addresses without a
            limit.
        refused: connections that were refused, by the limit that they would have passed.
        handshakes: number of handshakes under way.
        begun: number of handshakes so far.
        dropped: clients that had gone before their `handshake`, or before their `login`, which was not begun.
    """

    def __init__(self, limits: Limits, log: LimitedLog, proxies: Sequence[str] = ()) -> None:
        self._limits = limits
        self._log = log
        self._exempt = [ip_network(network) for network in limits.exempt_networks or ()]
        self._proxies = [ip_network(network) for network in proxies]
        self.network_of = lru_cache(4096)(self._find_network)
        self._open = 0
        self._unauthenticated: dict[object, str] = {}
        self._by_network: Counter[str] = Counter()
        self._handshakes: Counter[str] = Counter()
        self._known: dict[str, None] = {}  # the last one to log in, or to leave, at the end
        self.handshakes = self.begun = 0
        self.dropped = Counter(handshake=0, login=0)
        self.has_authenticator = False
        self.refused: Counter[str] = Counter()

    def begin_handshake(self, address: str | None) -> str | None:
        """Count a handshake; where a limit does not allow it, count nothing, and return its name."""
        network = self.network_of(address)
        if self.handshakes >= self._room(self._limits.max_handshakes, network):
            return HANDSHAKES
        most = self._limits.max_unauthenticated_per_address
        if network is not None:
            if most is not None and self._handshakes[network] >= most:
                return PER_ADDRESS
            self._handshakes[network] += 1
        self.handshakes += 1
        self.begun += 1
        return None

    def end_handshake(self, address: str | None) -> None:
        """Count a handshake no longer, whatever came of it."""
        self.handshakes -= 1
        network = self.network_of(address)
        if network is not None:
            _decrease(self._handshakes, network)

    def reached(self, address: str | None) -> str | None:
        """Return the name of a limit that allows no further connection from `address`; None if all do."""
        limits, network = self._limits, self.network_of(address)
        if limits.max_connections is not None and self._open >= self._room(limits.max_connections, network):
            return IN_ALL
        return PER_ADDRESS if self.has_authenticator and not self._has_place(network) else None

    def _has_place(self, network: str | None) -> bool:
        """Whether a network may have one more connection without a login."""
        most = self._limits.max_unauthenticated_per_address
        return most is None or network is None or self._by_network[network] < most

    def _room(self, most: int, network: str | None) -> int:
        """Return how many of `most` a network may find there and still come: fewer if it is a stranger's."""
        is_stranger = self.has_authenticator and network is not None and network not in self._known
        return most - most // SHARE if is_stranger else most

    def has_room_for_id(self, others: int) -> bool:
        """Whether an id may have one more connection than `others`, by itself or in place of the oldest."""
        most = self._limits.max_connections_per_id
        return most is None or others < most or self._limits.when_id_is_full == "replace"

    def replaced(self, connections: list[Connected]) -> list[Connected]:
        """Return those of an id's connections, the oldest first, that its newest takes the place of."""
        most = self._limits.max_connections_per_id
        return [] if most is None or self._limits.when_id_is_full == "refuse" else connections[:-most]

    def opened(self, connection: object, address: str | None) -> None:
        """Count a connection whose handshake is done."""
        self._open += 1
        if self.has_authenticator:
            self._count_for(self.network_of(address), connection)

    def admit(self, connection: object, address: str | None) -> bool:
        """Count a connection for another service of the port as one without a login, until it has `left`.

        Returns:
            False if its address has too many of these; it is counted as refused then.
        """
        network = self.network_of(address)
        if not self._has_place(network):
            self.refuse(PER_ADDRESS, address)
            return False
        self._count_for(network, connection)
        return True

    def left(self, connection: object) -> None:
        """Count a connection for another service no longer; later calls do nothing."""
        self._leave_address(connection)

    def _count_for(self, network: str | None, connection: object) -> None:
        if network is not None:
            self._unauthenticated[connection] = network
            self._by_network[network] += 1

    def network_of_guest(self, connection: object) -> str:
        """Return the network that an unauthenticated connection counts for; empty if for none."""
        return self._unauthenticated.get(connection, "") if self.has_authenticator else ""

    def logged_in(self, connection: object) -> None:
        """Count a connection no longer for its address; later calls do nothing."""
        network = self._leave_address(connection)
        if network is not None:
            self._remember(network)

    def closed(self, connection: object, address: str | None) -> None:
        """Count a connection no longer, as its socket is closed."""
        self._open -= 1
        if self._leave_address(connection) is None:
            self._remember(self.network_of(address))  # it was logged in until now

    def _leave_address(self, connection: object) -> str | None:
        network = self._unauthenticated.pop(connection, None)
        if network is not None:
            _decrease(self._by_network, network)
        return network

    def _remember(self, network: str | None) -> None:
        if network is None or not self.has_authenticator:
            return
        self._known.pop(network, None)
        self._known[network] = None
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def refuse(self, limit: str, address: str | None) -> None:
        """Count and log a connection that is refused."""
        self.refused[limit] += 1
        most = getattr(self._limits, limit)
        has_share = self.has_authenticator and limit in {IN_ALL, HANDSHAKES} and most >= SHARE
        share = ", a tenth of it for addresses that have logged in" if has_share else ""
        self._log.warning(
            "refused a connection from %s: limits.%s is %d%s", address, limit, most, share, kind=limit
        )

    def _find_network(self, address: str | None) -> str | None:
        if address is None:
            return None
        parsed = ip_address(address)
        if isinstance(parsed, IPv6Address):
            parsed = parsed.ipv4_mapped or parsed
        is_proxy = any(parsed in network for network in self._proxies)
        if not is_proxy and any(parsed in network for network in self._exempt):
            return None
        if isinstance(parsed, IPv6Address):
            return str(IPv6Network((int(parsed), PREFIX_OF_IPV6), strict=False))
        return str(parsed)


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]

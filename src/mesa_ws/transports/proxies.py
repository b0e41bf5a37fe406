"""The address of a client behind proxies, as `Forwarded` (RFC 7239) or `X-Forwarded-For` names it.

Each proxy adds the address that its peer has to the right end of the list; what is further left may be the
client's own invention. So the list is read from the right, as far as trusted proxies have written it.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Protocol

from ..settings import ProxyHeader

MAX_PROXIES = 16
"""Proxies that a request may pass; the client of a longer list is not looked for."""

RemoteAddress = tuple[str, int]
"""Host and port."""

Host = IPv4Address | IPv6Address

_NODE = re.compile(
    r"(?:(?P<ipv4>[0-9.]+)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::(?:(?P<port>[0-9]{1,5})|_[\w.-]+))?", re.ASCII
)
"""An address with a port or without (RFC 7239 section 6); IPv6 has brackets."""

_BARE_IPV6 = re.compile("[0-9A-Fa-f:.]+")
"""IPv6 without brackets, as most proxies write it into `X-Forwarded-For`."""

_PARAMETER = re.compile(r'\s*([!#$%&\'*+.^_`|~\w-]+)=(?:([^\s";,=]+)|"([^"\\]*)")\s*', re.ASCII)
"""A parameter of `Forwarded` (section 4), its value a token or, taken less strictly, one without quotes."""


class Headers(Protocol):
    """The header fields of a request; a name may be there several times."""

    def getall(self, name: str, default: list[str], /) -> list[str]:
        """Return the values of a field, in order."""
        ...


class TrustedProxies:
    """Finds the addresses of clients behind the proxies that are trusted.

    Args:
        networks: of the proxies.
        header: the field that they write; the other one may be of the client.
    """

    def __init__(self, networks: Sequence[str], header: ProxyHeader) -> None:
        self._networks = [ip_network(network) for network in networks]
        self._header = header
        self.trusts = lru_cache(4096)(self._trusts)

    def client_of(self, peer: RemoteAddress, headers: Headers) -> RemoteAddress | None:
        """Return the address of a client: that of the peer, or the one that trusted proxies name.

        It is the rightmost one that is no trusted proxy, or the leftmost if all are. Its port is 0 if it is
        not named.

        Returns:
            None if a trusted proxy names none, or nothing that is an address.
        """
        if not self.trusts(peer[0]):
            return peer
        client = None
        hops = ",".join(headers.getall(self._header, [])).rsplit(",", MAX_PROXIES)
        for hop in reversed(hops):
            client = _address_in(hop) if self._header == "x-forwarded-for" else _forwarded_for(hop)
            if client is None or not self.trusts(client[0]):
                return client
        return client

    def _trusts(self, host: str) -> bool:
        address = _plain(ip_address(host))
        return any(address in network for network in self._networks)


def _forwarded_for(element: str) -> RemoteAddress | None:
    """Return the address that an element of `Forwarded` names.

    No address has a comma or a semicolon in it, so the field may be cut at these. Where one stands in a
    quoted text, which only a client can have caused, the element names none.
    """
    parts = [_PARAMETER.fullmatch(part) for part in element.split(";") if part.strip()]
    named = [part[2] or part[3] for part in parts if part is not None and part[1].lower() == "for"]
    return _address_in(named[0]) if len(named) == 1 and None not in parts else None


def _address_in(text: str) -> RemoteAddress | None:
    text = text.strip()
    node = _NODE.fullmatch(text)
    try:
        if node is None:
            return (str(_plain(IPv6Address(text))), 0) if _BARE_IPV6.fullmatch(text) else None
        host = IPv4Address(node["ipv4"]) if node["ipv4"] else IPv6Address(node["ipv6"])
    except ValueError:
        return None
    port = int(node["port"] or 0)
    return (str(_plain(host)), port) if port <= 0xFFFF else None


def _plain(address: Host) -> Host:
    """Return the address in IPv4 that is written as one of IPv6, where it is."""
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address

"""From which sites' pages a browser may open a connection.

A browser sends a user's cookies with a handshake, whichever page asks for it, and lets that page talk.
Without a rule, any page would act for a user who is logged in elsewhere (cross-site WebSocket hijacking).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self
from urllib.parse import urlsplit

from ..concurrency.limited_log import LimitedLog
from ..settings import ORIGIN

ANY = "*"
"""In place of an origin: pages of every site may connect, also with cookies."""

_ORIGIN = re.compile(ORIGIN)

_DEFAULT_PORTS = {"http": "80", "https": "443"}


class Headers(Protocol):
    """Fields of a request; names are compared without case."""

    def getall(self, key: str, default: list[str], /) -> list[str]:
        """Return all values of a field."""


class Origin(NamedTuple):
    """A parsed origin; `*.` at the beginning of the host stands for one label."""

    scheme: str
    host: str
    port: str

    @classmethod
    def of(cls, text: str) -> Self | None:
        """Parse an origin; None if it is none, as `null` is."""
        found = _ORIGIN.fullmatch(text.strip().lower())
        if found is None:
            return None
        scheme, host, port = found.groups()
        return cls(scheme, host, port or _DEFAULT_PORTS.get(scheme, ""))

    def allows(self, other: "Origin") -> bool:
        """Whether `other` is this origin, or one that its wildcard stands for."""
        host = other.host
        if self.host.startswith("*."):
            host = "*." + host.partition(".")[2]
        return (self.scheme, self.host, self.port) == (other.scheme, host, other.port)


class Origins:
    """Decides on handshakes.

    With a list of origins, a handshake that names another is refused. Without one, a handshake that carries a
    cookie is refused if it comes from a page of another site.

    Args:
        allowed: origins, `https://*.example.com` for all hosts right below one, or `*`; None for no list.
        log: gets one warning for the handshakes that are refused in want of a list.
    """

    def __init__(self, allowed: Sequence[str] | None, log: LimitedLog) -> None:
        self._allowed = None if allowed is None else [Origin.of(each) for each in allowed]
        self._is_open = ANY in (allowed or ())
        self._log = log

    def refuse(self, headers: Headers) -> bool:
        """Whether a handshake with these fields is refused."""
        named = headers.getall("Origin", [])
        if self._is_open or not named:  # only browsers name one
            return False
        origin = Origin.of(named[0]) if len(named) == 1 else None
        if self._allowed is not None:
            return origin is None or not any(each and each.allows(origin) for each in self._allowed)
        if not headers.getall("Cookie", []) or not _is_of_another_site(origin, headers):
            return False
        self._log.warning(
            "refused a page of %s with a cookie; allowed_origins names the sites whose pages may connect",
            named[0],
        )
        return True


def _is_of_another_site(origin: Origin | None, headers: Headers) -> bool:
    """Whether a page is of another site than the server, as the browser says, or as hosts suggest."""
    said = headers.getall("Sec-Fetch-Site", [])
    if said:
        return "cross-site" in said
    host = _host(headers.getall("Host", []))
    return origin is None or not (_is_below(origin.host, host) or _is_below(host, origin.host))


def _host(fields: list[str]) -> str:
    """Return the host of the request without its port."""
    try:
        return (urlsplit(f"//{fields[0]}").hostname or "") if fields else ""
    except ValueError:
        return ""


def _is_below(host: str, other: str) -> bool:
    host, other = host.strip("[]"), other.strip("[]")
    return bool(other) and (host == other or host.endswith(f".{other}"))

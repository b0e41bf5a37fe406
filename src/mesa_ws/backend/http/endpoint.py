"""Where a server's dispatch API is: its URL, taken apart and checked."""

from typing import NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

from ...errors import InvalidSettings
from ...text import plain


class Endpoint(NamedTuple):
    """The address of a dispatch API.

    Attributes:
        url: what the user wrote, without a closing slash.
        scheme: `http` or `https`.
        host: name or address, in ASCII and without brackets.
        port: where it listens.
        base: path in front of those of the API.
    """

    url: str
    scheme: str
    host: str
    port: int
    base: str

    @property
    def authority(self) -> str:
        """What the `Host` header says."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, url: object) -> "Endpoint":
        """Take `url` apart; a path before that of the API is kept.

        Raises:
            InvalidSettings: it is not the URL of a dispatch API.
        """
        url = str(plain(url))
        try:
            return cls._of(urlsplit(url))
        except ValueError:
            raise InvalidSettings(
                "url",
                "the http:// or https:// URL of a server's dispatch API, without user, query and fragment",
                _without_user(url),
            ) from None

    @classmethod
    def _of(cls, parts: SplitResult) -> "Endpoint":
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        if port is None or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError
        path = quote(parts.path.rstrip("/"), safe="/%:!$&'()*+,;=~")
        host = parts.hostname.encode("idna").decode()
        return cls(f"{parts.scheme}://{parts.netloc}{path}", parts.scheme, host, port, path)


def _without_user(url: str) -> str:
    _, mark, rest = url.rpartition("@")
    return f"...{mark}{rest}" if mark else url

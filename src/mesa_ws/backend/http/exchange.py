"""What a dispatcher sends over HTTP, and what its end means. Pure: two runners do the sending."""

import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, NoReturn, TypeVar
from urllib.parse import SplitResult, quote, urlsplit

import httpcore

from ...errors import BackendRefused, BackendUnavailable, InvalidSettings
from ...messages.envelope import Envelope
from ...messages.receipt import OutboxHead, Receipt, Stored
from ...messages.recipients import check_id, check_ids
from ...settings import Seconds, Settings, check_namespace
from ...text import plain
from ...tls import tls_error, tls_problem
from ..base import IdPage
from .auth import authorization, check_key
from .dispatch_schema import PATH, decode_problem, decode_receipts, encode_request, error_of
from .query_schema import (
    OUTBOXES,
    PRESENCE,
    PRESENCE_CONNECTIONS,
    PRESENCE_IDS,
    PURGE,
    REQUEST,
    SHOW,
    decode_answer,
    decode_connections,
    decode_count,
    decode_heads,
    decode_online,
    decode_page,
    decode_purged,
    decode_stored,
    encode_connections_question,
    encode_cursor,
    encode_outbox_question,
    encode_question,
    encode_request_question,
)


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


KEEP_ALIVE = 30.0
"""Seconds for which a silent connection is kept: fewer than servers and most gateways keep theirs,
so that a request seldom meets a connection that is about to be closed."""

FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    OSError,
)
"""How a connection fails; `OSError` stands for what the operating system and TLS raise on their own."""

_PART = 64 * 1024

T = TypeVar("T")


class Plan:
    """What one bus asks.

    Args:
        url: of a server's dispatch API.
        key: of that API.
        namespace: what the server has to serve; None for whatever it does.
        timeout: seconds for one request, from the connection to the last byte of the answer.

    Raises:
        InvalidSettings: one of them cannot be used.
    """

    def __init__(self, url: str, key: str | None, namespace: str | None, timeout: float) -> None:
        self.endpoint = Endpoint.of(url)
        self.timeout = _Times(timeout=timeout).timeout
        self._namespace = check_namespace(namespace)
        if key is None:
            raise InvalidSettings("key", "the key of the server's dispatch API; pass key='...'", None)
        self._authorization = authorization(check_key(key))

    def dispatch(self, envelopes: Sequence[Envelope]) -> "Exchange[list[Receipt]]":
        """The request that sends `envelopes`.

        Raises:
            InvalidInput: there are too many for one request.
        """

        def receipts(body: bytes) -> list[Receipt] | None:
            read = decode_receipts(body)
            return read if read is not None and len(read) == len(envelopes) else None

        return Exchange(self, PATH, encode_request(envelopes, self._namespace), receipts)

    def request(self, request: Envelope, timeout: float) -> "Exchange[bytes]":
        """The request that asks the connections of one id; its answer may take `timeout` longer."""
        question = encode_request_question(request, timeout, self._namespace)
        return Exchange(self, REQUEST, question, decode_answer, patience=timeout)

    def online(self, ids: Iterable[str]) -> "Exchange[dict[str, int]]":
        """The request that asks which of `ids` are online.

        Raises:
            InvalidRecipients: one of them is no id.
        """
        return Exchange(self, PRESENCE, self._question(check_ids(ids)), decode_online)

    def count(self) -> "Exchange[int]":
        """The request that asks how many ids are online."""
        return Exchange(self, PRESENCE, self._question(None), decode_count)

    def some_ids(self, cursor: str) -> "Exchange[IdPage]":
        """The request that asks for some of the ids that are online."""
        return Exchange(self, PRESENCE_IDS, encode_cursor(cursor, self._namespace), decode_page)

    def connections(self) -> "Exchange[int]":
        """The request that asks how many connections there are."""
        question = encode_connections_question(self._namespace)
        return Exchange(self, PRESENCE_CONNECTIONS, question, decode_connections)

    def heads(self, ids: Iterable[str]) -> "Exchange[dict[str, OutboxHead | None]]":
        """The request that asks how far the outboxes of `ids` are.

        Raises:
            InvalidRecipients: one of them is no id.
        """
        return Exchange(self, OUTBOXES, self._question(check_ids(ids)), decode_heads)

    def peek(self, id: str, limit: int) -> "Exchange[list[Stored]]":
        """The request that asks for the first messages of an outbox.

        Raises:
            InvalidRecipients: it is no id.
        """
        question = encode_outbox_question(check_id(id), limit, self._namespace)
        return Exchange(self, SHOW, question, decode_stored)

    def purge(self, id: str) -> "Exchange[int]":
        """The request that drops the messages of an outbox.

        Raises:
            InvalidRecipients: it is no id.
        """
        question = encode_outbox_question(check_id(id), 1, self._namespace)
        return Exchange(self, PURGE, question, decode_purged)

    def _question(self, ids: list[str] | None) -> bytes:
        return encode_question(ids, self._namespace)

    def headers(self, size: int) -> list[tuple[str, str]]:
        """The headers of a request of `size` bytes."""
        return [
            ("Host", self.endpoint.authority),
            ("Authorization", self._authorization),
            ("Content-Type", "application/json"),
            ("Content-Length", str(size)),
        ]


class Exchange(Generic[T]):
    """One request and its end.

    Args:
        plan: of the bus.
        path: what is asked for, behind the path of the API itself.
        body: of the request.
        read: reads the body of an answer; None if it is none.
        patience: seconds that the server may wait before it answers.

    Attributes:
        is_begun: whether the body has left, even in part; before that, nothing can have been sent.
        timeout: seconds for all of it.
    """

    def __init__(
        self,
        plan: Plan,
        path: str,
        body: bytes,
        read: Callable[[bytes], T | None],
        *,
        patience: float = 0.0,
    ) -> None:
        self.is_begun = False
        self.timeout = plan.timeout + patience
        self._plan = plan
        self._path = path
        self._body = body
        self._read = read

    @property
    def url(self) -> httpcore.URL:
        """Where the request goes."""
        _, scheme, host, port, base = self._plan.endpoint
        return httpcore.URL(scheme=scheme, host=host, port=port, target=base + self._path)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers of the request."""
        return self._plan.headers(len(self._body))

    def parts(self) -> Iterator[bytes]:
        """The body, in parts small enough to be timed one by one."""
        self.is_begun = True
        for start in range(0, len(self._body), _PART):
            yield self._body[start : start + _PART]

    async def aparts(self) -> AsyncIterator[bytes]:
        """The body for an asynchronous connection."""
        for part in self.parts():
            yield part

    def answer(self, status: int, body: bytes) -> T:
        """Read the answer.

        Raises:
            InvalidInput, Unsupported, BackendRefused, BackendUnavailable: as the answer says.
        """
        if status != 200:
            self._refuse(status, body)
        answer = self._read(body)
        if answer is None:
            raise BackendRefused(self._foreign(status), maybe_sent=True)
        return answer

    def failed(self, error: Exception) -> BackendUnavailable:
        """What to raise when the connection failed or was too slow."""
        url = self._plan.endpoint.url
        if isinstance(error, TimeoutError | httpcore.TimeoutException):
            problem = f"no answer from {url} within {self.timeout:g} s"
        elif isinstance(error, httpcore.ConnectError):
            problem = f"cannot connect to the dispatch API at {url}: {_told(error)}"
        else:
            problem = f"the connection to {url} broke: {_told(error)}"
        return BackendUnavailable(problem, maybe_sent=self.is_begun)

    def _refuse(self, status: int, body: bytes) -> NoReturn:
        problem = decode_problem(body)
        if problem is None and status >= 500:
            raise BackendUnavailable(self._foreign(status), maybe_sent=True)
        if problem is None:
            raise BackendRefused(self._foreign(status))
        if problem.code == "unauthorized":
            raise BackendRefused(
                f"{self._plan.endpoint.url} refused the key; give the one that the server was started with"
            )
        raise error_of(problem)

    def _foreign(self, status: int) -> str:
        return (
            f"expected the answer of a Mesa server from {self._plan.endpoint.url}, got another one "
            f"with status {status}; check the URL, which is not the one that clients connect to"
        )


def _told(error: Exception) -> str:
    """What went wrong, and what to do where a certificate is not trusted."""
    problem = tls_problem(error)
    if problem is None:
        return str(error) or type(error).__name__
    if not isinstance(tls_error(error), ssl.SSLCertVerificationError):
        return problem
    file = os.environ.get("SSL_CERT_FILE")
    if file and not os.path.isfile(file):
        return f"{problem}; SSL_CERT_FILE is {file!r}, which is no file"
    return f"{problem}; name a file with the certificates to trust in SSL_CERT_FILE"


class _Times(Settings, frozen=True):
    timeout: Seconds

    @classmethod
    def _path(cls, name: str) -> str:
        return name

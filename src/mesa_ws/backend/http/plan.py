"""What a dispatch over HTTP sends, and what its end means. Pure: two runners do the sending."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NoReturn

import httpcore

from ...bearer import authorization, check_key
from ...dispatch_answer import decode_problem, decode_receipts, error_of
from ...dispatch_request import encode_request
from ...envelope import Envelope, Receipt
from ...errors import BackendRefused, BackendUnavailable, InvalidSettings
from ...settings import Seconds, Settings, check_namespace
from .endpoint import Endpoint

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


class Plan:
    """The dispatches of one bus.

    Args:
        url: of a server's dispatch API.
        key: of that API.
        namespace: what the server has to serve; None for whatever it does.
        timeout: seconds for one dispatch, from the connection to the last byte of the answer.

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

    @property
    def url(self) -> httpcore.URL:
        """Where requests go."""
        scheme, host, port, target = self.endpoint[1:]
        return httpcore.URL(scheme=scheme, host=host, port=port, target=target)

    def exchange(self, envelopes: Sequence[Envelope]) -> "Exchange":
        """The request that sends `envelopes`.

        Raises:
            InvalidInput: there are too many for one request.
        """
        return Exchange(self, encode_request(envelopes, self._namespace), len(envelopes))

    def headers(self, size: int) -> list[tuple[str, str]]:
        """The headers of a request of `size` bytes."""
        return [
            ("Host", self.endpoint.authority),
            ("Authorization", self._authorization),
            ("Content-Type", "application/json"),
            ("Content-Length", str(size)),
        ]


class Exchange:
    """One request and its end.

    Attributes:
        is_begun: whether the body has left, even in part; before that, nothing can have been sent.
    """

    def __init__(self, plan: Plan, body: bytes, messages: int) -> None:
        self.is_begun = False
        self._plan = plan
        self._body = body
        self._messages = messages

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

    def receipts(self, status: int, body: bytes) -> list[Receipt]:
        """Read the answer.

        Raises:
            InvalidInput, Unsupported, BackendRefused, BackendUnavailable: as the answer says.
        """
        if status != 200:
            self._refuse(status, body)
        receipts = decode_receipts(body)
        if receipts is None or len(receipts) != self._messages:
            raise BackendRefused(self._foreign(status))
        return receipts

    def failed(self, error: Exception) -> BackendUnavailable:
        """What to raise when the connection failed or was too slow."""
        url = self._plan.endpoint.url
        if isinstance(error, TimeoutError | httpcore.TimeoutException):
            problem = f"no answer from {url} within {self._plan.timeout:g} s"
        elif isinstance(error, httpcore.ConnectError):
            problem = f"cannot connect to the dispatch API at {url}: {error}"
        else:
            problem = f"the connection to {url} broke: {str(error) or type(error).__name__}"
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


class _Times(Settings, frozen=True):
    timeout: Seconds

    @classmethod
    def _path(cls, name: str) -> str:
        return name

"""Requests of a dispatcher over HTTP, and the meaning of their answers, without any I/O.

`AsyncHttpBus` and `BlockingHttpBus` send them.
"""

import os
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar
from urllib.parse import SplitResult, quote, urlsplit

import httpcore

from ...errors import BackendRefused, BackendUnavailable, InvalidSettings
from ...messages.envelope import Envelope
from ...messages.receipt import Receipt
from ...messages.recipients import check_id
from ...messages.request import check_timeout
from ...settings import check_namespace
from ...text import plain
from ...tls import tls_error, tls_problem
from ..orders import PATIENCE
from ..queries import Query
from . import routes
from .auth import authorization, check_key
from .dispatch_schema import DispatchRequest
from .problems import decode_problem, error_of
from .routes import OrderBody, OutboxBody, RequestBody, Route

KEEP_ALIVE = 30.0
"""Seconds for which an idle connection is kept: fewer than servers and most gateways keep theirs,
so that a request seldom meets a connection that is about to be closed."""

FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    OSError,
)
"""Exceptions of a failed connection; `OSError` stands for those of the operating system and of TLS."""

_PART = 64 * 1024
"""Bytes of a body that are sent at once, so that each part is timed by itself."""

T = TypeVar("T")


class ApiEndpoint(NamedTuple):
    """The address of a dispatch API.

    Attributes:
        url: as the user wrote it, without a closing slash.
        scheme: `http` or `https`.
        host: name or address, in ASCII and without brackets.
        port: where it listens.
        base: path before the paths of the API.
    """

    url: str
    scheme: str
    host: str
    port: int
    base: str

    @property
    def authority(self) -> str:
        """Value of the `Host` header."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, url: object) -> "ApiEndpoint":
        """Parse `url`; a path before the paths of the API is kept.

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
    def _of(cls, parts: SplitResult) -> "ApiEndpoint":
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        if port is None or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError
        path = quote(parts.path.rstrip("/"), safe="/%:!$&'()*+,;=~")
        host = parts.hostname.encode("idna").decode()
        return cls(f"{parts.scheme}://{parts.netloc}{path}", parts.scheme, host, port, path)


def _without_user(url: str) -> str:
    _, mark, rest = url.rpartition("@")
    return f"...{mark}{rest}" if mark else url


class HttpApi:
    """The dispatch API that a bus calls: makes the requests.

    Args:
        url, key, namespace, timeout: as in `AsyncHttpBus`.

    Attributes:
        endpoint: its address.
        timeout: seconds for one request, from the connection to the last byte of the answer.
        authorization: value of the header that shows the key.
    """

    def __init__(self, url: str, key: str | None, namespace: str | None, timeout: float) -> None:
        self.endpoint = ApiEndpoint.of(url)
        self.timeout = check_timeout(timeout)
        self._namespace = check_namespace(namespace)
        if key is None:
            raise InvalidSettings("key", "the key of the server's dispatch API; pass key='...'", None)
        self.authorization = authorization(check_key(key))

    def dispatch(self, envelopes: Sequence[Envelope]) -> "Exchange[list[Receipt]]":
        """Return the request that sends `envelopes`; too many for one request are refused."""
        body = DispatchRequest.of_all(envelopes, self._namespace)
        return Exchange(self, routes.DISPATCH, body, results=len(envelopes))

    def order(self, order: Envelope) -> "Exchange[Receipt]":
        """Return the request that gives an order to all nodes."""
        body = OrderBody.of(order, self._namespace)
        route = routes.DISCONNECT if body.issued_before is None else routes.REVOKE
        return Exchange(self, route, body, patience=PATIENCE)

    def request(self, request: Envelope, timeout: float) -> "Exchange[bytes]":
        """Return the request that asks the connections of one id; its answer may take `timeout` longer."""
        body = RequestBody.of(request, timeout, self._namespace)
        return Exchange(self, routes.REQUEST, body, patience=timeout)

    def query(self, query: Query[T]) -> "Exchange[T]":
        """Return the request that asks a query."""
        route = routes.QUERIES[type(query)]
        return Exchange(self, route, route.body(**vars(query), namespace=self._namespace))

    def purge(self, id: str) -> "Exchange[int]":
        """Return the request that drops the messages of an outbox."""
        return Exchange(self, routes.PURGE, OutboxBody(check_id(id), namespace=self._namespace))


class Exchange(Generic[T]):
    """One request and its answer.

    Args:
        api: the API that is called.
        route: kind of the request.
        body: its body.
        patience: seconds that the server may wait before it answers.
        results: number of results that an answer has to have; None for any.

    Attributes:
        url: target of the request.
        headers: headers of the request.
        is_begun: whether sending the body has begun; before that, no message can have been sent.
        timeout: seconds for the whole exchange.
    """

    def __init__(
        self,
        api: HttpApi,
        route: Route[Any, T],
        body: object,
        *,
        patience: float = 0.0,
        results: int | None = None,
    ) -> None:
        self.is_begun = False
        self.timeout = api.timeout + patience
        self._api = api
        self._route = route
        self._body = route.encode_body(body)
        self._results = results
        _, scheme, host, port, base = api.endpoint
        self.url = httpcore.URL(scheme=scheme, host=host, port=port, target=base + route.path)
        self.headers = [
            ("Host", api.endpoint.authority),
            ("Authorization", api.authorization),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(self._body))),
        ]

    def parts(self) -> Iterator[bytes]:
        """Iterate over the body, in parts small enough to be timed one by one."""
        self.is_begun = True
        for start in range(0, len(self._body), _PART):
            yield self._body[start : start + _PART]

    async def aparts(self) -> AsyncIterator[bytes]:
        """Iterate over the body for an asynchronous connection."""
        for part in self.parts():
            yield part

    def answer(self, status: int, body: bytes) -> T:
        """Return the result in an answer.

        Raises:
            InvalidInput, Unsupported, BackendRefused, BackendUnavailable: as the answer says.
        """
        if status != 200:
            self._refuse(status, body)
        result = self._route.decode_answer(body)
        is_complete = self._results is None or (isinstance(result, list) and len(result) == self._results)
        if result is None or not is_complete:
            raise BackendRefused(self._foreign(status), maybe_sent=True)
        return result

    def failed(self, error: Exception) -> BackendUnavailable:
        """Return the error for a connection that failed or was too slow."""
        url = self._api.endpoint.url
        if isinstance(error, TimeoutError | httpcore.TimeoutException):
            problem = f"no answer from {url} within {self.timeout:g} s"
        elif isinstance(error, httpcore.ConnectError):
            problem = f"cannot connect to the dispatch API at {url}: {_described(error)}"
        else:
            problem = f"the connection to {url} broke: {_described(error)}"
        return BackendUnavailable(problem, maybe_sent=self.is_begun)

    def _refuse(self, status: int, body: bytes) -> NoReturn:
        problem = decode_problem(body)
        if problem is None and status >= 500:
            raise BackendUnavailable(self._foreign(status), maybe_sent=True)
        if problem is None:
            raise BackendRefused(self._foreign(status))
        if problem.code == "unauthorized":
            raise BackendRefused(
                f"{self._api.endpoint.url} refused the key; give the one that the server was started with"
            )
        raise error_of(problem)

    def _foreign(self, status: int) -> str:
        return (
            f"expected the answer of a Mesa server from {self._api.endpoint.url}, got another one "
            f"with status {status}; check the URL, which is not the one that clients connect to"
        )


def _described(error: Exception) -> str:
    """Return what went wrong, and for an untrusted certificate what to do."""
    problem = tls_problem(error)
    if problem is None:
        return str(error) or type(error).__name__
    if not isinstance(tls_error(error), ssl.SSLCertVerificationError):
        return problem
    file = os.environ.get("SSL_CERT_FILE")
    if file and not os.path.isfile(file):
        return f"{problem}; SSL_CERT_FILE is {file!r}, which is no file"
    return f"{problem}; name a file with the certificates to trust in SSL_CERT_FILE"

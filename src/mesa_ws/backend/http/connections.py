"""Deadline of a whole blocking request.

httpcore limits each read and each write, so a peer that sends a byte now and then could hold a
caller for ever. Here the `timeout` of httpcore is a deadline on the monotonic clock for the whole request;
every operation gets the time that is left until then.
"""

import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore


def within(seconds: float) -> dict[str, Any]:
    """Return the extensions of a request that has to end within `seconds`."""
    deadline = time.monotonic() + seconds
    return {"timeout": {"pool": seconds, "connect": deadline, "read": deadline, "write": deadline}}


class DeadlineBackend(httpcore.NetworkBackend):
    """Opens connections within a deadline, however many addresses a name has."""

    def __init__(self) -> None:
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of `host` that answers.

        The operating system limits how long resolving the name takes.
        """
        problem = httpcore.ConnectError(f"{host} has no address")
        for address in _addresses(host, port):
            try:
                left = _left(timeout, httpcore.ConnectTimeout)
                return _DeadlineStream(
                    self._plain.connect_tcp(address, port, left, local_address, socket_options)
                )
            except httpcore.ConnectError as error:
                problem = error
        raise problem


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, plain: httpcore.NetworkStream) -> None:
        self._plain = plain

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._plain.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._plain.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._plain.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(self._plain.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._plain.get_extra_info(info)


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error
    return [str(address[0]) for *_, address in found]


def _left(deadline: float | None, late: type[httpcore.TimeoutException]) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise late("out of time")
    return left

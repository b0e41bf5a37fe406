"""Deadline of a blocking request."""

import socket
import time
from collections.abc import Iterator

import httpcore
import pytest

from mesa_ws.backend.http.connections import DeadlineBackend, within

PAST = 0.0


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def stream(port: int) -> Iterator[httpcore.NetworkStream]:
    stream = DeadlineBackend().connect_tcp("127.0.0.1", port)
    yield stream
    stream.close()


def test_every_operation_of_a_request_has_the_same_deadline() -> None:
    now = time.monotonic()
    timeouts = within(5.0)["timeout"]
    assert now + 5.0 <= timeouts["connect"] == timeouts["read"] == timeouts["write"] <= time.monotonic() + 5.0


def test_no_address_is_tried_when_the_time_is_over(port: int) -> None:
    with pytest.raises(httpcore.ConnectTimeout):
        DeadlineBackend().connect_tcp("127.0.0.1", port, PAST)


def test_nothing_is_read_when_the_time_is_over(stream: httpcore.NetworkStream) -> None:
    with pytest.raises(httpcore.ReadTimeout):
        stream.read(1, PAST)


def test_nothing_is_written_when_the_time_is_over(stream: httpcore.NetworkStream) -> None:
    with pytest.raises(httpcore.WriteTimeout):
        stream.write(b"x", PAST)


def test_no_handshake_begins_when_the_time_is_over(stream: httpcore.NetworkStream) -> None:
    with pytest.raises(httpcore.ConnectTimeout):
        stream.start_tls(httpcore.default_ssl_context(), "127.0.0.1", PAST)


def test_a_name_with_no_address_cannot_be_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with pytest.raises(httpcore.ConnectError, match=r"mesa.test has no address"):
        DeadlineBackend().connect_tcp("mesa.test", 4001)

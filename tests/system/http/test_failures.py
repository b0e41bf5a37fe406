"""Dispatches over HTTP to peers that misbehave: which error, when, and whether the message was sent."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mesa_ws.backend.http import AsyncHttpBus, BlockingHttpBus, aio, blocking, streams
from mesa_ws.errors import BackendRefused, BackendUnavailable
from mesa_ws.messages.envelope import Envelope, prepare
from mesa_ws.messages.message import Message
from tests.certificates import server_side
from tests.contract.cluster import LIMIT
from tests.http_peer import (
    Peer,
    Script,
    answered,
    answering,
    cutting,
    cutting_the_answer,
    cutting_the_second,
    deaf,
    dripping_headers,
    dripping_the_body,
    hanging_up,
    peer_that,
    served,
    silent,
    until_hung_up,
)

SHORT = 0.3
"""Seconds after which a dispatcher has to give up a peer that does not answer."""

Dispatch = Callable[..., Any]


@pytest.fixture(params=["aio", "blocking"])
async def make_bus(request: pytest.FixtureRequest) -> AsyncIterator[Dispatch]:
    """Makes a bus to a URL; the tests run over both kinds."""
    made: list[Any] = []

    def make(url: str, timeout: float = 5.0) -> Callable[[Sequence[Envelope]], Any]:
        if request.param == "aio":
            made.append(AsyncHttpBus(url, key="k", timeout=timeout))
            return made[-1].dispatch  # type: ignore[no-any-return]
        made.append(bus := BlockingHttpBus(url, key="k", timeout=timeout))
        return lambda envelopes: asyncio.to_thread(bus.dispatch, envelopes)

    yield make
    for bus in made:
        if request.param == "aio":
            await bus.aclose()
        else:
            bus.close()


def message(data: object = 1) -> Envelope:
    return prepare(Message(0, data), ["0"])


async def unavailable(dispatching: Any) -> BackendUnavailable:
    """Return the error of a dispatch that has to fail."""
    with pytest.raises(BackendUnavailable) as caught:
        await dispatching
    return caught.value


async def test_requests_share_a_connection(make_bus: Dispatch) -> None:
    with peer_that(served) as peer:
        dispatch = make_bus(peer.url)
        for _ in range(5):
            await dispatch([message()])
    assert [number for number, _ in peer.requests] == [0] * 5


async def test_a_refused_connection_means_nothing_was_sent(make_bus: Dispatch) -> None:
    with peer_that(served) as peer:
        url = peer.url
    error = await unavailable(make_bus(url)([message()]))
    assert (error.problem.partition(": ")[0], error.maybe_sent) == (
        f"cannot connect to the dispatch API at {url}",
        False,
    )


async def test_a_peer_that_hangs_up_may_have_sent_it(make_bus: Dispatch) -> None:
    with peer_that(cutting) as peer:
        error = await unavailable(make_bus(peer.url)([message()]))
    assert error.problem.startswith(f"the connection to {peer.url} broke: ")
    assert error.maybe_sent


async def test_a_request_is_not_sent_again_when_its_answer_is_lost(make_bus: Dispatch) -> None:
    with peer_that(cutting_the_second) as peer:
        dispatch, second = make_bus(peer.url), message()
        await dispatch([message()])
        error = await unavailable(dispatch([second]))
    assert error.maybe_sent
    assert peer.requests[1:] == [(0, [second.message_id])]


async def test_an_answer_that_comes_faster_than_it_is_read_arrives_whole(
    make_bus: Dispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_UNREAD", 1)

    def padding(peer: Peer, connection: socket.socket, number: int) -> None:
        while peer.read(connection, number):
            connection.sendall(answered(peer.body + b" " * 2_000_000))

    with peer_that(padding) as peer:
        dispatch = make_bus(peer.url)
        for _ in range(2):
            assert len(await dispatch([message()])) == 1
    assert [number for number, _ in peer.requests] == [0, 0]


async def test_half_an_answer_may_have_sent_it(make_bus: Dispatch) -> None:
    with peer_that(cutting_the_answer) as peer:
        assert (await unavailable(make_bus(peer.url)([message()]))).maybe_sent


async def test_a_connection_that_ended_while_idle_is_replaced(make_bus: Dispatch) -> None:
    with peer_that(hanging_up) as peer:
        dispatch = make_bus(peer.url)
        for _ in range(3):
            await dispatch([message()])
            peer.finish()
    assert [number for number, _ in peer.requests] == [0, 1, 2]


async def test_a_gateways_response_to_an_idle_connection_is_no_answer_to_the_next_request(
    make_bus: Dispatch,
) -> None:
    is_idle, is_said = threading.Event(), threading.Event()

    def saying_it_timed_out(peer: Peer, connection: socket.socket, number: int) -> None:
        peer.read(connection, number)
        connection.sendall(answered(peer.body))
        is_idle.wait(LIMIT)
        connection.sendall(answered(b"", "408 Request Timeout"))
        is_said.set()
        until_hung_up(peer, connection, number)

    with peer_that(saying_it_timed_out) as peer:
        dispatch = make_bus(peer.url)
        for _ in range(2):
            await dispatch([message()])
            is_idle.set()
            await asyncio.to_thread(is_said.wait, LIMIT)
    assert [number for number, _ in peer.requests] == [0, 1]


async def test_a_connection_that_was_idle_for_too_long_is_replaced(
    make_bus: Dispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (aio, blocking):
        monkeypatch.setattr(module, "KEEP_ALIVE", 1e-6)
    with peer_that(served) as peer:
        dispatch = make_bus(peer.url)
        for _ in range(3):
            await dispatch([message()])
    assert [number for number, _ in peer.requests] == [0, 1, 2]


@pytest.mark.parametrize("script", [silent, dripping_headers, dripping_the_body])
async def test_a_peer_that_holds_the_answer_is_given_up(make_bus: Dispatch, script: Script) -> None:
    with peer_that(script) as peer:
        error = await unavailable(make_bus(peer.url, SHORT)([message()]))
    assert (error.problem, error.maybe_sent) == (f"no answer from {peer.url} within {SHORT:g} s", True)


async def test_a_peer_that_does_not_read_is_given_up(make_bus: Dispatch) -> None:
    with peer_that(deaf) as peer:
        error = await unavailable(make_bus(peer.url, SHORT)([message("x" * 20_000_000)]))
    assert error.problem == f"no answer from {peer.url} within {SHORT:g} s"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_connection_to_a_peer_that_is_given_up_is_closed(make_bus: Dispatch, scheme: str) -> None:
    with peer_that(until_hung_up) as peer:
        await unavailable(make_bus(peer.url.replace("http", scheme), SHORT)([message()]))
        await asyncio.wait_for(asyncio.to_thread(peer.finish), 10)


async def test_a_bus_works_after_a_peer_was_given_up(make_bus: Dispatch) -> None:
    def first_silent(peer: Peer, connection: socket.socket, number: int) -> None:
        (silent if number == 0 else served)(peer, connection, number)

    with peer_that(first_silent) as peer:
        dispatch, second = make_bus(peer.url, 1.0), message()
        await unavailable(dispatch([message()]))
        (receipt,) = await dispatch([second])
    assert receipt.message_id == second.message_id


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (answered(b"<html>It works!</html>"), 200),
        (answered(b"", "302 Found", "Location: http://127.0.0.1:9/\r\n"), 302),
        (answered(b"no such page", "404 Not Found"), 404),
        (answered(b'{"error": "no"}', "400 Bad Request"), 400),
    ],
)
async def test_another_kind_of_server_is_refused(make_bus: Dispatch, answer: bytes, status: int) -> None:
    refused = pytest.raises(
        BackendRefused, match=rf"expected the answer of a Mesa server .* status {status};"
    )
    with peer_that(answering(answer)) as peer, refused:
        await make_bus(peer.url)([message()])


async def test_a_peer_that_does_not_speak_http_is_unavailable(make_bus: Dispatch) -> None:
    with peer_that(answering(b"SSH-2.0-OpenSSH_9.6\r\n")) as peer:
        error = await unavailable(make_bus(peer.url)([message()]))
    assert error.problem.startswith(f"the connection to {peer.url} broke: ")


async def test_proxies_of_the_environment_are_not_used(
    make_bus: Dispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with peer_that(served) as peer:
        assert len(await make_bus(peer.url)([message()])) == 1


async def test_a_name_with_several_addresses_is_reached_on_the_one_that_answers(
    make_bus: Dispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in ("127.0.0.2", "127.0.0.1")]

    with peer_that(served) as peer:
        url = peer.url.replace("127.0.0.1", "mesa.test")
        resolve = socket.getaddrinfo
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *rest, **named: (both if host in _TEST_HOSTS else resolve)(host, *rest, **named),
        )
        assert len(await make_bus(url)([message()])) == 1


async def test_a_name_without_an_address_means_nothing_was_sent(
    make_bus: Dispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_address(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    error = await unavailable(make_bus("http://mesa.test:4001")([message()]))
    assert "Name or service not known" in error.problem
    assert not error.maybe_sent


_TEST_HOSTS = ("mesa.test", b"mesa.test")


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    return server_side(certificate)


async def test_https_is_spoken_with_a_server_that_is_trusted(
    make_bus: Dispatch, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with peer_that(served, tls) as peer:
        dispatch = make_bus(peer.url)
        assert len(await dispatch([message()])) == 1
        assert len(await dispatch([message()])) == 1
    assert [number for number, _ in peer.requests] == [0, 0]


async def test_nothing_is_sent_to_a_server_that_is_not_trusted(
    make_bus: Dispatch, tls: ssl.SSLContext
) -> None:
    with peer_that(served, tls) as peer:
        error = await unavailable(make_bus(peer.url)([message()]))
    assert "its certificate cannot be trusted: self-signed certificate; " in error.problem
    assert "SSL_CERT_FILE" in error.problem
    assert (error.maybe_sent, peer.requests) == (False, [])


async def test_a_missing_file_of_trusted_certificates_is_named(
    make_bus: Dispatch, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such.pem")
    with peer_that(served, tls) as peer:
        error = await unavailable(make_bus(peer.url)([message()]))
    assert "SSL_CERT_FILE is '/no/such.pem', which is no file" in error.problem


async def test_a_handshake_that_does_not_end_means_nothing_was_sent(make_bus: Dispatch) -> None:
    with peer_that(deaf) as peer:
        url = peer.url.replace("http:", "https:")
        error = await unavailable(make_bus(url, SHORT)([message()]))
    assert (error.problem, error.maybe_sent) == (f"no answer from {url} within {SHORT:g} s", False)

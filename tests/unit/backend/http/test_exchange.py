"""Requests of a dispatcher over HTTP, and the meaning of their answers."""

import json
from typing import Any

import httpcore
import pytest

from mesa_ws.backend.http.exchange import ApiEndpoint, Exchange, HttpApi
from mesa_ws.backend.http.problems import Problem, encode_problem
from mesa_ws.backend.http.routes import DISPATCH
from mesa_ws.backend.queries import ConnectionCount, Heads, Online, OnlineCount, OnlineIds, Peek, Query
from mesa_ws.errors import (
    BackendRefused,
    BackendUnavailable,
    InvalidInput,
    InvalidRecipients,
    InvalidSettings,
)
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import Message
from mesa_ws.messages.receipt import Receipt

URL = "http://127.0.0.1:4001"
RECEIPTS = [Receipt("ab", {}, 1)]


def api(**changed: object) -> HttpApi:
    settings = {"url": URL, "key": "secret", "namespace": "api", "timeout": 5.0} | changed
    return HttpApi(**settings)  # type: ignore[arg-type]


def exchange(**changed: object) -> Exchange[list[Receipt]]:
    return api(**changed).dispatch([prepare(Message(0, 1), ["0"])])


def begun() -> Exchange[list[Receipt]]:
    made = exchange()
    list(made.parts())
    return made


@pytest.mark.parametrize(
    ("url", "target", "authority"),
    [
        (URL, "/v1/dispatch", "127.0.0.1:4001"),
        (URL + "/", "/v1/dispatch", "127.0.0.1:4001"),
        ("http://mesa.example/rt/", "/rt/v1/dispatch", "mesa.example:80"),
        ("https://mesa.example", "/v1/dispatch", "mesa.example:443"),
        ("http://[::1]:4001", "/v1/dispatch", "[::1]:4001"),
        ("HTTP://Mesa.Example/a b", "/a%20b/v1/dispatch", "mesa.example:80"),
        ("http://bücher.example", "/v1/dispatch", "xn--bcher-kva.example:80"),
    ],
)
def test_the_url_says_where_to_send(url: str, target: str, authority: str) -> None:
    made = exchange(url=url)
    assert (made.url.target.decode(), dict(made.headers)["Host"]) == (target, authority)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:4001",
        "redis://127.0.0.1",
        "http://",
        "http://host:0x50",
        "http://host:99999",
        "http://host/?a=1",
        "http://host/#a",
        "http://a..b/",
        "http://[::1",
        None,
    ],
)
def test_another_url_is_refused(url: object) -> None:
    with pytest.raises(InvalidSettings, match=r"url: expected the http:// or https:// URL"):
        ApiEndpoint.of(url)


def test_a_password_in_a_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(InvalidSettings) as caught:
        ApiEndpoint.of("http://user:hunter2@host:4001")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "5", None])
def test_a_time_limit_that_is_none_is_refused(timeout: object) -> None:
    with pytest.raises(InvalidSettings, match="timeout: expected a number of seconds"):
        api(timeout=timeout)


def test_a_missing_key_is_refused_with_the_mend() -> None:
    with pytest.raises(InvalidSettings, match=r"pass key='\.\.\.'"):
        api(key=None)


def test_a_namespace_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="namespace"):
        api(namespace="a b")


def test_the_body_leaves_in_parts_that_make_up_the_request() -> None:
    sent = prepare(Message(0, "x" * 200_000), ["0"])
    made = api().dispatch([sent])
    parts = list(made.parts())
    assert len(parts) > 2
    assert DISPATCH.decode_body(b"".join(parts)).envelopes() == [sent]
    assert ("Content-Length", str(sum(map(len, parts)))) in made.headers


def test_the_request_names_the_host_and_shows_the_key() -> None:
    headers = dict(exchange().headers)
    assert (headers["Host"], headers["Authorization"]) == ("127.0.0.1:4001", "Bearer secret")


def test_the_request_names_the_namespace() -> None:
    assert DISPATCH.decode_body(b"".join(exchange().parts())).namespace == "api"


def test_receipts_are_returned() -> None:
    assert exchange().answer(200, DISPATCH.encode_answer(RECEIPTS)) == RECEIPTS


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"{}", DISPATCH.encode_answer([]), DISPATCH.encode_answer(RECEIPTS * 2)]
)
def test_an_answer_that_is_not_mesas_is_a_refusal(body: bytes) -> None:
    with pytest.raises(BackendRefused, match="with status 200; check the URL, which is not"):
        exchange().answer(200, body)


@pytest.mark.parametrize("status", [204, 302, 403, 404])
def test_a_status_that_is_not_mesas_is_a_refusal_that_names_it(status: int) -> None:
    with pytest.raises(BackendRefused, match=f"with status {status}"):
        exchange().answer(status, b"")


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_gateways_error_leaves_open_whether_it_was_sent(status: int) -> None:
    with pytest.raises(BackendUnavailable, match=f"with status {status}") as caught:
        exchange().answer(status, b"<html>")
    assert caught.value.maybe_sent


def test_a_refused_key_is_said_to_be_the_key() -> None:
    with pytest.raises(BackendRefused, match="refused the key; give the one that the server"):
        exchange().answer(401, encode_problem(Problem("unauthorized", "expected")))


def test_a_problem_of_the_server_is_raised_as_its_error() -> None:
    with pytest.raises(InvalidRecipients, match=r"^why$"):
        exchange().answer(400, encode_problem(Problem("invalid_recipients", "why")))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            httpcore.ConnectError("refused"),
            "cannot connect to the dispatch API at http://127.0.0.1:4001: refused",
        ),
        (httpcore.ConnectTimeout(), "no answer from http://127.0.0.1:4001 within 5 s"),
        (TimeoutError(), "no answer from http://127.0.0.1:4001 within 5 s"),
        (httpcore.ReadError(), "the connection to http://127.0.0.1:4001 broke: ReadError"),
        (httpcore.RemoteProtocolError("cut"), "the connection to http://127.0.0.1:4001 broke: cut"),
    ],
)
def test_a_failed_connection_is_told_as_what_it_is(error: Exception, text: str) -> None:
    assert exchange().failed(error).problem == text


def test_nothing_was_sent_before_the_body_left() -> None:
    assert not exchange().failed(TimeoutError()).maybe_sent


def test_it_may_have_been_sent_once_the_body_left() -> None:
    assert begun().failed(TimeoutError()).maybe_sent


def test_more_than_a_request_holds_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 1000 at once"):
        api().dispatch([prepare(Message())] * 1001)


@pytest.mark.parametrize(
    ("asked", "path", "body"),
    [
        (api().query(Online(iter(["0", "1"]))), "/v1/presence", {"ids": ["0", "1"], "namespace": "api"}),
        (api().query(OnlineCount()), "/v1/presence", {"namespace": "api"}),
        (api().query(OnlineIds("")), "/v1/presence/ids", {"namespace": "api"}),
        (api().query(OnlineIds("7")), "/v1/presence/ids", {"cursor": "7", "namespace": "api"}),
        (api().query(ConnectionCount()), "/v1/presence/connections", {"namespace": "api"}),
        (api(namespace=None).query(Heads(["0"])), "/v1/outboxes", {"ids": ["0"]}),
        (api().query(Peek("0", 5)), "/v1/outboxes/show", {"id": "0", "limit": 5, "namespace": "api"}),
    ],
)
def test_a_question_names_what_it_is_about(asked: Exchange[Any], path: str, body: dict[str, Any]) -> None:
    assert (asked.url.target.decode(), json.loads(b"".join(asked.parts()))) == (path, body)


@pytest.mark.parametrize("query", [Online(["0"]), OnlineCount(), Heads(["0"])])
@pytest.mark.parametrize("body", [b"", b"{}", b'{"online":[],"count":"1","outboxes":7}'])
def test_an_answer_of_nobody_we_know_is_an_error(query: Query[Any], body: bytes) -> None:
    with pytest.raises(BackendRefused, match="expected the answer of a Mesa server"):
        api().query(query).answer(200, body)

"""Answers of the dispatch API, called as an ASGI application without sockets."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesa_ws.backend.http.routes import DISPATCH
from mesa_ws.backend.memory import MemoryBackend
from mesa_ws.errors import BackendRefused, BackendUnavailable, Unsupported
from mesa_ws.http_server.keys import ApiKeys
from mesa_ws.http_server.routes import application
from mesa_ws.messages.envelope import Envelope
from mesa_ws.messages.message import PROTOCOL_OPCODES
from tests.http_site import FailingBus

KEY = "0123456789abcdef"
MAX_BODY = 65_536
MAX_BODIES = 100_000
JSON_BODY = b'{"message":{"d":1,"t":"T"},"recipients":["0"]}'


class Site:
    """A server as the API sees it: a memory backend that holds two connections of the id 0."""

    reserved = PROTOCOL_OPCODES

    def __init__(self, namespace: str | None = None) -> None:
        self.bus = MemoryBackend(namespace=namespace)
        self.namespace = namespace
        self.received: list[Envelope] = []

    @property
    def is_ready(self) -> bool:
        return self.bus.is_ready

    @property
    def server(self) -> Any:
        """The parts of a server that the API uses."""
        return self

    async def open(self) -> None:
        await self.bus.open(self.received.append)
        await self.bus.attach("0", 2)

    async def delivered(self) -> list[bytes]:
        """Return the bodies that were delivered, in the next turn of the event loop."""
        await asyncio.sleep(0)
        return [envelope.body for envelope in self.received]


class FailingSite(FailingBus):
    """A server whose backend raises."""

    namespace = None
    is_ready = False
    reserved = PROTOCOL_OPCODES

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.bus = self
        self.server: Any = self


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def code(self) -> str:
        return str(self.body["error"]["code"])

    @property
    def text(self) -> str:
        return str(self.body["error"]["message"])


class Api:
    """Calls the application of one site."""

    def __init__(self, site: Site | FailingSite) -> None:
        self._app = application(site.server, ApiKeys(KEY), MAX_BODY, MAX_BODIES)

    async def call(
        self,
        method: str,
        path: str,
        *body: bytes,
        headers: Mapping[str, str] | None = None,
        whole: bool = True,
    ) -> Answer:
        """Send one request, its body in these parts; without `whole` the client disconnects after them."""
        incoming = [{"type": "http.request", "body": part, "more_body": True} for part in body]
        incoming.append({"type": "http.request", "body": b""} if whole else {"type": "http.disconnect"})
        sent: list[Mapping[str, Any]] = []

        async def receive() -> Mapping[str, Any]:
            return incoming.pop(0)

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        given = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "server": ("127.0.0.1", 4001),
            "headers": given,
        }
        await self._app(scope, receive, send)  # type: ignore[arg-type]
        received = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        answer = b"".join(message["body"] for message in sent[1:])
        return Answer(sent[0]["status"], received, json.loads(answer))

    async def dispatch(self, *body: bytes, **headers: str) -> Answer:
        """Send a dispatch with the key."""
        return await self.call(
            "POST", DISPATCH.path, *body, headers={"Authorization": f"Bearer {KEY}", **headers}
        )

    async def ask(self, path: str, question: object) -> Answer:
        """Send a question with the key."""
        body = json.dumps(question).encode()
        return await self.call("POST", path, body, headers={"Authorization": f"Bearer {KEY}"})


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site(namespace="api")
    await site.open()
    yield site
    await site.bus.aclose()


@pytest.fixture
def api(site: Site) -> Api:
    return Api(site)


async def test_a_dispatch_is_answered_with_its_receipt(api: Api) -> None:
    answer = await api.dispatch(b'{"message":{},"recipients":["0","1"],"id":"%s"}' % (b"a" * 32))
    assert answer.status == 200
    nowhere = {"position": None, "displaced": 0}
    assert answer.body == {
        "receipts": [
            {
                "message_id": "a" * 32,
                "deliveries": {
                    "0": {"stored": False, "online": 2, "dropped": None} | nowhere,
                    "1": {"stored": False, "online": 0, "dropped": "offline"} | nowhere,
                },
                "nodes": 1,
            }
        ]
    }


async def test_a_batch_is_answered_with_a_receipt_for_each(api: Api) -> None:
    answer = await api.dispatch(b'{"batch":[{"message":{},"recipients":["0"]},{"message":{}}]}')
    assert [list(receipt["deliveries"]) for receipt in answer.body["receipts"]] == [["0"], []]


async def test_a_dispatch_is_delivered(api: Api, site: Site) -> None:
    await api.dispatch(JSON_BODY)
    assert await site.delivered() == [b'{"op":0,"d":1,"t":"T"}']


async def test_a_batch_is_delivered_in_its_order(api: Api, site: Site) -> None:
    await api.dispatch(b'{"batch":[{"message":{"d":1}},{"message":{"d":2}},{"message":{"d":3}}]}')
    assert await site.delivered() == [b'{"op":0,"d":%d}' % n for n in (1, 2, 3)]


async def test_answers_are_json(api: Api) -> None:
    assert (await api.dispatch(JSON_BODY)).headers["content-type"] == "application/json"
    assert (await api.dispatch(b"")).headers["content-type"] == "application/json"


async def test_nothing_of_a_batch_is_sent_when_a_part_of_it_is_wrong(api: Api, site: Site) -> None:
    answer = await api.dispatch(b'{"batch":[{"message":{}},{"message":{},"recipients":[1]}]}')
    assert (answer.status, answer.code) == (400, "invalid_recipients")
    assert answer.text.startswith("batch[1]: recipients: expected")
    assert await site.delivered() == []


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", f"Basic {KEY}", "Bearer 0123456789abcdeF", f"Bearer {KEY}0"]
)
async def test_without_the_key_a_dispatch_is_refused(api: Api, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = await api.call("POST", DISPATCH.path, JSON_BODY, headers=headers)
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_refused_key_is_not_repeated(api: Api) -> None:
    answer = await api.call(
        "POST", DISPATCH.path, JSON_BODY, headers={"Authorization": "Bearer hunter2hunter2"}
    )
    assert "hunter2" not in json.dumps(answer.body)


@pytest.mark.parametrize("namespace", [b'"api"', b"null"])
async def test_the_namespace_of_the_server_may_be_named(api: Api, namespace: bytes) -> None:
    assert (await api.dispatch(b'{"message":{},"namespace":%s}' % namespace)).status == 200


async def test_another_namespace_is_refused_and_both_are_named(api: Api) -> None:
    answer = await api.dispatch(b'{"message":{},"namespace":"web"}')
    assert (answer.status, answer.code) == (400, "wrong_namespace")
    assert "'api'" in answer.text
    assert "'web'" in answer.text


async def test_a_namespace_is_refused_by_a_server_without_one() -> None:
    answer = await Api(Site()).dispatch(b'{"message":{},"namespace":"web"}')
    assert answer.text == "namespace: expected none, which this server serves, got 'web'"


@pytest.mark.parametrize(
    "type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"],
)
async def test_json_may_be_declared(api: Api, type: str) -> None:
    assert (await api.dispatch(JSON_BODY, **{"Content-Type": type})).status == 200


@pytest.mark.parametrize("type", ["text/plain", "application/x-www-form-urlencoded", "", "json"])
async def test_another_content_type_is_refused(api: Api, type: str) -> None:
    answer = await api.dispatch(JSON_BODY, **{"Content-Type": type})
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    assert repr(type) in answer.text


async def test_a_body_at_the_limit_is_taken_in_any_parts(api: Api) -> None:
    padded = JSON_BODY.ljust(MAX_BODY)
    assert (await api.dispatch(*(padded[n : n + 100] for n in range(0, MAX_BODY, 100)))).status == 200


async def test_a_body_over_the_limit_is_refused(api: Api) -> None:
    answer = await api.dispatch(JSON_BODY.ljust(MAX_BODY), b" ")
    assert (answer.status, answer.code) == (413, "too_large")
    assert f"at most {MAX_BODY} bytes" in answer.text


async def test_a_body_over_the_limit_is_not_read_to_its_end(api: Api) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = await api.call("POST", DISPATCH.path, b" " * MAX_BODY, b" ", headers=headers, whole=False)
    assert answer.status == 413


async def test_a_body_that_is_cut_off_is_not_sent(api: Api, site: Site) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = await api.call("POST", DISPATCH.path, JSON_BODY, headers=headers, whole=False)
    assert answer.status == 400
    assert await site.delivered() == []


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/dispatch/", "/V1/dispatch", "/health", "/docs"])
async def test_an_unknown_path_is_not_found(api: Api, path: str) -> None:
    answer = await api.call("POST", path)
    assert (answer.status, answer.code) == (404, "not_found")
    assert path in answer.text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_not_allowed(api: Api, method: str) -> None:
    answer = await api.call(method, DISPATCH.path)
    assert (answer.status, answer.code, answer.headers["allow"]) == (405, "method_not_allowed", "POST")


async def test_a_live_server_says_so_without_a_key() -> None:
    answer = await Api(Site()).call("GET", "/health/live")
    assert (answer.status, answer.body) == (200, {"status": "live"})


async def test_a_ready_server_says_so_without_a_key(api: Api) -> None:
    answer = await api.call("GET", "/health/ready")
    assert (answer.status, answer.body) == (200, {"status": "ready"})


async def test_a_server_whose_backend_is_away_is_not_ready() -> None:
    answer = await Api(Site()).call("GET", "/health/ready")
    assert (answer.status, answer.body) == (503, {"status": "unavailable", "why": "the backend is away"})


@pytest.mark.parametrize(
    ("error", "status", "problem"),
    [
        (Unsupported("why"), 501, {"code": "unsupported", "message": "why", "maybe_sent": False}),
        (BackendRefused("why"), 502, {"code": "backend_refused", "message": "why", "maybe_sent": False}),
        (
            BackendUnavailable("why"),
            503,
            {"code": "backend_unavailable", "message": "why", "maybe_sent": False},
        ),
        (
            BackendUnavailable("why", maybe_sent=True),
            503,
            {"code": "backend_unavailable", "message": "why", "maybe_sent": True},
        ),
    ],
)
async def test_an_error_of_the_backend_is_told(
    error: Exception, status: int, problem: dict[str, Any]
) -> None:
    answer = await Api(FailingSite(error)).dispatch(JSON_BODY)
    assert (answer.status, answer.body) == (status, {"error": problem})


async def test_a_defect_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "mesa_ws.server"):
        answer = await Api(FailingSite(KeyError("inner"))).dispatch(JSON_BODY)
    assert (answer.status, answer.code) == (500, "internal_error")
    assert answer.body["error"]["maybe_sent"]
    assert "inner" not in answer.text
    assert "KeyError: 'inner'" in caplog.text


@pytest.mark.parametrize("path", ["/v1/disconnect", "/v1/revoke"])
@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ({}, "invalid_request", "body: expected an object with ids, a list"),
        ({"ids": ["0"], "more": 1}, "invalid_request", "body: expected an object with ids, a list"),
        ({"ids": None}, "invalid_recipients", "ids: expected a list of ids, got null"),
        ({"ids": {"0": 1}}, "invalid_recipients", "ids: expected a list of ids, got an object"),
        ({"ids": "0"}, "invalid_recipients", "ids: expected a list of ids, got the bare text '0'"),
        ({"ids": [0]}, "invalid_recipients", "ids: expected an id as text, got 0 (int); write '0'"),
        ({"ids": ["*"]}, "invalid_recipients", "ids: expected an id, got '*', which stands for everybody"),
        ({"ids": []}, "invalid_request", "ids: expected 1 to 10000, got 0"),
        ({"ids": ["0"], "code": 1005.0}, "invalid_request", "code: expected 1000 to 1014"),
        ({"ids": ["0"], "code": None}, "invalid_request", "code: expected 1000 to 1014"),
        ({"ids": ["0"], "code": 2999}, "invalid_request", "code: expected 1000 to 1014"),
        ({"ids": ["0"], "reason": "x" * 124}, "invalid_request", "reason: expected text of up to 123 bytes"),
        ({"ids": ["0"], "reason": 1}, "invalid_request", "reason: expected text of up to 123 bytes"),
        ({"ids": ["0"], "issued_before": "now"}, "invalid_request", "issued_before: expected "),
        ({"ids": ["0"], "idempotency_key": ""}, "invalid_request", "idempotency_key: expected text of 1 to"),
        ({"ids": ["0"], "id": "x"}, "invalid_request", "body: expected an object with ids, a list"),
        (
            {"ids": ["0"], "id": "a" * 32, "idempotency_key": "k"},
            "invalid_request",
            "id: pass either 'id' or 'idempotency_key', not both",
        ),
        ({"ids": ["0"], "namespace": "web"}, "wrong_namespace", "namespace: expected 'api'"),
    ],
)
async def test_an_order_that_cannot_be_used_is_refused(
    api: Api, site: Site, path: str, body: dict[str, Any], code: str, text: str
) -> None:
    answer = await api.ask(path, body)
    assert (answer.status, answer.code, answer.text[: len(text)]) == (400, code, text)
    assert await site.delivered() == []


async def test_a_disconnection_has_no_time(api: Api, site: Site) -> None:
    answer = await api.ask("/v1/disconnect", {"ids": ["0"], "issued_before": 7})
    assert answer.text == "issued_before: expected none to disconnect, got one; POST /v1/revoke revokes"
    assert await site.delivered() == []


@pytest.mark.parametrize("position", [None, ["e"], ["e", "1"], [1, 1], ["e", 1.5], {"epoch": "e"}])
async def test_a_question_about_an_order_names_its_position(api: Api, position: object) -> None:
    answer = await api.ask("/v1/orders", {} if position is None else {"position": position})
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert answer.text.startswith("body: expected an object with the position of an order")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["message", "recipients", "excluding", "id", "batch", "namespace", "op", "d", "t", "x"]
)
IDS = st.lists(st.text(max_size=3) | st.sampled_from(["*", "0"]) | JSON, max_size=3)
MESSAGES = st.dictionaries(NAMES, JSON | st.sampled_from([0, 5, "DISCONNECT_CLIENT"]), max_size=3)
DISPATCHES = st.fixed_dictionaries(
    {}, optional={"message": MESSAGES, "recipients": IDS | JSON, "excluding": IDS}
)
REQUESTS = DISPATCHES | st.fixed_dictionaries({"batch": st.lists(DISPATCHES, max_size=3) | JSON})


async def _answered(body: bytes) -> Answer:
    return await Api(Site()).dispatch(body)


@settings(deadline=None)
@given(st.binary(max_size=60))
@example(b"\xef\xbb\xbf{}")
async def test_any_bytes_are_answered(body: bytes) -> None:
    answer = await _answered(body)
    assert answer.status == 400
    assert answer.text


@settings(deadline=None)
@given(JSON | st.dictionaries(NAMES, JSON) | REQUESTS)
async def test_any_json_is_served_or_refused_with_a_reason(body: Any) -> None:
    answer = await _answered(json.dumps(body).encode())
    assert answer.status == 200 or (answer.status == 400 and answer.text)


@settings(deadline=None)
@given(st.integers(0, len(JSON_BODY) - 1), st.integers(0, 255))
async def test_a_damaged_byte_is_served_or_refused_with_a_reason(place: int, byte: int) -> None:
    answer = await _answered(JSON_BODY[:place] + bytes([byte]) + JSON_BODY[place + 1 :])
    assert answer.status == 200 or (answer.status == 400 and answer.text)


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        (DISPATCH.path, b'{"message":{},"recipients":["0"],"recipients":["1"]}', "recipients"),
        (DISPATCH.path, b'{"message":{"d":{"rooms":[{"7":1,"8":"a:b","7":2}]}}}', "7"),
        (DISPATCH.path, b'{"message":{"d":{"a\\u003a":1,"a:":2,"b":"\\u003A"}}}', "a:"),
        (DISPATCH.path, b'{"message":{"d":{"\\u003a":0,":":1}}}', ":"),
        (DISPATCH.path, b'{"message":{"d":{"a":1,"a":"\\u003a\\u003a"}}}', "a"),
        ("/v1/request", b'{"id":"0","message":{"d":{"a":1,"b":2,"\\u0061":3}}}', "a"),
        ("/v1/presence", b'{"ids":["0"],"ids":["1"]}', "ids"),
        ("/v1/outboxes/purge", b'{"id":"0","id":"1"}', "id"),
    ],
)
async def test_a_name_that_stands_twice_in_an_object_is_refused(
    api: Api, site: Site, path: str, body: bytes, name: str
) -> None:
    answer = await api.call("POST", path, body, headers={"Authorization": f"Bearer {KEY}"})
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert answer.text == (f"body: expected each name once in an object, got {name!r} twice; leave one out")
    assert await site.delivered() == []


@pytest.mark.parametrize(
    "data", [b'{"a":{"x":1},"b":[{"x":2}],"c":"{\\"x\\":1,\\"x\\":2}"}', b'"\\u003a\\u003a"']
)
async def test_the_same_name_in_other_objects_and_in_text_is_no_other(api: Api, data: bytes) -> None:
    answer = await api.dispatch(b'{"message": {"d" : %s}}' % data)
    assert answer.status == 200


async def test_who_is_online_is_told(api: Api) -> None:
    answer = await api.ask("/v1/presence", {"ids": ["0", "1"]})
    assert (answer.status, answer.body) == (200, {"online": {"0": 2, "1": 0}})


async def test_how_many_are_online_is_told(api: Api) -> None:
    assert (await api.ask("/v1/presence", {"namespace": "api"})).body == {"count": 1}


async def test_everybody_who_is_online_is_named(api: Api) -> None:
    answer = await api.ask("/v1/presence/ids", {"namespace": "api"})
    assert (answer.status, answer.body) == (200, {"ids": ["0"], "cursor": None})
    answer = await api.ask("/v1/presence/ids", {"cursor": "0"})
    assert answer.body == {"ids": [], "cursor": None}


async def test_how_many_connections_there_are_is_told(api: Api) -> None:
    assert (await api.ask("/v1/presence/connections", {})).body == {"connections": 0}


async def test_how_far_outboxes_are_is_told(api: Api) -> None:
    stored = {"message": {"d": 1}, "recipients": ["away"], "sync": True}
    receipt = (await api.dispatch(json.dumps(stored).encode())).body["receipts"][0]
    epoch, sequence = receipt["deliveries"]["away"]["position"]
    head = {"epoch": epoch, "top": 1, "acknowledged": 0, "length": 1, "forks": [], "dropped": []}
    answer = await api.ask("/v1/outboxes", {"ids": ["away", "nobody"]})
    assert (sequence, answer.body) == (1, {"outboxes": {"away": head, "nobody": None}})


async def test_what_became_of_a_message_is_told_to_who_has_its_receipt(api: Api) -> None:
    stored = {"message": {"d": 1}, "recipients": ["away", "0"], "sync": True}
    receipt = (await api.dispatch(json.dumps(stored).encode())).body["receipts"][0]
    answer = await api.ask("/v1/status", {"receipt": receipt})
    pending = {"state": "pending", "dropped": []}
    assert answer.body == {
        "message_id": receipt["message_id"],
        "is_settled": False,
        "ids": {"away": pending, "0": pending},
    }


async def test_what_is_in_an_outbox_is_shown(api: Api) -> None:
    for number in range(3):
        stored = {"message": {"d": number}, "recipients": ["away"], "sync": {"ttl": 60}}
        await api.dispatch(json.dumps(stored).encode())
    answer = await api.ask("/v1/outboxes/show", {"id": "away", "limit": 2})
    shown = answer.body["messages"]
    assert [(each["sequence"], each["message"]) for each in shown] == [
        (1, {"op": 0, "d": 0}),
        (2, {"op": 0, "d": 1}),
    ]
    assert [each["expires"] - each["at"] for each in shown] == [pytest.approx(60)] * 2


async def test_what_is_in_an_outbox_is_dropped_on_demand(api: Api) -> None:
    stored = {"message": {}, "recipients": ["away"], "sync": True}
    await api.dispatch(json.dumps(stored).encode())
    assert (await api.ask("/v1/outboxes/purge", {"id": "away"})).body == {"purged": 1}
    assert (await api.ask("/v1/outboxes/show", {"id": "away"})).body == {"messages": []}


QUESTIONS = [
    *("/v1/presence", "/v1/presence/ids", "/v1/presence/connections"),
    *("/v1/outboxes", "/v1/outboxes/show", "/v1/outboxes/purge", "/v1/status"),
]


@pytest.mark.parametrize("path", QUESTIONS)
async def test_questions_need_the_key(api: Api, path: str) -> None:
    assert (await api.call("POST", path, b"{}")).code == "unauthorized"


@pytest.mark.parametrize(
    ("path", "question", "text"),
    [
        ("/v1/presence", {"id": ["0"]}, "unknown field `id`"),
        ("/v1/presence", {"ids": "0"}, "ids: expected a list of ids, got the bare text '0'; write ['0']"),
        ("/v1/presence", {"ids": None}, "ids: expected a list of ids, got null"),
        ("/v1/presence", {"ids": 7}, "ids: expected a list of ids, got 7 (int); write ['7']"),
        ("/v1/presence", {"ids": {"0": 1}}, "ids: expected a list of ids, got an object"),
        ("/v1/outboxes", {"ids": None}, "ids: expected a list of ids, got null"),
        ("/v1/outboxes/show", {"id": 7}, "id: expected an id as text, got 7 (int); write '7'"),
        ("/v1/outboxes/purge", {"id": None}, "id: expected an id as text, got None (NoneType)"),
        ("/v1/presence", {"ids": [0]}, "ids: expected an id as text, got 0"),
        ("/v1/presence", {"ids": ["0"] * 10_001}, "ids: expected at most 10000 at once, got 10001"),
        ("/v1/presence/ids", {"cursor": 1}, "Expected `str`"),
        ("/v1/presence/ids", {"cursor": "0" * 256}, "length <= 255"),
        ("/v1/presence/connections", {"ids": []}, "unknown field `ids`"),
        ("/v1/outboxes", {}, "ids: expected a list of ids, got none"),
        ("/v1/outboxes/show", {}, "missing required field `id`"),
        ("/v1/outboxes/show", {"id": "*"}, "stands for everybody"),
        ("/v1/outboxes/show", {"id": "0", "limit": 0}, "`int` >= 1"),
        ("/v1/status", {"receipt": {}}, "missing required field"),
        ("/v1/status", [], "an object with a receipt"),
    ],
)
async def test_a_question_of_another_form_is_refused(
    api: Api, path: str, question: object, text: str
) -> None:
    answer = await api.ask(path, question)
    assert answer.status == 400
    assert text in answer.text


@pytest.mark.parametrize(
    ("path", "question"),
    [
        ("/v1/presence", {"namespace": "web"}),
        ("/v1/presence/ids", {"namespace": "web"}),
        ("/v1/presence/connections", {"namespace": "web"}),
        ("/v1/outboxes", {"ids": [], "namespace": "web"}),
        ("/v1/outboxes/show", {"id": "0", "namespace": "web"}),
        ("/v1/outboxes/purge", {"id": "0", "namespace": "web"}),
        ("/v1/status", {"receipt": {"message_id": "m", "deliveries": {}, "nodes": 0}, "namespace": "web"}),
    ],
)
async def test_a_question_for_another_namespace_is_refused(api: Api, path: str, question: object) -> None:
    assert (await api.ask(path, question)).code == "wrong_namespace"


async def test_what_the_backend_refuses_is_told() -> None:
    answer = await Api(FailingSite(BackendUnavailable("away"))).ask("/v1/presence", {"ids": ["0"]})
    assert (answer.status, answer.code) == (503, "backend_unavailable")

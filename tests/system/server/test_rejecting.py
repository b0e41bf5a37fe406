"""Bad input that a handler or a middleware of a server refuses for good."""

import json
import logging
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mesa_ws.errors import Reject
from mesa_ws.messages.message import Message
from mesa_ws.middleware import StructuredLogging
from mesa_ws.middleware.prometheus import PrometheusMetrics
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Server
from tests.system.waiting import until

from .conftest import Joining, Serving, accepting

Rejected = tuple[str, str, object, str | None]


class Desk:
    """A server that accepts numbers, and the rejections of other messages."""

    def __init__(self) -> None:
        self.server = accepting()
        self.later: list[object] = []
        self.errors: list[Exception] = []
        self.rejected: list[Rejected] = []
        self.server.on_message("SAVE")(self.save)
        self.server.on_message(self.see)
        self.server.on_error(lambda error, connection: self.errors.append(error))
        self.server.on_rejected(self.on_rejected)

    async def save(self, message: Message, connection: Connection) -> None:
        if not isinstance(message.data, int):
            raise Reject("no number", "bad_number")

    async def see(self, message: Message, connection: Connection) -> str:
        self.later.append(message.data)
        return "saved"

    async def on_rejected(self, rejection: Reject, message: Message, connection: Connection) -> None:
        self.rejected.append((rejection.code, rejection.text, message.data, connection.id))


async def test_a_message_that_is_rejected_is_told_and_no_error(serving: Serving, join: Joining) -> None:
    desk = Desk()
    peer = await join(await serving(desk.server), "alice")
    for data in ("x", 1):
        await peer.send("SAVE", data)
    await until(lambda: desk.later == [1])
    assert desk.rejected == [("bad_number", "no number", "x", "alice")]
    assert desk.errors == []


async def test_who_asked_is_told_why(serving: Serving, join: Joining) -> None:
    desk = Desk()
    peer = await join(await serving(desk.server))
    answers = []
    for data in ("x", 1):
        await peer.raw(json.dumps({"op": 0, "d": data, "t": "SAVE", "x": {"r": "1"}}))
        frame = await peer.receive()
        while "x" not in frame:
            frame = await peer.receive()
        answers.append((frame["x"].get("error"), frame["d"]))
    assert answers == [({"code": "bad_number", "message": "no number"}, None), (None, "saved")]
    assert desk.rejected == [("bad_number", "no number", "x", None)]


@pytest.mark.parametrize("asks", [False, True], ids=["message", "request"])
async def test_a_middleware_may_reject_before_anything_is_handled(
    serving: Serving, join: Joining, asks: bool
) -> None:
    class Numbers:
        async def before_message(self, message: Message, connection: Connection) -> Message:
            if not isinstance(message.data, int):
                raise Reject("no number")
            return message

    desk = Desk()
    desk.server.use(Numbers())
    peer = await join(await serving(desk.server), "alice")
    x = {"x": {"r": "1"}} if asks else {}
    for data in ("x", 1):
        await peer.raw(json.dumps({"op": 0, "d": data, "t": "OTHER", **x}))
    await until(lambda: desk.later == [1])
    assert desk.rejected == [("rejected", "no number", "x", "alice")]
    assert desk.errors == []
    if asks:
        frame = await peer.until(x={"a": "1", "error": {"code": "rejected", "message": "no number"}})
        assert frame["op"] == 0


async def test_a_middleware_is_told_and_prometheus_counts(
    serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mesa_ws.events")
    registry, desk = CollectorRegistry(), Desk()
    desk.server.use(PrometheusMetrics(desk.server, registry))
    desk.server.use(StructuredLogging())
    peer = await join(await serving(desk.server), "alice")
    for data in ("x", "y", 1):
        await peer.send("SAVE", data)
    await until(lambda: desk.later == [1])
    assert registry.get_sample_value("mesa_messages_rejected_total") == 2
    assert registry.get_sample_value("mesa_handler_errors_total") == 0
    [first, _] = [fields for record in caplog.records if (fields := fields_of(record))["event"] == "rejected"]
    assert first == {
        "event": "rejected",
        "connection": 1,
        "id": "alice",
        "code": "bad_number",
        "type": "SAVE",
    }


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {"event": None})
    return fields


async def test_a_hook_that_raises_is_an_error_of_its_own(serving: Serving, join: Joining) -> None:
    desk = Desk()

    @desk.server.on_rejected
    async def broken(rejection: Reject, message: Message, connection: Connection) -> None:
        raise Reject("again")

    peer = await join(await serving(desk.server))
    for data in ("x", 1):
        await peer.send("SAVE", data)
    await until(lambda: desk.later == [1])
    assert [str(error) for error in desk.errors] == ["again (rejected)"]
    assert len(desk.rejected) == 1


@pytest.mark.parametrize("where", ["on_connection", "on_authentication", "on_disconnection"])
async def test_where_there_is_no_input_a_rejection_is_an_error(
    serving: Serving, join: Joining, where: str
) -> None:
    desk = Desk()

    def handle(*arguments: object) -> None:
        raise Reject("what?")

    getattr(desk.server, where)(handle)
    peer = await join(await serving(desk.server), "alice")
    await peer.socket.close(1000)
    await until(lambda: len(desk.errors) == 1)
    assert isinstance(desk.errors[0], Reject)
    assert desk.rejected == []


def test_a_server_has_the_hook(serving: Serving) -> None:
    def hook(rejection: Reject, message: Message, connection: Connection) -> None:
        """Does nothing."""

    assert Server().on_rejected(hook) is hook

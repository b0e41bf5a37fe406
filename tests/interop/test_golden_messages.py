"""Odd frames from clients, and ways to close, with the same results as in 1.x."""

from collections.abc import Iterator
from queue import Queue

import pytest

from mesa_ws import Connection, Endpoint, Message, Server

from .served import served
from .wire import LIMIT, Closing, opened

LAST = '{"op":0,"d":{},"t":"LAST"}'


class Listener:
    """An application that records its events."""

    def __init__(self) -> None:
        self.server = Server()
        self.messages: Queue[Message] = Queue()
        self.partings: Queue[tuple[int, str]] = Queue()

        @self.server.on_message
        async def message(message: Message, connection: Connection) -> None:
            self.messages.put(message)
            if message.type == "LEAVE":
                connection.disconnect(**message.data)

        @self.server.on_disconnection
        async def parting(connection: Connection, code: int, reason: str) -> None:
            self.partings.put((code, reason))


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def endpoint(listener: Listener) -> Iterator[Endpoint]:
    with served(listener.server) as endpoint:
        yield endpoint


def until_last(listener: Listener) -> list[Message]:
    """Return the messages before the last one."""
    return list(iter(lambda: listener.messages.get(timeout=LIMIT), Message(0, {}, "LAST")))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ('{"op":0}', Message(0)),
        ("{}", Message(0)),
        ('{"op":0,"d":{},"t":"ECHO","s":5,"o":{"sync":false}}', Message(0, {}, "ECHO")),
        ('{"op":99,"d":{"x":1},"t":"UNKNOWN"}', Message(99, {"x": 1}, "UNKNOWN")),
        ('{"op":5,"d":{},"t":"DISCONNECT_CLIENT"}', Message(5, {}, "DISCONNECT_CLIENT")),
        ('{"op":10,"d":{}}', Message(10, {})),
        ('{"op":22,"d":{}}', Message(22, {})),
        ('{"op":1,"d":{}}', Message(1, {})),
        ('{"op":0,"d":{"u":"\\u00e9"},"t":"ECHO"}', Message(0, {"u": "é"}, "ECHO")),
        (b'{"op":0,"d":{"binary":true},"t":"B"}', Message(0, {"binary": True}, "B")),
    ],
)
def test_an_odd_frame_is_a_message_for_the_application(
    listener: Listener, endpoint: Endpoint, frame: str | bytes, message: Message
) -> None:
    with opened(endpoint.url) as wire:
        wire.send(frame, LAST)
        assert until_last(listener) == [message]


def test_an_answer_to_no_heartbeat_is_no_message(listener: Listener, endpoint: Endpoint) -> None:
    with opened(endpoint.url) as wire:
        wire.send('{"op":11,"d":{}}', LAST)
        assert until_last(listener) == []


@pytest.mark.parametrize(
    ("leave", "closing"),
    [
        ("{}", Closing(1005, "")),
        ('{"code":1000}', Closing(1000, "")),
        ('{"code":4001}', Closing(4001, "")),
    ],
)
def test_disconnect_closes_with_its_code_and_no_reason(
    endpoint: Endpoint, leave: str, closing: Closing
) -> None:
    with opened(endpoint.url) as wire:
        wire.frame()
        wire.send(f'{{"op":0,"d":{leave},"t":"LEAVE"}}')
        assert wire.rest() == ([], closing)


def test_a_clients_code_and_reason_reach_the_application(listener: Listener, endpoint: Endpoint) -> None:
    with opened(endpoint.url) as wire:
        wire.close(4002, "bye")
    assert listener.partings.get(timeout=LIMIT) == (4002, "bye")

"""Authentication and versions, frame by frame as in 1.x."""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue
from typing import Any

import pytest

from mesa_ws import Connection, Server, User

from .served import served
from .wire import LIMIT, Closing, Wire, opened


class Door:
    """A server that accepts every id but `bad`, and the data that its authenticator received."""

    def __init__(self, **options: Any) -> None:
        self.server = Server(**options)
        self.given: Queue[Any] = Queue()

        @self.server.authenticator
        async def authenticate(data: Any, connection: Connection) -> User | None:
            self.given.put(data)
            return None if data["id"] == "bad" else User(data["id"])

        @self.server.on_message("ECHO")
        async def echo(message: Any, connection: Connection) -> None:
            connection.send(message)

    @contextmanager
    def opened(self) -> Iterator[Wire]:
        """Connect and receive HELLO."""
        with served(self.server) as endpoint, opened(endpoint.url) as wire:
            wire.frame()
            yield wire


def test_the_acknowledgement_carries_the_user_object() -> None:
    with Door().opened() as wire:
        wire.send('{"op":2,"d":{"id":"1","token":"t","shouldSync":true}}')
        assert wire.frame() == '{"op":22,"d":{"id":"1"}}'


def test_the_authenticator_gets_all_of_the_data() -> None:
    door = Door()
    with door.opened() as wire:
        wire.send('{"op":2,"d":{"id":"1","token":"t","shouldSync":true}}')
        assert door.given.get(timeout=LIMIT) == {"id": "1", "token": "t", "shouldSync": True}


def test_without_user_objects_the_acknowledgement_is_empty() -> None:
    with Door(authentication={"send_user_object": False}).opened() as wire:
        wire.send('{"op":2,"d":{"id":"1"}}')
        assert wire.frame() == '{"op":22,"d":{}}'


def test_a_refusal_is_a_close_frame_with_1008_and_no_reason() -> None:
    with Door().opened() as wire:
        wire.send('{"op":2,"d":{"id":"bad"}}')
        assert wire.rest() == ([], Closing(1008, ""))


def test_authenticating_again_is_acknowledged_again() -> None:
    # 1.x sent no second acknowledgement, so the client waited for ever.
    with Door().opened() as wire:
        wire.send('{"op":2,"d":{"id":"1"}}', '{"op":2,"d":{"id":"2"}}')
        assert wire.frames(2) == ['{"op":22,"d":{"id":"1"}}', '{"op":22,"d":{"id":"2"}}']


@pytest.fixture
def strict() -> Door:
    return Door(rules={"enforce_equal_versions": True})


def test_an_equal_version_is_an_ordinary_message(strict: Door) -> None:
    with strict.opened() as wire:
        wire.send('{"op":0,"d":{"v":"1.5.8"},"t":"CLIENT_VERSION"}', '{"op":0,"d":1,"t":"ECHO"}')
        assert wire.frame() == '{"op":0,"d":1,"t":"ECHO"}'


def test_another_version_is_closed_with_1002(strict: Door) -> None:
    with strict.opened() as wire:
        wire.send('{"op":0,"d":{"v":"1.5.3"},"t":"CLIENT_VERSION"}')
        assert wire.rest() == ([], Closing(1002, ""))

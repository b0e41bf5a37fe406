"""Heartbeats, frame by frame like those of 1.x."""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue

from mesa_ws import Connection, Heartbeat, Message, Server

from .served import served
from .wire import LIMIT, Closing, Wire, opened

EMPTY = '{"op":1,"d":{}}'
ANSWER = '{"op":11,"d":{}}'


@contextmanager
def beating(server: Server) -> Iterator[Wire]:
    with served(server) as endpoint, opened(endpoint.url) as wire:
        assert wire.frame().startswith('{"op":10,"d":{"c_heartbeat_interval":200,')
        yield wire


def server(max_attempts: int = 3) -> Server:
    return Server(heartbeat=Heartbeat(enabled=True, interval=0.2, max_attempts=max_attempts))


def tries(number: int, max_attempts: int = 3) -> str:
    return f'{{"op":1,"d":{{"tries":{number},"max":{max_attempts}}}}}'


def test_answered_heartbeats_stay_empty() -> None:
    with beating(server()) as wire:
        for _ in range(5):
            assert wire.frame() == EMPTY
            wire.send(ANSWER)


def test_unanswered_heartbeats_count_up_and_end_in_an_empty_close_frame() -> None:
    with beating(server()) as wire:
        assert wire.rest() == ([EMPTY, tries(1), tries(2), tries(3)], Closing(1005, ""))


def test_an_answer_makes_the_count_start_again() -> None:
    with beating(server()) as wire:
        missed = wire.frames(3)
        wire.send(ANSWER)
        assert [*missed, *wire.frames(3)] == [EMPTY, tries(1), tries(2), EMPTY, tries(1), tries(2)]


def test_a_clients_own_heartbeat_is_a_message_and_no_sign_of_life() -> None:
    messages: Queue[Message] = Queue()
    listening = server(max_attempts=2)

    @listening.on_message
    async def note(message: Message, connection: Connection) -> None:
        messages.put(message)

    with beating(listening) as wire:
        wire.send(EMPTY)
        assert wire.rest() == ([EMPTY, tries(1, 2), tries(2, 2)], Closing(1005, ""))
        assert messages.get(timeout=LIMIT) == Message(1, {})
        assert messages.empty()

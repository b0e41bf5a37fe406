"""When reading a client is paused, and clients that leave while it is."""

import pytest

from mesa_ws.protocol.server import ServerProtocol, Terms
from mesa_ws.server.flow_control import PATIENCE, FlowControl, Load
from mesa_ws.server.send_queue import PeerState
from mesa_ws.settings import Keepalive, ServerSettings

KEEPALIVE = Keepalive(interval=25, timeout=20)

MOST = Load(4, 1000)
"""Events and bytes that may wait."""


class Socket:
    """A transport that notes what is done with it."""

    buffered = memory = 0

    def __init__(self) -> None:
        self.state = PeerState.PRESENT
        self.is_read = True
        self.looks = 0
        self.was_cut = False

    write_joined = None

    def is_cut(self) -> bool:
        return False

    def write(self, payload: bytes) -> None: ...

    def ping(self, payload: bytes = b"") -> None: ...

    def close(self, code: int, reason: str) -> None: ...

    def pause_reading(self) -> None:
        self.is_read = False

    def hold_back(self) -> None: ...

    def resume_reading(self) -> None:
        self.is_read = True

    def peer_state(self) -> PeerState:
        self.looks += 1
        return self.state

    def cut(self) -> None:
        self.was_cut = True


class Client:
    """A client's flow, with a clock of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.socket = Socket()
        self.changes = 0
        settings = ServerSettings(keepalive=KEEPALIVE)
        self.protocol = ServerProtocol(Terms(settings, has_authenticator=False), self.now)
        self.flow = FlowControl(self.socket, self.protocol, KEEPALIVE, MOST, lambda: self.now, self.changed)

    def changed(self) -> None:
        self.changes += 1

    def regulate(self, waiting: int, *, size: int = 0, owes_answer: bool = False) -> None:
        self.flow.regulate(Load(waiting, size), owes_answer=owes_answer)

    def look_at(self, now: float) -> bool:
        self.now = now
        self.flow.look()
        return self.socket.was_cut


@pytest.fixture
def client() -> Client:
    return Client()


def test_a_full_queue_pauses_and_an_emptier_one_resumes(client: Client) -> None:
    seen = []
    for waiting in (3, 4, 5, 1):
        client.regulate(waiting)
        seen.append(client.socket.is_read)
    assert (seen, client.changes) == ([True, False, False, True], 2)


def test_many_bytes_pause_and_half_as_many_resume(client: Client) -> None:
    seen = []
    for size in (999, 1000, 1001, 1000, 501, 500, 1000):
        client.regulate(1, size=size)
        seen.append(client.socket.is_read)
    assert seen == [True, True, False, False, False, True, True]


def test_reading_goes_on_when_neither_events_nor_bytes_are_too_many(client: Client) -> None:
    seen = []
    for waiting, size in ((4, 1001), (1, 600), (3, 400), (2, 500)):
        client.regulate(waiting, size=size)
        seen.append(client.socket.is_read)
    assert seen == [False, False, False, True]


def test_bytes_of_a_client_that_owes_an_answer_are_bounded_too(client: Client) -> None:
    seen = []
    for size in (1001, 1000 * PATIENCE, 1000 * PATIENCE + 1):
        client.regulate(1, size=size, owes_answer=True)
        seen.append(client.socket.is_read)
    assert seen == [True, True, False]


def test_a_client_that_owes_an_answer_is_read_for_longer(client: Client) -> None:
    client.regulate(4, owes_answer=True)
    assert client.socket.is_read
    client.regulate(4 * PATIENCE, owes_answer=True)
    assert not client.socket.is_read


def test_the_deadline_is_that_of_the_protocol_unless_reading_is_paused(client: Client) -> None:
    assert client.flow.deadline == 125
    client.regulate(4)
    assert client.flow.deadline == 105
    client.now = 110
    client.regulate(1)
    assert client.flow.deadline == 135


def test_a_client_that_is_not_read_is_looked_after_from_time_to_time(client: Client) -> None:
    client.look_at(110)
    client.regulate(4)
    for now in (111, 114.9, 115, 116, 120):
        client.look_at(now)
    assert (client.socket.looks, client.flow.deadline) == (2, 125)


def test_a_client_that_is_there_is_never_cut(client: Client) -> None:
    client.regulate(4)
    assert not any(client.look_at(now) for now in range(100, 10_000, 5))


def test_a_client_that_is_gone_is_cut_at_once(client: Client) -> None:
    client.regulate(4)
    client.socket.state = PeerState.GONE
    assert [client.look_at(now) for now in (104, 105)] == [False, True]


def test_a_client_that_has_finished_gets_time_for_what_it_sent(client: Client) -> None:
    client.regulate(4)
    client.socket.state = PeerState.FINISHED
    assert [client.look_at(now) for now in (105, 110, 144, 149, 154)] == [False] * 4 + [True]


def test_reading_a_little_does_not_prolong_that_time(client: Client) -> None:
    client.regulate(4)
    client.socket.state = PeerState.FINISHED
    cut_at = None
    for now in range(101, 200):
        client.regulate(1)
        client.regulate(4)
        if client.look_at(now) and cut_at is None:
            cut_at = now
    assert cut_at == 150

"""What clients that have not logged in may have waiting, each and all of a node."""

import pytest

from mesa_ws.close import CloseCode
from mesa_ws.messages.recipients import User
from mesa_ws.protocol.events import Close
from mesa_ws.protocol.server import ServerProtocol, Terms
from mesa_ws.server.flow_control import Load
from mesa_ws.server.guests import READ_AHEAD, Guest, Guests
from mesa_ws.settings import Limits, ServerSettings
from mesa_ws.transports.frame_feed import READ_AT_ONCE

LIMITS = Limits(guest_max_message=100, guest_max_requests=2, guests_max_waiting=1000)


class Node:
    """A node with guests; `closed` are the numbers of those that it closed."""

    def __init__(self) -> None:
        self.guests = Guests(LIMITS)
        self.closed: list[int] = []

    def join(self, size: int = 0) -> Guest:
        protocol = ServerProtocol(Terms(ServerSettings(), has_authenticator=True), 0.0)

        def close(why: Close) -> None:
            assert why.code == CloseCode.TRY_AGAIN_LATER
            self.closed.append(guest.number)
            guest.leave()

        guest = self.guests.join(protocol, close)
        guest.hold(size, is_paused=False)
        return guest


@pytest.fixture
def node() -> Node:
    return Node()


def test_the_newest_of_equals_is_closed_when_too_much_waits(node: Node) -> None:
    guests = [node.join(250) for _ in range(4)]
    assert node.closed == []
    guests[1].hold(251, is_paused=False)
    assert (node.closed, node.guests.waiting) == ([3], 751)
    for _ in range(2):
        node.join(249)
    assert (node.closed, node.guests.waiting) == ([3, 5], 1000)


def test_a_small_login_is_not_closed_because_of_others(node: Node) -> None:
    for _ in range(2):
        node.join(500)
    small = node.join(10)
    assert node.closed == [1]
    assert small.size == 10


def test_as_many_are_closed_as_it_takes(node: Node) -> None:
    for _ in range(10):
        node.join(100)
    node.join(950)
    assert node.closed == [10]
    assert node.guests.waiting == 1000


def test_all_that_waits_is_counted_until_the_guest_leaves(node: Node) -> None:
    guest = node.join()
    guest.partial, guest.in_turn = 20, 3
    guest.hold(100, is_paused=False)
    assert node.guests.waiting == 123
    guest.leave()
    assert node.guests.waiting == 0


def test_what_a_paused_transport_may_hold_is_counted() -> None:
    guests = Guests(Limits())
    guest = guests.join(ServerProtocol(Terms(ServerSettings(), has_authenticator=True), 0.0), lambda _: None)
    guest.hold(1, is_paused=True)
    assert guests.waiting == 1 + READ_AHEAD
    assert READ_AHEAD >= READ_AT_ONCE


def test_a_large_message_may_only_follow_a_login_that_waits(node: Node) -> None:
    guest = node.join()
    objection = guest.objection(101)
    assert objection is not None
    assert (objection.code, guest.objection(100)) == (CloseCode.TOO_BIG, None)
    guest.protocol.receive(b'{"op":2}', 0.0)
    assert guest.objection(101) is None
    guest.protocol.accept(User("1"))
    assert guest.objection(101) is not None


def test_a_few_requests_may_wait_for_answers(node: Node) -> None:
    guest = node.join()
    assert [guest.may_request() for _ in range(3)] == [True, True, False]
    guest.answered()
    assert [guest.may_request() for _ in range(2)] == [True, False]
    guest.protocol.receive(b'{"op":2}', 0.0)
    assert guest.may_request(), "what follows a login waits for it"


def test_guests_may_have_no_more_than_users() -> None:
    guests = Guests(Limits(max_message=10, max_queued=3, max_queued_bytes=20))
    assert (guests.max_message, guests.most) == (10, Load(3, 20))
    assert Guests(Limits()).most == Load(16, 128 * 1024)

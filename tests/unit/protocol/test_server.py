"""A server's end of a connection: what the vectors cannot say."""

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mesa_ws.close import CloseCode
from mesa_ws.errors import InvalidMessage
from mesa_ws.messages.recipients import User
from mesa_ws.protocol.correlation import ReplyReceived, RequestReceived
from mesa_ws.protocol.events import (
    Authenticate,
    Close,
    ProbeAnswered,
    QueuedEvent,
    Received,
    SendText,
    ServerEvent,
    UnexpectedAnswer,
    Waiting,
)
from mesa_ws.protocol.server import TRANSITIONS, ServerProtocol, State, Terms, Transition, WrongState, after
from mesa_ws.settings import Authentication, Heartbeat, Keepalive, Rules, ServerSettings

ATTEMPT = b'{"op":2,"d":{}}'
VERSION = b'{"op":0,"d":{"v":"1.5.8"},"t":"CLIENT_VERSION"}'
JUNK = st.binary() | st.text().map(lambda text: text.encode(errors="surrogatepass"))
FRAMES = st.sampled_from(
    [ATTEMPT, VERSION, b'{"op":11}', b'{"op":0,"d":1,"t":"T"}', b"{}", b'{"op":1}', b'{"op":22,"d":{}}']
)
USERS = st.text("abc", min_size=1, max_size=3).map(User)
SHORT = st.sampled_from([0.25, 0.5, 1.0, 2.5])


def protocol(settings: ServerSettings | None = None, *, has_authenticator: bool = True) -> ServerProtocol:
    terms = Terms(settings or ServerSettings(), has_authenticator=has_authenticator)
    return ServerProtocol(terms, 0.0)


def read(server: ServerProtocol, payload: bytes) -> ServerEvent | QueuedEvent | None:
    """Receive, and read what would wait."""
    event = server.receive(payload, 0.0)
    return server.read(event) if isinstance(event, Waiting) else event


NUMBERS = [b"1e999", b"-1e400", b"1" * 4301, b'[{"a":[1e999]}]']
"""Data that JSON allows and nothing can hold."""


@pytest.mark.parametrize("data", NUMBERS)
@pytest.mark.parametrize(
    "rest", [b"", b',"t":"T"', b',"op":2', b',"x":{"r":"1"}', b',"op":2,"x":{"v":2}', b',"op":1']
)
def test_numbers_that_nothing_can_hold_are_found_when_it_is_their_turn(data: bytes, rest: bytes) -> None:
    server = protocol()
    waiting = server.receive(b'{"d":%s%s}' % (data, rest), 0.0)
    assert isinstance(waiting, Waiting)
    assert server.state is not State.CLOSED
    close = server.read(waiting)
    assert isinstance(close, Close)
    assert (close.code, server.state) == (CloseCode.INVALID_PAYLOAD, State.CLOSED)
    assert server.read(waiting) is None, "a connection that has ended is not closed again"


@pytest.mark.parametrize("data", NUMBERS)
@pytest.mark.parametrize(
    "rest",
    [b'"op":11', b'"op":3', b'"x":{"a":"1"}', b'"x":{"a":"1","error":{}}', b'"op":1,"x":{"r":"1"}'],
)
def test_they_are_found_at_once_in_what_does_not_wait(data: bytes, rest: bytes) -> None:
    server = protocol()
    server.receive(b'{"op":2,"x":{"v":2}}', 0.0)
    server.accept(User("1"))
    close = server.receive(b'{"d":%s,%s}' % (data, rest), 0.0)
    assert isinstance(close, Close)
    assert close.code == CloseCode.INVALID_PAYLOAD


@pytest.mark.parametrize("rest", [b"", b',"op":2', b',"x":{"r":"1"}', b',"op":9'])
def test_frames_wait_as_they_were_received(rest: bytes) -> None:
    server, size = protocol(), 500_000
    payload = b'{"d":[%s[]]%s}' % (b"[]," * (size // 3), rest)
    tracemalloc.start()
    try:
        waiting = server.receive(payload, 0.0)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(waiting, Waiting)
    assert held < 4096, "the frame, and no object of its data"
    assert waiting.size == len(payload)


def test_extensions_are_not_kept_while_frames_wait() -> None:
    server = protocol()
    for extension in (b'{"r":"1","y":[[]]}', b"[[[]]]", b'{"v":2,"y":[[]]}'):
        for op in (0, 2):
            waiting = server.receive(b'{"op":%d,"x":%s}' % (op, extension), 0.0)
            assert isinstance(waiting, Waiting)
            assert waiting.frame.x is msgspec.UNSET


def test_nobody_can_be_accepted_without_an_attempt() -> None:
    with pytest.raises(WrongState):
        protocol().accept(User("1"))


def test_nobody_can_be_refused_without_an_attempt() -> None:
    with pytest.raises(WrongState):
        protocol().refuse()


def test_a_user_object_that_json_cannot_hold_leaves_the_attempt_open() -> None:
    server = protocol()
    server.receive(ATTEMPT, 0.0)
    with pytest.raises(InvalidMessage):
        server.accept(User("1", object()))
    assert (server.state, server.deadline) == (State.AUTHENTICATING, 10.0)


def test_what_a_client_sent_is_not_repeated_in_why_it_was_closed() -> None:
    server = protocol(ServerSettings(rules=Rules(enforce_equal_versions=True)))
    close = server.receive(b'{"op":0,"d":{"v":"hush"},"t":"CLIENT_VERSION"}', 0.0)
    assert close == Close(CloseCode.PROTOCOL_ERROR, "the client is not '1.5.8'")


def test_a_message_of_a_guest_that_waited_is_nothing_once_its_connection_has_ended() -> None:
    server = protocol(ServerSettings(authentication=Authentication(anonymous=False)))
    waiting = [server.receive(b'{"op":0,"d":1,"t":"T"}', 0.0) for _ in range(2)]
    assert all(isinstance(event, Waiting) for event in waiting)
    closes = [server.read(event) for event in waiting if isinstance(event, Waiting)]
    assert closes == [Close(CloseCode.REFUSED, "a message before authentication"), None]


def test_why_a_bad_frame_is_one_is_said_for_the_logs() -> None:
    close = protocol().receive(b'{"op":"hush"}', 0.0)
    assert close == Close(CloseCode.INVALID_PAYLOAD, "Expected `int`, got `str` - at `$.op`")


def test_answers_to_nothing_take_up_no_memory() -> None:
    served = protocol(has_authenticator=False)
    served.receive(b'{"op":11,"d":{}}', 0.0)
    tracemalloc.start()
    try:
        for n in range(5000):
            served.receive(b'{"op":11,"d":{}}', float(n))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 5000


def test_why_a_failure_closed_is_what_the_owner_says() -> None:
    server = protocol()
    server.receive(ATTEMPT, 0.0)
    assert server.fail("it broke") == Close(CloseCode.INTERNAL_ERROR, "it broke")


@given(st.lists(JUNK | FRAMES))
def test_any_bytes_are_an_event_or_close_the_session(payloads: list[bytes]) -> None:
    server = protocol()
    for payload in payloads:
        was_closed = server.state is State.CLOSED
        event = read(server, payload)
        assert event is None or not was_closed
        assert isinstance(event, Close) is (server.state is State.CLOSED and not was_closed)


class ServerModel(RuleBasedStateMachine):
    """Does to a session whatever its owner may do, in any order, and knows where it should be."""

    now: float
    server: ServerProtocol

    @initialize(
        heartbeat=st.none() | SHORT,
        keepalive=st.none() | SHORT,
        timeout=st.none() | SHORT,
        keeps=st.booleans(),
        versions=st.booleans(),
        has_authenticator=st.booleans(),
    )
    def open(
        self,
        heartbeat: float | None,
        keepalive: float | None,
        timeout: float | None,
        keeps: bool,
        versions: bool,
        has_authenticator: bool,
    ) -> None:
        settings = ServerSettings(
            heartbeat=Heartbeat(enabled=heartbeat is not None, interval=heartbeat or 1.0, max_attempts=1),
            keepalive=Keepalive(enabled=keepalive is not None, interval=keepalive or 1.0, timeout=0.5),
            authentication=Authentication(timeout=timeout, disconnect_on_fail=not keeps),
            rules=Rules(enforce_equal_versions=versions),
        )
        self.keeps = keeps
        self.now = 0.0
        self.waiting = 0
        self.is_paused = self.is_user = self.is_over = False
        self.server = protocol(settings, has_authenticator=has_authenticator)

    def expected(self) -> State:
        if self.is_over:
            return State.CLOSED
        if self.is_user:
            return State.AUTHENTICATED
        return State.AUTHENTICATING if self.waiting else State.CONNECTED

    def ended(self, output: object) -> None:
        if isinstance(output, Close):
            assert not self.is_over, "something came out of a session that was over"
            self.is_over = True

    @rule(seconds=st.sampled_from([0.0, 0.25, 0.5, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(payload=FRAMES | JUNK)
    def receive(self, payload: bytes) -> None:
        event = self.server.receive(payload, self.now)
        if self.is_over:
            assert event is None
        queued = self.server.read(event) if isinstance(event, Waiting) else None
        if isinstance(queued, Authenticate):
            self.waiting += 1
        self.ended(queued)
        self.ended(event)
        assert queued is None or isinstance(queued, Authenticate | Received | RequestReceived | Close)
        assert event is None or isinstance(
            event, Waiting | ReplyReceived | SendText | ProbeAnswered | UnexpectedAnswer | Close
        )

    @precondition(lambda self: self.waiting and not self.is_over)
    @rule(user=USERS)
    def accept(self, user: User) -> None:
        assert isinstance(self.server.accept(user), bytes)
        self.waiting -= 1
        self.is_user = True

    @precondition(lambda self: self.waiting)
    @rule(is_failure=st.booleans())
    def turn_away(self, is_failure: bool) -> None:
        close = self.server.fail("broken") if is_failure else self.server.refuse()
        assert (close is None) is (self.keeps or self.is_over)
        self.waiting -= 1
        self.ended(close)

    @rule()
    def poll(self) -> None:
        outputs = self.server.poll(self.now)
        if self.is_over or self.is_paused:
            assert outputs == []
        assert not any(isinstance(output, Close) for output in outputs[:-1])
        for output in outputs:
            self.ended(output)
        assert self.server.deadline is None or self.server.deadline > self.now

    @rule()
    def heard(self) -> None:
        self.server.heard(self.now)

    @rule()
    def suspend(self) -> None:
        self.server.suspend(self.now)
        self.is_paused = True

    @rule()
    def resume(self) -> None:
        self.server.resume(self.now)
        self.is_paused = False

    @rule()
    def close(self) -> None:
        self.server.close()
        self.is_over = True

    @invariant()
    def state_is_where_the_steps_lead(self) -> None:
        assert self.server.state is self.expected()

    @invariant()
    def no_deadline_runs_while_paused_or_over(self) -> None:
        if self.is_paused or self.is_over:
            assert self.server.deadline is None

    @invariant()
    def polling_before_the_deadline_does_nothing(self) -> None:
        deadline = self.server.deadline
        if deadline is None or self.now < deadline:
            assert self.server.poll(self.now) == []


def test_any_order_of_legal_calls_keeps_the_state_legal() -> None:
    run_state_machine_as_test(ServerModel)


@pytest.mark.parametrize(("wire", "version"), [("native", 2), ("mesa1", None)])
def test_the_greeting_names_a_wire_only_where_there_is_more_than_that_of_1x(
    wire: Any, version: int | None
) -> None:
    hello = Terms(ServerSettings(wire=wire), has_authenticator=True).hello
    assert json.loads(hello)["d"].get("v") == version


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize("step", Transition)
def test_nothing_leaves_a_closed_connection(step: Transition) -> None:
    assert after(State.CLOSED, step) is State.CLOSED


@pytest.mark.parametrize("state", State)
def test_every_connection_can_be_closed(state: State) -> None:
    assert after(state, Transition.CLOSE) is State.CLOSED


@pytest.mark.parametrize(
    ("state", "step", "next"),
    [
        (State.CONNECTED, Transition.ATTEMPT, State.AUTHENTICATING),
        (State.AUTHENTICATING, Transition.ATTEMPT, State.AUTHENTICATING),
        (State.AUTHENTICATING, Transition.ACCEPT, State.AUTHENTICATED),
        (State.AUTHENTICATING, Transition.REFUSE, State.CONNECTED),
        (State.AUTHENTICATED, Transition.ATTEMPT, State.AUTHENTICATED),
        (State.AUTHENTICATED, Transition.ACCEPT, State.AUTHENTICATED),
        (State.AUTHENTICATED, Transition.REFUSE, State.AUTHENTICATED),
    ],
)
def test_a_step_leads_where_the_table_says(state: State, step: Transition, next: State) -> None:
    assert after(state, step) is next


@pytest.mark.parametrize("step", [Transition.ACCEPT, Transition.REFUSE])
def test_an_answer_without_an_attempt_is_a_bug_of_the_caller(step: Transition) -> None:
    with pytest.raises(WrongState) as caught:
        after(State.CONNECTED, step)
    assert str(caught.value) == f"cannot {step.name.lower()} while connected"

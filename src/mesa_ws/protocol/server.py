"""The server's end of the protocol, and the states of a connection.

    CONNECTED ──op 2──▶ AUTHENTICATING ──accept──▶ AUTHENTICATED ─┐
        ▲                    │                         ▲   op 2,   │
        └──────refuse────────┘                         └─ accept, ─┘
                                                          refuse
    every state ──close──▶ CLOSED, which nothing leaves

An authenticated client may authenticate again: it keeps its id until the new attempt is accepted, so
a refusal that keeps the connection also keeps its id. A client may also make another attempt before
the first was answered: attempts are answered in order, and while one of them waits, a refusal leads
back to AUTHENTICATING.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

import msgspec

from ..close import CloseCode
from ..messages.frames import InvalidFrame, RawFrame, decode_raw_frame, encode_frame
from ..messages.message import Op, reserved_opcodes
from ..messages.recipients import User
from ..settings import Heartbeat, Keepalive, ServerSettings
from .correlation import RequestReceived, answering, read_reply, read_request_id
from .events import (
    Acknowledged,
    Authenticate,
    Close,
    Output,
    ProbeAnswered,
    QueuedEvent,
    Received,
    SendPing,
    SendText,
    ServerEvent,
    UnexpectedAnswer,
    Waiting,
)
from .resume import SyncOptions, read_position, read_should_sync, read_sync_options
from .timers import HeartbeatTimer, KeepaliveTimer, ProbeCounter

WIRE = 2
"""The wire that HELLO announces as `v`."""

_NEVER = float("inf")
_CONTROL = frozenset({Op.HEARTBEAT_ACK, Op.AUTHENTICATE, Op.ACK})
_PROBE = encode_frame(Op.HEARTBEAT, {})
_SIGN_OF_LIFE = encode_frame(Op.HEARTBEAT_ACK, {})


class State(Enum):
    """State of the server's protocol."""

    CONNECTED = auto()
    AUTHENTICATING = auto()
    AUTHENTICATED = auto()
    CLOSED = auto()


class Transition(Enum):
    """Step from one state to another."""

    ATTEMPT = auto()
    ACCEPT = auto()
    REFUSE = auto()
    CLOSE = auto()


TRANSITIONS: Mapping[State, Mapping[Transition, State]] = {
    State.CONNECTED: {
        Transition.ATTEMPT: State.AUTHENTICATING,
        Transition.CLOSE: State.CLOSED,
    },
    State.AUTHENTICATING: {
        Transition.ATTEMPT: State.AUTHENTICATING,
        Transition.ACCEPT: State.AUTHENTICATED,
        Transition.REFUSE: State.CONNECTED,
        Transition.CLOSE: State.CLOSED,
    },
    State.AUTHENTICATED: {
        Transition.ATTEMPT: State.AUTHENTICATED,
        Transition.ACCEPT: State.AUTHENTICATED,
        Transition.REFUSE: State.AUTHENTICATED,
        Transition.CLOSE: State.CLOSED,
    },
    State.CLOSED: dict.fromkeys(Transition, State.CLOSED),
}


class WrongState(Exception):
    """Error of a step that the state does not allow; a bug of the caller, not of the peer."""

    def __init__(self, step: Transition, state: State) -> None:
        super().__init__(f"cannot {step.name.lower()} while {state.name.lower()}")


def after(state: State, step: Transition) -> State:
    """Return the state that `step` leads to; raise `WrongState` if the step is not possible in `state`."""
    try:
        return TRANSITIONS[state][step]
    except KeyError:
        raise WrongState(step, state) from None


class Terms:
    """What one server offers to every connection, derived from its settings once.

    Args:
        settings: the server's settings.
        has_authenticator: whether the server can answer op 2; if not, op 2 has no deadline.
        has_pings: whether the transport has Pings; if not, op 1 stands for them.
    """

    __slots__ = (
        "_sends_user_object",
        "allows_anonymous",
        "deadline",
        "has_authenticator",
        "has_pings",
        "heartbeat",
        "hello",
        "keepalive",
        "keeps_refused",
        "pings_for_proof",
        "reserved",
        "speaks_wire2",
        "version",
    )

    def __init__(self, settings: ServerSettings, *, has_authenticator: bool, has_pings: bool = True) -> None:
        authentication = settings.authentication
        self._sends_user_object = authentication.send_user_object
        self.allows_anonymous = authentication.anonymous
        self.keeps_refused = not authentication.disconnect_on_fail
        self.has_authenticator = has_authenticator
        self.deadline = authentication.timeout if has_authenticator else None
        self.version = settings.rules.version if settings.rules.enforce_equal_versions else None
        self.heartbeat: Heartbeat | None = settings.heartbeat if settings.heartbeat.enabled else None
        self.keepalive: Keepalive | None = settings.keepalive if settings.keepalive.enabled else None
        self.has_pings = has_pings
        self.pings_for_proof = has_pings and settings.sync.proof == "ping"
        self.speaks_wire2 = settings.wire == "native"
        self.reserved = reserved_opcodes(settings.wire)
        self.hello = encode_frame(Op.HELLO, _hello(settings))

    def sync(self, extension: object) -> SyncOptions:
        """Return the sync options in the `x` of an op 2, where the server speaks wire 2."""
        return read_sync_options(extension) if self.speaks_wire2 else SyncOptions()

    def acknowledgement(self, user: User) -> bytes:
        """Return the frame that tells a client that it has authenticated.

        Raises:
            InvalidMessage: JSON cannot hold the user object.
        """
        return encode_frame(Op.AUTHENTICATED, user.data if self._sends_user_object else {})


class ServerProtocol:
    """The protocol state of one connection. Not thread-safe; owned by its connection.

    Write `terms.hello` first. Then `receive` what comes, and do what it returns, or `read` it in its
    turn; `poll` when `deadline` has come; `probe` when an acknowledgement is wanted.

    Attributes:
        state: see `State`.
        is_wire2: whether the client was accepted as one that speaks wire 2.
    """

    __slots__ = (
        "_attempts",
        "_authentication_due",
        "_expires",
        "_heartbeat",
        "_is_settled",
        "_keepalive",
        "_probes",
        "_suspended_at",
        "_terms",
        "_version_known",
        "_was_accepted",
        "is_wire2",
        "state",
    )

    def __init__(self, terms: Terms, now: float) -> None:
        self._terms = terms
        self.state = State.CONNECTED
        self._heartbeat = HeartbeatTimer(terms.heartbeat, now) if terms.heartbeat else None
        self._keepalive = KeepaliveTimer(terms.keepalive, now) if terms.keepalive else None
        self._authentication_due = now + terms.deadline if terms.deadline else _NEVER
        self._expires = _NEVER
        self._attempts: tuple[bool, ...] = ()  # those that wait, oldest first: is it wire 2?
        self._probes = ProbeCounter()
        self.is_wire2 = False
        self._suspended_at: float | None = None
        self._is_settled = False
        self._was_accepted = False
        self._version_known = terms.version is None

    @property
    def deadline(self) -> float | None:
        """When `poll` has something to do, in the time of `now`; None for never."""
        if self.state is State.CLOSED:
            return None
        due = self._expires
        if self._suspended_at is None:
            due = min(
                self._heartbeat.due if self._heartbeat else _NEVER,
                self._keepalive.due if self._keepalive else _NEVER,
                self._authentication_due,
                due,
            )
        return None if due == _NEVER else due

    def heard(self, now: float) -> None:
        """Count a control frame, or a part of a message, as a sign of life."""
        if self._keepalive is not None:
            self._keepalive.heard_at = now

    def receive(self, payload: bytes, now: float) -> ServerEvent | None:
        """Handle one message from the client.

        Returns:
            `Waiting` for what the owner has to `read` and to handle in order; anything else is to be done
            at once, before what waits; None if nothing is left to do.
        """
        if self.state is State.CLOSED:
            return None
        if self._keepalive is not None:
            self._keepalive.heard_at = now
        try:
            frame = decode_raw_frame(payload)
            return (self._control if frame.op in _CONTROL else self._message)(frame, len(payload))
        except InvalidFrame as error:
            return self._give_up(CloseCode.INVALID_PAYLOAD, str(error))

    def read(self, waiting: Waiting) -> QueuedEvent | None:
        """Decode a frame when it is its turn.

        Returns:
            What it is; `Close` if its data cannot be held or its client must not send it, or None if the
            connection has ended as well. Then what was received after it must not be handled.
        """
        frame = waiting.frame
        try:
            if waiting.sync is not None:
                data = frame.data()
                return Authenticate(data, waiting.sync._replace(should_sync=read_should_sync(data)))
            message = frame.message()
        except InvalidFrame as error:
            if self.state is State.CLOSED:
                return None
            return self._give_up(CloseCode.INVALID_PAYLOAD, str(error))
        if not (self._terms.allows_anonymous or self._was_accepted) and not self._names_version(frame):
            if self.state is State.CLOSED:
                return None
            return self._give_up(CloseCode.REFUSED, "a message before authentication")
        return RequestReceived(waiting.request, message) if waiting.request else Received(message)

    def ponged(self, payload: bytes, now: float) -> ServerEvent | None:
        """Handle a Pong: a sign of life, and an answer if it carries the payload of a probe."""
        self.heard(now)
        token = self._probes.ponged(payload) if self._terms.pings_for_proof else None
        return None if token is None else ProbeAnswered(token)

    def poll(self, now: float) -> list[Output]:
        """Do what is due at `now`."""
        outputs: list[Output] = []
        if self.state is State.CLOSED:
            return outputs
        if now >= self._expires:
            return [self._give_up(CloseCode.EXPIRED, "the login has expired")]
        if self._suspended_at is not None:
            return outputs
        if now >= self._authentication_due:
            return [self._too_late()]
        if self._heartbeat is not None and now >= self._heartbeat.due:
            outputs.append(self._as_probe(self._heartbeat.tick(now), now))
        if self._keepalive is not None and now >= self._keepalive.due:
            outputs.append(self._as_probe(self._keepalive.tick(now), now))
        for output in outputs:
            if isinstance(output, Close):
                self.close()
                return [output]
        return outputs

    def probe(self, now: float) -> Output | None:
        """Probe whether the client has what it was sent, unless it is too early.

        At most one probe is open, and at most one is sent a second; heartbeats count as probes,
        because their answers acknowledge as much.
        """
        if self.state is State.CLOSED or self._suspended_at is not None:
            return None
        if not self._probes.may_ask(now):
            return None
        if self._terms.pings_for_proof:
            return self._ping(now)
        return SendText(_PROBE, self._probes.ask(now))

    def accept(self, user: User) -> bytes:
        """Accept the client as `user`, on the wire that it asked for; `expire` then says for how long.

        Returns:
            The acknowledgement for a client of wire 1. For one of wire 2, `welcome` adds its
            positions.

        Raises:
            InvalidMessage: JSON cannot hold the user object; nothing changed.
            WrongState: there was no attempt.
        """
        acknowledgement = self._terms.acknowledgement(user)
        asked = self._attempts[:1]
        self._end_attempt(Transition.ACCEPT)
        self.is_wire2 = any(asked)
        self._was_accepted = True
        self._settle()
        return acknowledgement

    def expire(self, at: float | None) -> None:
        """End the login at a time, in that of `now`, also while the server does not read; None for never."""
        self._expires = _NEVER if at is None else at

    def refuse(self) -> Close | None:
        """Refuse the client, and close it for good, unless refused clients are kept."""
        return self._turn_away(CloseCode.REFUSED, "authentication refused")

    def fail(self, why: str) -> Close | None:
        """Give up an authentication that failed here. The client may come back, unless it is kept."""
        return self._turn_away(CloseCode.INTERNAL_ERROR, why)

    def close(self) -> None:
        """Note that the connection has ended or is about to."""
        self.state = after(self.state, Transition.CLOSE)

    def suspend(self, now: float) -> None:
        """Stop the deadlines of the client, because the server stops reading and cannot hear it."""
        if self._suspended_at is None:
            self._suspended_at = now

    def resume(self, now: float) -> None:
        """Run the deadlines again; the time in between does not count, and silence counts from now on."""
        if self._suspended_at is None:
            return
        away, self._suspended_at = now - self._suspended_at, None
        self._authentication_due += away
        if self._heartbeat is not None:
            self._heartbeat.postpone(away)
        self.heard(now)

    def _control(self, frame: RawFrame, size: int) -> ServerEvent | None:
        """Handle a frame of the protocol; what cannot wait is decoded at once."""
        if frame.op == Op.HEARTBEAT_ACK:
            frame.data()
            return self._heartbeat_answered()
        if frame.op == Op.AUTHENTICATE:
            self.state = after(self.state, Transition.ATTEMPT)
            sync = self._terms.sync(frame.x)
            self._attempts += (sync.is_wire2,)
            return Waiting(frame.without_extension(), size, sync=sync)
        if not self.is_wire2:
            return self._message(frame, size)
        position = read_position(frame.data())
        return None if position is None else Acknowledged(position)

    def _message(self, frame: RawFrame, size: int) -> ServerEvent:
        if self._terms.version is not None and self._names_version(frame):
            if _version(frame.data()) != self._terms.version:
                return self._give_up(CloseCode.PROTOCOL_ERROR, f"the client is not {self._terms.version!r}")
            self._version_known = True
            self._lift_deadline()
        if frame.x is msgspec.UNSET:
            return Waiting(frame, size)
        return self._correlated(frame, size)

    def _names_version(self, frame: RawFrame) -> bool:
        return self._terms.version is not None and frame.op == Op.DISPATCH and frame.t == "CLIENT_VERSION"

    def _correlated(self, frame: RawFrame, size: int) -> ServerEvent:
        reply = read_reply(frame)
        if reply is not None:
            return reply
        request = read_request_id(frame.x)
        if frame.op == Op.HEARTBEAT and request:
            frame.data()
            return SendText(answering(_SIGN_OF_LIFE, request))
        return Waiting(frame.without_extension(), size, request)

    def _heartbeat_answered(self) -> ServerEvent | None:
        if self._heartbeat is not None:
            self._heartbeat.answered()
        if self._terms.pings_for_proof or not self._probes.are_trusted:
            return None
        token = self._probes.answered()
        return UnexpectedAnswer() if token is None else ProbeAnswered(token)

    def _as_probe(self, output: Output, now: float) -> Output:
        """Count a heartbeat, or a Ping where Pings are the probes, as a probe."""
        if isinstance(output, SendPing) and not self._terms.has_pings:
            output = SendText(_PROBE)
        if self._terms.pings_for_proof:
            return self._ping(now) if isinstance(output, SendPing) else output
        return output._replace(token=self._probes.ask(now)) if isinstance(output, SendText) else output

    def _ping(self, now: float) -> SendPing:
        token = self._probes.ask(now)
        return SendPing(b"%d" % token, token)

    def _end_attempt(self, step: Transition) -> None:
        """Count one attempt as answered; after a refusal, later attempts still wait."""
        self._attempts = self._attempts[1:]
        if step is Transition.ACCEPT or not self._attempts:
            self.state = after(self.state, step)

    def _turn_away(self, code: CloseCode, why: str) -> Close | None:
        if self.state is State.CLOSED:
            return None
        self._end_attempt(Transition.REFUSE)
        if not self._terms.keeps_refused:
            return self._give_up(code, why)
        self._settle()
        return None

    def _settle(self) -> None:
        """Note that an attempt was answered; the client may still have to name its version."""
        self._is_settled = True
        self._lift_deadline()

    def _lift_deadline(self) -> None:
        if self._is_settled and self._version_known:
            self._authentication_due = _NEVER

    def _too_late(self) -> Close:
        if self.state is State.AUTHENTICATING:
            return self._give_up(
                CloseCode.INTERNAL_ERROR,
                "the login was not answered in time: the authenticator is slow, or a handler before it",
            )
        if self._is_settled:
            return self._give_up(CloseCode.PROTOCOL_ERROR, "the client did not name its version in time")
        return self._give_up(CloseCode.REFUSED, "no authentication in time")

    def _give_up(self, code: CloseCode, why: str) -> Close:
        self.close()
        return Close(code, why)


def _version(data: Any) -> Any:
    return data.get("v") if isinstance(data, dict) else None


def _hello(settings: ServerSettings) -> dict[str, Any]:
    """Return HELLO's data, with the members in the order of 1.x, which always sends `rules`."""
    data: dict[str, Any] = {}
    if settings.heartbeat.enabled:
        data["c_heartbeat_interval"] = _milliseconds(settings.heartbeat.interval)
    if settings.reconnect.enabled:
        data["c_reconnect_interval"] = _milliseconds(settings.reconnect.interval)
    if settings.authentication.timeout is not None:
        data["c_authentication_timeout"] = _milliseconds(settings.authentication.timeout)
    rules = {
        "enforce_equal_versions": settings.rules.enforce_equal_versions,
        "store_messages": settings.rules.store_messages,
        "sends_user_object": settings.authentication.send_user_object,
    }
    data["rules"] = [name for name, holds in rules.items() if holds]
    if settings.wire == "native":
        data["v"] = WIRE
    return data


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))

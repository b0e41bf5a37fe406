"""States of the server's protocol, and the steps between them.

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


class State(Enum):
    """State of the server's protocol."""

    CONNECTED = auto()
    AUTHENTICATING = auto()
    AUTHENTICATED = auto()
    CLOSED = auto()


class Step(Enum):
    """Step from one state to another."""

    ATTEMPT = auto()
    ACCEPT = auto()
    REFUSE = auto()
    CLOSE = auto()


TRANSITIONS: Mapping[State, Mapping[Step, State]] = {
    State.CONNECTED: {Step.ATTEMPT: State.AUTHENTICATING, Step.CLOSE: State.CLOSED},
    State.AUTHENTICATING: {
        Step.ATTEMPT: State.AUTHENTICATING,
        Step.ACCEPT: State.AUTHENTICATED,
        Step.REFUSE: State.CONNECTED,
        Step.CLOSE: State.CLOSED,
    },
    State.AUTHENTICATED: {
        Step.ATTEMPT: State.AUTHENTICATED,
        Step.ACCEPT: State.AUTHENTICATED,
        Step.REFUSE: State.AUTHENTICATED,
        Step.CLOSE: State.CLOSED,
    },
    State.CLOSED: dict.fromkeys(Step, State.CLOSED),
}


class WrongState(Exception):
    """Error of a step that the state does not allow; a bug of the caller, not of the peer."""

    def __init__(self, step: Step, state: State) -> None:
        super().__init__(f"cannot {step.name.lower()} while {state.name.lower()}")


def after(state: State, step: Step) -> State:
    """Return the state that `step` leads to.

    Raises:
        WrongState: the step is not possible in `state`.
    """
    try:
        return TRANSITIONS[state][step]
    except KeyError:
        raise WrongState(step, state) from None

"""The transition table of a server's session."""

import pytest

from mesa_ws.protocol import TRANSITIONS, State, Step, WrongState, after


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize("step", Step)
def test_nothing_leaves_a_closed_session(step: Step) -> None:
    assert after(State.CLOSED, step) is State.CLOSED


@pytest.mark.parametrize("state", State)
def test_every_session_can_be_closed(state: State) -> None:
    assert after(state, Step.CLOSE) is State.CLOSED


@pytest.mark.parametrize(
    ("state", "step", "next"),
    [
        (State.CONNECTED, Step.ATTEMPT, State.AUTHENTICATING),
        (State.AUTHENTICATING, Step.ATTEMPT, State.AUTHENTICATING),
        (State.AUTHENTICATING, Step.ACCEPT, State.AUTHENTICATED),
        (State.AUTHENTICATING, Step.REFUSE, State.CONNECTED),
        (State.AUTHENTICATED, Step.ATTEMPT, State.AUTHENTICATED),
        (State.AUTHENTICATED, Step.ACCEPT, State.AUTHENTICATED),
        (State.AUTHENTICATED, Step.REFUSE, State.AUTHENTICATED),
    ],
)
def test_a_step_leads_where_the_table_says(state: State, step: Step, next: State) -> None:
    assert after(state, step) is next


@pytest.mark.parametrize("step", [Step.ACCEPT, Step.REFUSE])
def test_an_answer_without_an_attempt_is_a_bug_of_the_caller(step: Step) -> None:
    with pytest.raises(WrongState) as caught:
        after(State.CONNECTED, step)
    assert str(caught.value) == f"cannot {step.name.lower()} while connected"

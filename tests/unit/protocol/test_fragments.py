"""Messages out of frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesa_ws.close import CloseCode
from mesa_ws.protocol.fragments import DataFrame, Fragments, Violation


def frames(message: bytes, cuts: list[int]) -> list[DataFrame]:
    """`message`, cut at `cuts`."""
    edges = [0, *sorted(min(cut, len(message)) for cut in cuts), len(message)]
    last = len(edges) - 2
    return [DataFrame(i > 0, i == last, message[edges[i] : edges[i + 1]]) for i in range(last + 1)]


@given(st.lists(st.tuples(st.binary(max_size=20), st.lists(st.integers(0, 20), max_size=5)), max_size=4))
def test_any_split_is_joined(messages: list[tuple[bytes, list[int]]]) -> None:
    fragments = Fragments(max_message=20, max_fragments=6)
    given = [fragments.add(frame) for message, cuts in messages for frame in frames(message, cuts)]
    assert [message for message in given if message is not None] == [message for message, _ in messages]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.binary(max_size=8))))
def test_any_frames_stay_within_the_limits(given: list[tuple[bool, bool, bytes]]) -> None:
    fragments = Fragments(max_message=16, max_fragments=3)
    for frame in given:
        try:
            message = fragments.add(DataFrame(*frame))
        except Violation as violation:
            assert violation.code in {CloseCode.PROTOCOL_ERROR, CloseCode.TOO_BIG}  # noqa: PT017
            return
        assert message is None or len(message) <= 16


@pytest.mark.parametrize(
    ("given", "code", "why"),
    [
        ([DataFrame(True, True, b"x")], 1002, "continuation frame without a first one"),
        (
            [DataFrame(False, False, b"x"), DataFrame(False, True, b"y")],
            1002,
            "new message inside a fragmented one",
        ),
        ([DataFrame(False, True, b"12345")], 1009, "message of more than 4 bytes"),
        (
            [DataFrame(False, False, b""), DataFrame(True, False, b"")],
            1009,
            "message of more than 2 fragments",
        ),
    ],
)
def test_a_violation_says_how_to_close_and_why(given: list[DataFrame], code: int, why: str) -> None:
    fragments = Fragments(max_message=4, max_fragments=2)
    for frame in given[:-1]:
        fragments.add(frame)
    with pytest.raises(Violation) as caught:
        fragments.add(given[-1])
    assert (caught.value.code, caught.value.why, str(caught.value)) == (code, why, why)


def test_the_bytes_of_an_unfinished_message_are_counted() -> None:
    fragments = Fragments(100, 10)
    sizes = [fragments.size]
    for n in range(3):
        fragments.add(DataFrame(n > 0, n == 2, b"x" * 20))
        sizes.append(fragments.size)
    assert sizes == [0, 20, 40, 0]

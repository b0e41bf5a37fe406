"""Who a message is for."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesa_ws.errors import InvalidRecipients
from mesa_ws.messages.recipients import MAX_ID_BYTES, Recipients, check_id, check_ids

IDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60).filter(
    lambda text: text != "*"
)
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(),
    st.text(st.characters()),
    IDS,
    st.just("*"),
    st.builds(object),
)
CONTAINERS = (
    st.lists(ANYTHING | st.lists(ANYTHING, max_size=2), max_size=6)
    | st.tuples(ANYTHING, ANYTHING)
    | st.dictionaries(st.text(), ANYTHING, max_size=3)
)


class Strange:
    """Compares as arrays do: neither equal nor different."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value is ambiguous")

    __hash__ = None  # type: ignore[assignment]


def test_ids_keep_their_order_and_count_once() -> None:
    assert Recipients.of(["b", "a", "b"]) == Recipients(False, ("b", "a"), frozenset())


def test_excluded_ids_are_taken_out() -> None:
    assert Recipients.of(["a", "b"], ["b", "c"]) == Recipients(False, ("a",), frozenset())


@pytest.mark.parametrize("excluding", [["a"], ("a",)])
def test_the_only_recipient_may_be_excluded(excluding: Iterable[str]) -> None:
    assert Recipients.of(["a"], excluding) == Recipients(False, (), frozenset())


def test_no_recipients_are_nobody() -> None:
    assert Recipients.of([]) == Recipients(False, (), frozenset())


@pytest.mark.parametrize("recipients", ["*", ["*"], ("*",), {"*"}, ["1", "*"], iter(["*", "*"])])
def test_a_star_is_everybody(recipients: Iterable[str]) -> None:
    assert Recipients.of(recipients) == Recipients(True, (), frozenset())


def test_everybody_is_the_default() -> None:
    assert Recipients.of().everybody


def test_everybody_keeps_the_exclusions() -> None:
    assert Recipients.of("*", ["1"]) == Recipients(True, (), frozenset({"1"}))


def test_any_iterable_will_do() -> None:
    assert Recipients.of((id for id in "ab"), {"b": None}).ids == ("a",)


@pytest.mark.parametrize(
    ("recipients", "text"),
    [
        ("0", "expected a list of ids, got the bare text '0'; write ['0']"),
        (b"0", "expected a list of ids, got the bare text b'0'; write [b'0']"),
        (7, "expected a list of ids, got 7 (int); write ['7']"),
        (True, "expected a list of ids, got True (bool)"),
        (None, "expected a list of ids, got None (NoneType)"),
        ([7], "expected an id as text, got 7 (int); write '7'"),
        ([None], "expected an id as text, got None (NoneType)"),
        (["*", []], "expected an id as text, got a value of type list"),
        ([{"password": "x"}], "expected an id as text, got a value of type dict"),
        ([2**65], "expected an id as text, got a value of type int"),
        (2**65, "expected a list of ids, got a value of type int"),
        ([UUID(int=0)], "expected an id as text, got a value of type UUID; write str(...)"),
        (UUID(int=0), "expected a list of ids, got a value of type UUID; write [str(...)]"),
        ([""], "expected an id of 1 to 255 bytes of UTF-8, got 0 bytes"),
        (["é" * 128], "expected an id of 1 to 255 bytes of UTF-8, got 256 bytes"),
        (["a\nb"], "expected an id without control characters, got 'a\\nb'"),
        (["\x85"], "expected an id without control characters, got '\\x85'"),
        (["\ud800"], "expected an id of valid Unicode, got '\\ud800' with a lone surrogate"),
    ],
)
def test_what_names_nobody_is_refused_with_the_mend(recipients: Any, text: str) -> None:
    with pytest.raises(InvalidRecipients) as caught:
        Recipients.of(recipients)
    assert str(caught.value) == f"recipients: {text}"


@pytest.mark.parametrize(
    ("excluding", "text"),
    [
        ("1", "expected a list of ids, got the bare text '1'; write ['1']"),
        ("", "expected a list of ids, got the bare text ''; write ['']"),
        (["*"], "expected an id, got '*', which stands for everybody"),
        ([1], "expected an id as text, got 1 (int); write '1'"),
        ([UUID(int=0)], "expected an id as text, got a value of type UUID; write str(...)"),
        (None, "expected a list of ids, got None (NoneType)"),
    ],
)
@pytest.mark.parametrize("recipients", ["*", ["a"]])
def test_exclusions_follow_the_same_rules(recipients: Any, excluding: Any, text: str) -> None:
    with pytest.raises(InvalidRecipients) as caught:
        Recipients.of(recipients, excluding)
    assert str(caught.value) == f"excluding: {text}"


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ("anna", "expected a list of ids, got the bare text 'anna'; write ['anna']"),
        ("*", "expected a list of ids, got '*', which stands for everybody"),
        (None, "expected a list of ids, got None (NoneType)"),
        (7, "expected a list of ids, got 7 (int); write ['7']"),
        ([7], "expected an id as text, got 7 (int); write '7'"),
        (["*"], "expected an id, got '*', which stands for everybody"),
    ],
)
def test_ids_that_are_asked_about_follow_the_same_rules(ids: Any, text: str) -> None:
    with pytest.raises(InvalidRecipients) as caught:
        check_ids(ids)
    assert str(caught.value) == f"ids: {text}"


def test_ids_that_are_asked_about_keep_their_order_and_count_once() -> None:
    assert check_ids(iter(["b", "a", "b"])) == ["b", "a"]


def test_an_id_of_the_full_length_is_valid() -> None:
    assert check_id("a" * MAX_ID_BYTES)


def test_a_long_id_is_not_repeated_whole_in_the_error() -> None:
    with pytest.raises(InvalidRecipients) as caught:
        check_id("\ud800" + "x" * 10_000)
    assert len(str(caught.value)) < 400


def test_an_error_of_the_callers_own_iterator_stays_what_it_is() -> None:
    def broken() -> Iterable[str]:
        yield "1"
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        Recipients.of(broken())


@given(ANYTHING | CONTAINERS, ANYTHING | CONTAINERS)
def test_any_input_is_recipients_or_refused(recipients: Any, excluding: Any) -> None:
    try:
        checked = Recipients.of(recipients, excluding)
    except InvalidRecipients:
        return
    assert not (checked.everybody and checked.ids)


@pytest.mark.parametrize("recipients", [Strange(), [Strange()], ["*", Strange()]])
def test_values_that_cannot_be_compared_are_refused(recipients: Any) -> None:
    with pytest.raises(InvalidRecipients):
        Recipients.of(recipients)


@given(st.lists(IDS), st.lists(IDS))
def test_recipients_are_those_named_and_not_excluded(ids: list[str], excluding: list[str]) -> None:
    assert set(Recipients.of(ids, excluding).ids) == set(ids) - set(excluding)

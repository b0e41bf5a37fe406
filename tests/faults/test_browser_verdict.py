"""The verdict of the storm around browsers reports every fault."""

from typing import Any

import pytest

from .browser.verdict import Note, NoteKind, Verdict, judge

EMPTIED = 1000.0


def notes(*values: Any) -> list[Note]:
    """Return notes of a tab, a second apart: numbers, and reports as `(kind, value)`."""

    def note(at: int, value: Any) -> Note:
        kind: NoteKind = "number"
        if isinstance(value, tuple):
            kind, value = value
        return Note(EMPTIED + at, kind, value)

    return [note(at, value) for at, value in enumerate(values)]


def found(verdict: Verdict) -> dict[str, int]:
    """Return the counts that are not 0, without those that every verdict has."""
    names = zip(verdict.head(), verdict.row(), strict=True)
    return {
        name: int(value) for name, value in names if value != "0" and name not in {"confirmed", "received"}
    }


RESET, FORKED = ("reset", 0), ("forked", "c01d")


def test_a_tab_that_had_everything_once_is_clean() -> None:
    verdict = judge(range(4), notes(("state", "open"), 0, 1, 2, 3))
    assert verdict == Verdict(confirmed=4, received=4)
    assert verdict.faults == ()


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ((0, 1, 3), {"lost": 1}),
        ((0, 1, 2), {"lost": 1}),
        ((1, 2, 3), {"lost": 1}),
        ((), {"lost": 4}),
        ((0, 1, 1, 2, 3), {"doubled": 1}),
        ((0, 1, 2, 3, 0, 1, 2, 3), {"doubled": 4}),
        ((0, 2, 1, 3), {"disordered": 1}),
        ((1, 2, 3, 0), {"disordered": 1}),
        # A reset elsewhere is no explanation.
        ((0, 2, RESET, 3), {"lost": 1, "resets": 1}),
        ((0, 2, FORKED, 3), {"lost": 1, "forks": 1}),
        ((RESET, 0, 1, 1, 2, 3), {"doubled": 1, "resets": 1}),
        ((0, RESET, 1, 3, 2), {"disordered": 1, "resets": 1}),
        ((0, ("lost", 2), 3), {"lost": 2, "losses": 2}),
        ((0, 1, ("lost", 2), 2, 3), {"losses": 2}),
        ((0, 1, FORKED, 3), {"lost": 1, "forks": 1}),
        ((0, 1, FORKED, 1, 2, 3), {"doubled": 1, "forks": 1}),
        ((0, FORKED, 2, 1, 3), {"disordered": 1, "forks": 1}),
        ((0, 1, RESET, 0, 1, 3), {"lost": 1, "again": 2, "resets": 1}),
    ],
)
def test_what_breaks_a_promise_is_found(values: tuple[Any, ...], fault: dict[str, int]) -> None:
    verdict = judge(range(4), notes(*values), [EMPTIED] if RESET in values else [])
    assert found(verdict) == fault
    assert verdict.faults


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((0, RESET, 3), {"missing": 2}),
        ((RESET, 2, 3), {"missing": 2}),
        ((0, 1, RESET), {"missing": 2}),
        ((0, 1, 2, RESET, 0, 1, 2, 3), {"again": 3}),
        ((0, 2, 3, RESET, 1, 2, 3), {"again": 2}),
        ((0, RESET, ("lost", 2), 3), {"missing": 2, "losses": 2}),
    ],
)
def test_a_reset_explains_what_is_missing_there_and_what_comes_again(
    values: tuple[Any, ...], told: dict[str, int]
) -> None:
    verdict = judge(range(4), notes(*values), [EMPTIED])
    assert found(verdict) == {"resets": 1, **told}
    assert verdict.faults == ()


def test_a_fork_without_consequences_is_clean() -> None:
    assert judge(range(4), notes(0, 1, FORKED, 2, 3)).faults == ()


def test_a_store_that_was_emptied_without_a_word_is_found() -> None:
    verdict = judge(range(4), notes(0, 1, 2, 3), [EMPTIED])
    assert found(verdict) == {"untold": 1}
    assert verdict.faults == ("untold",)


def test_a_reset_that_is_told_too_late_is_both_untold_and_false() -> None:
    late = [*notes(0, 1, 2, 3), Note(EMPTIED + 31, "reset")]
    assert judge(range(4), late, [EMPTIED]).faults == ("untold", "false")


def test_a_reset_without_a_reason_is_found() -> None:
    verdict = judge(range(4), notes(0, 1, RESET, 2, 3))
    assert found(verdict) == {"resets": 1, "false": 1}
    assert verdict.faults == ("false",)


def test_a_store_that_was_emptied_is_told_for_each_position_at_most() -> None:
    values = (0, RESET, RESET, 1, 2, 3)
    assert judge(range(4), notes(*values), [EMPTIED]).faults == ()
    assert judge(range(4), notes(*values, RESET), [EMPTIED]).faults == ("false",)
    assert judge(range(4), notes(*values, RESET), [EMPTIED, EMPTIED + 5]).faults == ()


def test_a_message_that_could_not_be_sent_is_found() -> None:
    assert judge(range(2), notes(0, ("refused", "closed"), 1)).faults == ("refused",)


def test_each_connection_after_the_first_is_a_return() -> None:
    opened = ("state", "open")
    assert judge(range(2), notes(opened, 0, ("state", "waiting"), opened, 1)).returns == 1

"""The table of limits to remove fits the code, and has every limit that can be set."""

from tests.unit.cli.test_threat_model import LIMITS

from .mutants import GROUPS, stale


def test_each_text_to_remove_stands_once_in_the_code() -> None:
    assert stale() == []


def test_every_limit_that_can_be_set_is_removed_in_turn() -> None:
    assert LIMITS - {limit for group in GROUPS for limit in group.removals} == set()

"""What a node holds, with versions that only grow."""

from mesa_ws.backend.redis.roster import Roster


def test_a_later_entry_has_a_higher_version() -> None:
    roster = Roster()
    first, second = roster.put("a", 1), roster.put("a", 2)
    assert second > first
    assert roster.get("a") == second
    assert roster.drop("a") > second[1]


def test_a_dropped_id_is_a_stranger() -> None:
    roster = Roster()
    roster.put("a", 1)
    roster.put("b", 1)
    roster.drop("a")
    roster.drop("never here")
    assert roster.strangers(["a", "b", "c"]) == ["a", "c"]
    assert roster.get("a") is None


def test_taking_a_first_entry_back_leaves_none() -> None:
    roster = Roster()
    roster.restore("a", roster.put("a", 1), None)
    assert "a" not in roster


def test_taking_an_entry_back_makes_the_one_before_count_again() -> None:
    roster = Roster()
    before, entry = roster.put("a", 1), roster.put("a", 2)
    roster.restore("a", entry, before)
    assert roster.get("a") == (1, roster.version)
    assert roster.version > entry[1]


def test_an_entry_that_was_replaced_is_not_taken_back() -> None:
    roster = Roster()
    entry, newer = roster.put("a", 1), roster.put("a", 2)
    roster.restore("a", entry, None)
    assert roster.get("a") == newer


def test_pages_hold_everything_once() -> None:
    roster = Roster()
    entries = {str(n): roster.put(str(n), 1) for n in range(5)}
    pages = list(roster.pages(2))
    assert [len(page) for page in pages] == [2, 2, 1]
    assert {id: entry for page in pages for id, entry in page.items()} == entries


def test_pages_show_changes_made_while_they_are_read() -> None:
    roster = Roster()
    for id in "abcd":
        roster.put(id, 1)
    pages = roster.pages(2)
    next(pages)
    roster.drop("c")
    entry = roster.put("d", 9)
    assert next(pages) == {"d": entry}

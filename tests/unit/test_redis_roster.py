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

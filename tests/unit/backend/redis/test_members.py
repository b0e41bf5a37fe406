"""What a node holds, with versions that only grow."""

from mesa_ws.backend.redis.members import Roster


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


def test_an_id_is_told_once_while_it_is_here() -> None:
    roster = Roster()
    roster.put("alice", 1)
    assert [roster.tell("alice"), roster.tell("alice")] == [True, False]
    roster.drop("alice")
    roster.put("alice", 1)
    assert roster.tell("alice")


def test_an_id_that_left_meanwhile_is_told_and_forgotten() -> None:
    roster = Roster()
    assert roster.tell("alice")
    assert (roster.told, roster.take_unconfirmed()) == (set(), [])


def test_what_was_told_is_to_be_confirmed_once() -> None:
    roster = Roster()
    roster.put("alice", 1)
    roster.tell("alice")
    assert (roster.take_unconfirmed(), roster.take_unconfirmed()) == (["alice"], [])


def test_only_what_is_confirmed_may_be_told_again() -> None:
    roster = Roster()
    for id in ("alice", "bob"):
        roster.put(id, 1)
    roster.tell("alice")
    roster.take_unconfirmed()
    roster.tell("bob")
    roster.untell()
    assert [roster.tell(id) for id in ("alice", "bob")] == [True, False]


def test_some_ids_come_first() -> None:
    roster = Roster()
    for id in ("a", "b", "c", "d"):
        roster.put(id, 1)
    roster.drop("b")
    assert [list(page) for page in roster.pages(2, ["d", "gone"])] == [["d"], ["a", "c"]]

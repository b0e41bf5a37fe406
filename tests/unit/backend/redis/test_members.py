"""What a node holds, with versions that only grow."""

from mesa_ws.backend.redis.members import MemberTable


def test_a_later_entry_has_a_higher_version() -> None:
    table = MemberTable()
    first, second = table.put("a", 1), table.put("a", 2)
    assert second > first
    assert table.held.get("a") == second
    assert table.drop("a") > second[1]


def test_a_dropped_id_is_a_stranger() -> None:
    table = MemberTable()
    table.put("a", 1)
    table.put("b", 1)
    table.drop("a")
    table.drop("never here")
    assert table.unknown_ids(["a", "b", "c"]) == ["a", "c"]
    assert table.held.get("a") is None


def test_pages_hold_everything_once() -> None:
    table = MemberTable()
    entries = {str(n): table.put(str(n), 1) for n in range(5)}
    pages = list(table.pages(2))
    assert [len(page) for page in pages] == [2, 2, 1]
    assert {id: entry for page in pages for id, entry in page.items()} == entries


def test_pages_show_changes_made_while_they_are_read() -> None:
    table = MemberTable()
    for id in "abcd":
        table.put(id, 1)
    pages = table.pages(2)
    next(pages)
    table.drop("c")
    entry = table.put("d", 9)
    assert next(pages) == {"d": entry}


def test_an_id_is_told_once_while_it_is_here() -> None:
    table = MemberTable()
    table.put("alice", 1)
    assert [table.announce("alice"), table.announce("alice")] == [True, False]
    table.drop("alice")
    table.put("alice", 1)
    assert table.announce("alice")


def test_an_id_that_left_meanwhile_is_told_and_forgotten() -> None:
    table = MemberTable()
    assert table.announce("alice")
    assert (table.announced, table.take_unconfirmed(9)) == (set(), [])


def test_what_was_told_is_to_be_confirmed_once() -> None:
    table = MemberTable()
    for id in ("alice", "bob", "carol"):
        table.put(id, 1)
        table.announce(id)
    taken = [table.take_unconfirmed(2) for _ in range(3)]
    assert [len(some) for some in taken] == [2, 1, 0]
    assert sorted(taken[0] + taken[1]) == ["alice", "bob", "carol"]


def test_only_what_is_confirmed_may_be_told_again() -> None:
    table = MemberTable()
    for id in ("alice", "bob"):
        table.put(id, 1)
    table.announce("alice")
    table.take_unconfirmed(9)
    table.announce("bob")
    table.forget_announced()
    assert [table.announce(id) for id in ("alice", "bob")] == [True, False]


def test_some_ids_come_first() -> None:
    table = MemberTable()
    for id in ("a", "b", "c", "d"):
        table.put(id, 1)
    table.drop("b")
    assert [list(page) for page in table.pages(2, ["d", "gone"])] == [["d"], ["a", "c"]]

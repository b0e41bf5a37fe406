"""Turns of portals, and which portals of 1.x live."""

from collections.abc import Iterable, Mapping, Sequence

import pytest

from mesa_ws.backend.mesa1.portal_dispatch import PortalPool
from mesa_ws.backend.mesa1.portal_liveness import NEW_FOR, PoolSnapshot, PortalLiveness, Subscribers, Verdict

PATIENCE = 5.0


def pool_of(*ids: str, spreads: bool = True) -> PortalPool:
    pool = PortalPool(spreads=spreads)
    for id in ids:
        pool.join(id)
    return pool


def test_the_index_advances_before_it_is_used() -> None:
    pool = pool_of("0", "1", "2", "3")
    assert [pool.choose() for _ in range(6)] == ["1", "2", "3", "0", "1", "2"]


def test_one_alone_does_not_move_the_index() -> None:
    pool = pool_of("0", "1", "2")
    assert [pool.choose() for _ in range(2)] == ["1", "2"]
    pool.leave("1")
    pool.leave("2")
    assert [pool.choose() for _ in range(2)] == ["0", "0"]
    pool.join("3")
    assert [pool.choose() for _ in range(2)] == ["0", "3"]


def test_who_joins_twice_is_there_once() -> None:
    pool = pool_of("0")
    assert not pool.join("0")
    assert (pool.leave("0"), pool.ids) == (True, ())


def test_the_leave_of_an_unknown_one_changes_nothing() -> None:
    pool = pool_of("0", "1")
    assert (pool.leave("other"), pool.ids) == (False, ("0", "1"))


def test_one_that_is_to_be_avoided_is_passed_over_unless_it_is_the_only_one() -> None:
    pool = pool_of("0", "1", "2")
    assert [pool.choose(avoid={"1"}) for _ in range(4)] == ["2", "0", "2", "0"]
    assert pool.choose(avoid={"0", "1", "2"}) is not None
    assert pool_of().choose() is None


def test_without_turns_each_gets_some() -> None:
    pool = pool_of("0", "1", "2", spreads=False)
    assert {pool.choose() for _ in range(200)} == {"0", "1", "2"}
    assert {pool.choose(avoid={"1"}) for _ in range(200)} == {"0", "2"}


class Site:
    """A clock, and the portals and connections that Redis shows."""

    def __init__(self) -> None:
        self.now = 100.0
        self.vitality = PortalLiveness(PATIENCE)

    def look(
        self,
        pool: Sequence[str],
        *,
        listeners: int,
        plain: Iterable[int] | None = (),
        named: Iterable[str] = (),
        leases: Mapping[str, float] | None = None,
        after: float = 0.0,
    ) -> Verdict:
        self.now += after
        snapshot = PoolSnapshot("era", listeners, frozenset(pool), leases or {}, frozenset())
        subscribers = None if plain is None else Subscribers(frozenset(plain), frozenset(named))
        return self.vitality.observe(snapshot, subscribers, pool, self.now)

    @property
    def suspects(self) -> set[str]:
        return set(self.vitality.suspects)


@pytest.fixture
def site() -> Site:
    """Two portals of 1.x that joined one after the other, so that each is bound to its connection."""
    site = Site()
    site.look(["a"], listeners=1, plain=[1])
    site.look(["a", "b"], listeners=2, plain=[1, 2], after=1)
    return site


def test_whose_connection_is_gone_is_suspected_at_once_and_dead_after_a_while(site: Site) -> None:
    assert site.look(["a", "b"], listeners=1, plain=[2], after=60) == Verdict()
    assert site.suspects == {"a"}
    assert site.look(["a", "b"], listeners=1, plain=[2], after=PATIENCE) == Verdict(theirs=("a",))


def test_who_comes_back_on_another_connection_lives(site: Site) -> None:
    site.look(["a", "b"], listeners=1, plain=[2], after=60)
    assert site.look(["a", "b"], listeners=2, plain=[2, 9], after=1) == Verdict()
    assert site.suspects == set()
    site.look(["a", "b"], listeners=1, plain=[2], after=60)
    assert site.suspects == {"a"}, "it is bound to the new connection"


def test_all_that_come_back_at_once_live(site: Site) -> None:
    site.look(["a", "b"], listeners=0, after=60)
    assert site.suspects == {"a", "b"}
    assert site.look(["a", "b"], listeners=2, plain=[8, 9], after=2) == Verdict()
    assert site.suspects == set()
    assert site.look(["a", "b"], listeners=2, plain=[8, 9], after=60) == Verdict()


def test_nobody_is_dead_while_somebody_else_listens_in_its_place(site: Site) -> None:
    site.look(["a", "b"], listeners=3, plain=[1, 2, 3], after=60)
    for _ in range(3):
        assert site.look(["a", "b"], listeners=2, plain=[2, 3], after=60) == Verdict()
    assert site.suspects == {"a"}


def test_where_nobody_listens_all_are_dead(site: Site) -> None:
    site.look(["a", "b", "c"], listeners=0, plain=None, after=60)
    assert site.suspects == {"a", "b", "c"}
    verdict = site.look(["a", "b", "c"], listeners=0, plain=None, after=PATIENCE)
    assert verdict == Verdict(
        theirs=(
            "a",
            "b",
            "c",
        )
    )


def test_where_it_cannot_be_told_who_is_dead_nobody_is_taken_for_it() -> None:
    site = Site()
    site.look(["a", "b"], listeners=2, plain=[1, 2])
    assert site.look(["a", "b"], listeners=1, plain=[2], after=60) == Verdict()
    assert site.look(["a", "b"], listeners=1, plain=[2], after=PATIENCE) == Verdict(unclear=1)
    assert site.suspects == set()


def test_who_has_no_connection_is_dead_where_the_others_are_all_that_listen(site: Site) -> None:
    site.look(["a", "b", "ghost"], listeners=2, plain=[1, 2], after=60)
    assert (site.suspects, set(site.vitality.unheard)) == (set(), {"ghost"})
    verdict = site.look(["a", "b", "ghost"], listeners=2, plain=[1, 2], after=PATIENCE)
    assert verdict == Verdict(theirs=("ghost",))


def test_who_listens_a_moment_after_it_has_joined_lives_and_keeps_its_turn(site: Site) -> None:
    site.look(["a", "b", "late"], listeners=2, plain=[1, 2], after=60)
    assert site.suspects == set()
    assert site.look(["a", "b", "late"], listeners=3, plain=[1, 2, 3], after=0.1) == Verdict()
    assert site.vitality.unheard == frozenset()
    assert site.look(["a", "b", "late"], listeners=3, plain=[1, 2, 3], after=60) == Verdict()


def test_two_without_a_connection_of_which_one_may_listen_are_left_alone(site: Site) -> None:
    for _ in range(2):
        verdict = site.look(["a", "b", "c", "d"], listeners=3, plain=[1, 2], after=60)
        assert site.vitality.unheard == frozenset()
    assert verdict == Verdict(unclear=1)


def test_without_permission_to_see_connections_nobody_is_taken_for_dead() -> None:
    site = Site()
    site.look(["a"], listeners=1, plain=None)
    site.look(["a", "b"], listeners=2, plain=None, after=1)
    site.look(["a", "b"], listeners=1, plain=None, after=60)
    assert site.look(["a", "b"], listeners=1, plain=None, after=PATIENCE) == Verdict(unclear=1)


def test_an_old_portal_is_not_bound_to_whoever_comes_later() -> None:
    site = Site()
    site.look(["a"], listeners=2, plain=[1, 2])
    site.look(["a"], listeners=3, plain=[1, 2, 3], after=NEW_FOR + 1)
    site.look(["a"], listeners=2, plain=[1, 2], after=1)
    assert site.suspects == set()


def test_a_portal_of_ours_is_suspected_without_its_connection_and_dead_without_its_lease() -> None:
    site = Site()
    site.look(["o", "a"], listeners=2, plain=[1], named=["o"], leases={"o": 15})
    assert site.look(["o", "a"], listeners=1, plain=[1], leases={"o": 5}, after=10) == Verdict()
    assert site.suspects == {"o"}
    assert site.look(["o", "a"], listeners=1, plain=[1], leases={"o": -1}, after=6) == Verdict(ours=("o",))


def test_a_lease_that_redis_has_forgotten_may_be_taken_again() -> None:
    site = Site()
    site.look(["o"], listeners=1, named=["o"], leases={"o": 15})
    assert site.look(["o"], listeners=1, named=["o"], after=1) == Verdict()
    assert site.look(["o"], listeners=1, named=["o"], leases={"o": 15}, after=60) == Verdict()
    site.look(["o"], listeners=0, after=1)
    assert site.look(["o"], listeners=0, after=3 * PATIENCE) == Verdict(ours=("o",))


def test_where_only_ours_listen_those_of_1x_are_suspected_whatever_they_are_bound_to() -> None:
    site, ours = Site(), {"o": 15.0}
    site.look(["a", "o"], listeners=2, plain=[1, 2], named=["o"], leases=ours)
    assert site.suspects == set()
    site.look(["a", "o"], listeners=1, plain=[1], named=["o"], leases=ours, after=60)
    assert site.suspects == {"a"}


def test_portals_of_ours_do_not_hide_a_dead_one_of_1x(site: Site) -> None:
    ours = {"o": 15.0}
    site.look(["a", "b", "o"], listeners=3, plain=[1, 2], named=["o"], leases=ours, after=1)
    site.look(["a", "b", "o"], listeners=2, plain=[2], named=["o"], leases=ours, after=60)
    verdict = site.look(["a", "b", "o"], listeners=2, plain=[2], named=["o"], leases=ours, after=PATIENCE)
    assert verdict == Verdict(theirs=("a",))


def test_a_portal_of_ours_that_died_before_it_was_seen_is_not_taken_for_one_of_1x() -> None:
    """Its lease has not ended, so there is one listener less than there are portals."""
    site, ours = Site(), {"o": 15.0}
    for _ in range(3):
        verdict = site.look(["a", "o"], listeners=1, plain=[1], leases=ours, after=PATIENCE)
        assert verdict == Verdict()


def test_a_portal_of_ours_that_died_unseen_is_not_taken_for_one_of_1x() -> None:
    site, ours = Site(), {"o": 15.0}
    site.look(["a", "o"], listeners=2, plain=None, leases=ours)
    for _ in range(3):
        verdict = site.look(["a", "o"], listeners=1, plain=None, leases=ours, after=PATIENCE)
        assert verdict == Verdict()


def test_a_portal_that_has_yet_to_subscribe_is_not_bound_to_a_connection_of_somebody_else() -> None:
    site = Site()
    site.look(["b"], listeners=1, plain=[2])
    site.look(["b", "a"], listeners=1, plain=[2, 9], after=60)
    site.look(["b", "a"], listeners=2, plain=[2, 9, 1], after=0.05)
    site.look(["b", "a"], listeners=2, plain=[2, 1], after=60)
    assert site.suspects == set()


def test_one_that_is_started_in_place_of_a_dead_one_is_bound_to_its_own_connection(site: Site) -> None:
    site.look(["a", "b", "new"], listeners=2, plain=[2, 9], after=60)
    assert site.suspects == {"a"}
    verdict = site.look(["a", "b", "new"], listeners=1, plain=[2], after=PATIENCE)
    assert verdict.theirs == ("a",)
    assert site.suspects == {"a", "new"}


def test_portals_of_other_namespaces_do_not_count_among_the_listeners() -> None:
    site = Site()
    site.look(["o"], listeners=2, plain=[1], named=["o", "elsewhere"], leases={"o": 15})
    assert site.vitality.others == 1
    site.look([], listeners=2, plain=[1], named=["o", "elsewhere"], after=1)
    assert site.vitality.others == 1, "one that leaves still listens for a moment"

"""Which attempts an address may make after its logins have failed."""

import pytest

from mesa_ws.server import failed_logins
from mesa_ws.server.failed_logins import FORGET, FailedLogins

STRANGER = "203.0.113.7"
MOST = 4


class Address:
    """The attempts of clients, at a time that the test sets."""

    def __init__(self, most: int | None = MOST) -> None:
        self.now = 1000.0
        self.logins = FailedLogins(most, lambda address: address, lambda: self.now)

    def attempt(self, has_failed: bool | None = True, address: str | None = STRANGER) -> bool:
        """Make an attempt, unless it would have to wait; return whether it was made."""
        wait = self.logins.begin(address)
        if wait == 0:
            self.logins.end(address, has_failed)
        elif wait is not None:
            self.logins.end(address, None)
        return wait == 0

    def made(self, seconds: int) -> list[int]:
        """Make attempts that fail, each as soon as it may be made; return when, in seconds from now."""
        began, made = self.now, []
        while self.now < began + seconds:
            wait = self.logins.begin(STRANGER)
            if wait is None:
                self.now += 1
            else:
                self.now += wait
                made.append(round(self.now - began))
                self.logins.end(STRANGER, True)
        return made


@pytest.fixture
def strangers() -> Address:
    return Address()


def test_the_pauses_of_an_address_that_only_fails_grow(strangers: Address) -> None:
    assert strangers.made(70) == [0] * MOST + [1, 3, 7, 15, 31, 47, 63]


def test_attempts_that_are_refused_do_not_count(strangers: Address) -> None:
    assert strangers.made(8)[-1] == 7
    assert [strangers.logins.begin(STRANGER) for _ in range(1000)] == [None] * 1000
    assert strangers.made(40) == [7, 23, 39]


def test_attempts_at_the_same_time_wait_for_their_turns(strangers: Address) -> None:
    for _ in range(MOST - 1):
        strangers.attempt()
    waits = [strangers.logins.begin(STRANGER) for _ in range(100)]
    assert waits == [0, 0, 1, 2, 3, 4, 5] + [None] * 93


def test_other_addresses_and_those_without_a_limit_are_not_concerned(strangers: Address) -> None:
    assert [strangers.attempt() for _ in range(MOST + 1)] == [True] * MOST + [False]
    assert strangers.attempt(address="203.0.113.8")
    assert all(strangers.attempt(address=None) for _ in range(100))
    assert all(Address(most=None).attempt() for _ in range(100))


def test_failures_are_forgotten_one_by_one(strangers: Address) -> None:
    for _ in range(MOST):
        strangers.attempt()
    strangers.now += 2 * FORGET
    assert [strangers.attempt() for _ in range(4)] == [True, True, False, False]
    strangers.now += 20 * FORGET
    assert [strangers.attempt() for _ in range(6)] == [True] * MOST + [False] * 2


def test_a_success_takes_a_failure_back_and_shortens_the_pauses(strangers: Address) -> None:
    assert strangers.made(60)[-1] == 63
    strangers.now += 12
    assert strangers.logins.begin(STRANGER) == 4
    strangers.now += 4
    strangers.logins.end(STRANGER, False)
    assert strangers.made(10) == [2, 4, 6, 8, 10]
    for _ in range(5):
        strangers.now += 2
        assert strangers.attempt(has_failed=False)
    assert strangers.attempt(has_failed=False)
    assert strangers.attempt()


def test_one_wrong_client_does_not_keep_the_others_of_its_address_out(strangers: Address) -> None:
    """It tries all the time; the others have logged in from there before."""
    assert strangers.attempt(has_failed=False)
    for _ in range(100):
        strangers.made(20)
        wait = strangers.logins.begin(STRANGER)
        assert wait is not None
        strangers.now += wait
        strangers.logins.end(STRANGER, False)


def test_many_clients_of_an_address_may_log_in_at_the_same_time(strangers: Address) -> None:
    """So they may if few of them have failed."""
    for _ in range(MOST // 2):
        strangers.attempt()
    assert [strangers.logins.begin(STRANGER) for _ in range(500)] == [0] * 500
    for _ in range(500):
        strangers.logins.end(STRANGER, False)
    assert len(strangers.logins) == 0


def test_an_authenticator_without_an_answer_counts_as_nothing(strangers: Address) -> None:
    assert all(strangers.attempt(has_failed=None) for _ in range(100))
    assert len(strangers.logins) == 0


def test_so_many_addresses_are_remembered_and_none_for_long(
    strangers: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_logins, "MOST_ADDRESSES", 10)
    for n in range(30):
        strangers.attempt(address=f"203.0.113.{n}")
        strangers.attempt(False, f"198.51.100.{n}")
    assert (len(strangers.logins), len(strangers.logins._succeeded)) == (10, 10)
    strangers.now += FORGET
    strangers.attempt()
    assert len(strangers.logins) == 1
    assert strangers.logins.begin("203.0.113.29") == 0
    for n in range(30):
        strangers.attempt(address=f"203.0.113.{n + 30}")
    strangers.logins.end("203.0.113.29", True)
    assert len(strangers.logins) == 10
    strangers.now += FORGET
    strangers.attempt()
    assert len(strangers.logins) == 1

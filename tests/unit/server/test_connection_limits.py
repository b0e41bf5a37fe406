"""What is counted for which limit, and how often a refusal is logged."""

import logging

import pytest

from mesa_ws.concurrency.limited_log import LimitedLog
from mesa_ws.server import connection_limits
from mesa_ws.server.connection_limits import ConnectionLimits
from mesa_ws.settings import Limits

PUBLIC = "203.0.113.7"
PER_ADDRESS = "max_unauthenticated_per_address"


def counting(**limits: int | None) -> ConnectionLimits:
    return counting_with(Limits.of(limits))


def counting_with(limits: Limits) -> ConnectionLimits:
    found = ConnectionLimits(limits, LimitedLog(logging.getLogger("mesa_ws.server")))
    found.has_authenticator = True
    return found


def test_connections_in_all_are_counted_from_the_handshake_to_the_end_of_the_socket() -> None:
    limits = counting(max_connections=2)
    for name in ("a", "b"):
        assert limits.reached(None) is None
        limits.opened(name, None)
    assert limits.reached(PUBLIC) == "max_connections"
    limits.logged_in("a")
    assert limits.reached(None) == "max_connections"
    limits.closed("a", None)
    assert limits.reached(None) is None


@pytest.mark.parametrize("is_login", [True, False])
def test_an_address_has_its_place_again_after_a_login_or_an_end(is_login: bool) -> None:
    limits = counting(max_unauthenticated_per_address=2)
    for name in ("a", "b"):
        limits.opened(name, PUBLIC)
    assert (limits.reached(PUBLIC), limits.reached("203.0.113.8")) == (PER_ADDRESS, None)
    if is_login:
        limits.logged_in("a")
    else:
        limits.closed("a", PUBLIC)
    assert limits.reached(PUBLIC) is None
    limits.opened("c", PUBLIC)
    limits.logged_in("a")
    assert limits.reached(PUBLIC) == PER_ADDRESS


def test_a_login_counts_once_and_its_end_frees_no_other_place() -> None:
    limits = counting(max_unauthenticated_per_address=1)
    limits.opened("a", PUBLIC)
    limits.logged_in("a")
    limits.opened("b", PUBLIC)
    limits.logged_in("a")
    limits.closed("a", PUBLIC)
    assert limits.reached(PUBLIC) == PER_ADDRESS


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.7", PUBLIC, True),
        (PUBLIC, "203.0.113.8", False),
        ("::2", "::3", True),
    ],
)
def test_an_ipv6_address_is_its_network_of_64_bits(one: str, other: str, is_same: bool) -> None:
    limits = counting(max_unauthenticated_per_address=1)
    limits.opened("a", one)
    assert limits.reached(other) == (PER_ADDRESS if is_same else None)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "::1", "fd00::1", "fe80::1%eth0", None]
)
def test_proxies_in_private_networks_have_no_limit_unless_asked_for(address: str | None) -> None:
    for networks, limit in ((Limits().exempt_networks, None), (None, PER_ADDRESS if address else None)):
        limits = counting_with(Limits(max_unauthenticated_per_address=1, exempt_networks=networks))
        limits.opened("a", address)
        assert limits.reached(address) == limit


def test_networks_of_a_proxy_are_exempt_where_they_are_named() -> None:
    limits = counting_with(Limits(max_unauthenticated_per_address=1, exempt_networks=("203.0.113.0/24",)))
    for name, address in {"a": PUBLIC, "b": "10.0.0.1"}.items():
        limits.opened(name, address)
    assert (limits.reached(PUBLIC), limits.reached("10.0.0.1")) == (None, PER_ADDRESS)


def test_a_trusted_proxy_that_names_no_client_is_not_exempt() -> None:
    limits = ConnectionLimits(
        Limits(max_unauthenticated_per_address=1), LimitedLog(logging.getLogger()), ["10.0.0.0/24"]
    )
    limits.has_authenticator = True
    for name, address in {"a": "10.0.0.1", "b": "10.0.1.1"}.items():
        limits.opened(name, address)
    assert (limits.reached("10.0.0.1"), limits.reached("10.0.1.1")) == (PER_ADDRESS, None)


def test_without_an_authenticator_or_with_none_addresses_have_no_limit() -> None:
    guests, unlimited = counting(max_unauthenticated_per_address=1), counting(**{PER_ADDRESS: None})
    guests.has_authenticator = False
    for limits in (guests, unlimited):
        limits.opened("a", PUBLIC)
        assert limits.reached(PUBLIC) is None


def test_refusals_are_counted_and_logged_once_a_minute_for_each_limit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = counting(max_connections=5, max_unauthenticated_per_address=3)
    for _ in range(1000):
        limits.refuse("max_connections", PUBLIC)
    limits.refuse(PER_ADDRESS, PUBLIC)
    assert limits.refused == {"max_connections": 1000, PER_ADDRESS: 1}
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.WARNING, f"refused a connection from {PUBLIC}: limits.max_connections is 5"),
        (logging.WARNING, f"refused a connection from {PUBLIC}: limits.{PER_ADDRESS} is 3"),
    ]


def test_an_id_has_room_below_its_limit() -> None:
    assert [counting(max_connections_per_id=2).has_room_for_id(n) for n in range(4)] == [True] * 2 + [
        False
    ] * 2
    assert counting().has_room_for_id(10**6)


def test_an_id_that_is_full_keeps_its_newest_connections_where_it_shall() -> None:
    replacing = counting_with(Limits(max_connections_per_id=2, when_id_is_full="replace"))
    assert [replacing.has_room_for_id(n) for n in (0, 2, 9)] == [True] * 3
    assert [replacing.replaced(list(range(n))) for n in range(5)] == [[], [], [], [0], [0, 1]]
    for others in (counting(max_connections_per_id=2), counting_with(Limits(when_id_is_full="replace"))):
        assert others.replaced([1, 2, 3]) == []


def test_handshakes_of_an_address_are_counted_apart_and_without_an_authenticator_too() -> None:
    limits = counting(max_unauthenticated_per_address=2)
    limits.has_authenticator = False
    limits.opened("a", PUBLIC)
    others = ["127.0.0.1", "203.0.113.8", "127.0.0.1", "127.0.0.1"]
    assert [limits.begin_handshake(PUBLIC) for _ in range(3)] == [None, None, PER_ADDRESS]
    assert [limits.begin_handshake(address) for address in others] == [None] * 4
    assert limits.handshakes == 6
    limits.end_handshake(PUBLIC)
    assert [limits.begin_handshake(PUBLIC) for _ in range(2)] == [None, PER_ADDRESS]
    for address in (PUBLIC, PUBLIC, *others):
        limits.end_handshake(address)
    assert (limits.handshakes, len(limits._handshakes)) == (0, 0)


def test_connections_of_another_service_count_as_those_without_a_login() -> None:
    limits = counting(max_unauthenticated_per_address=2)
    limits.opened("client", PUBLIC)
    assert [limits.admit(name, PUBLIC) for name in ("a", "b")] == [True, False]
    assert (limits.reached(PUBLIC), limits.reached("203.0.113.8")) == (PER_ADDRESS, None)
    assert limits.refused == {PER_ADDRESS: 1}
    for _ in range(2):
        limits.left("a")
    assert (limits.reached(PUBLIC), limits.admit("b", PUBLIC)) == (None, True)
    guests = counting(max_connections=1, max_unauthenticated_per_address=1)
    guests.has_authenticator = False
    guests.opened("client", PUBLIC)
    assert [guests.admit(name, PUBLIC) for name in ("a", "b")] == [True, False], "clients are none there"
    guests.closed("client", PUBLIC)
    guests.left("a")
    assert (len(guests._by_network), len(guests._known), guests.reached(PUBLIC)) == (0, 0, None)


def test_nothing_is_kept_of_addresses_that_have_left() -> None:
    limits = counting()
    for n in range(100):
        limits.opened(n, f"203.0.113.{n}")
    for n in range(100):
        limits.closed(n, f"203.0.113.{n}")
    assert (len(limits._by_network), len(limits._unauthenticated)) == (0, 0)


def test_close_to_the_limit_of_connections_strangers_are_refused_first() -> None:
    limits = counting(max_connections=20, **{PER_ADDRESS: None})
    limits.opened("user", PUBLIC)
    limits.logged_in("user")
    for n in range(16):
        limits.opened(n, f"203.0.113.{100 + n}")
    assert (limits.reached("203.0.113.99"), limits.reached(PUBLIC), limits.reached("127.0.0.1")) == (
        None,
    ) * 3
    limits.opened(17, "203.0.113.117")
    assert (limits.reached("203.0.113.99"), limits.reached("203.0.113.117")) == ("max_connections",) * 2
    assert (limits.reached(PUBLIC), limits.reached("127.0.0.1"), limits.reached(None)) == (None,) * 3
    limits.closed("user", PUBLIC)  # it may come back, and on another connection
    limits.opened("again", PUBLIC)
    assert (limits.reached("203.0.113.99"), limits.reached(PUBLIC)) == ("max_connections", None)
    for name in ("more", "most"):
        limits.opened(name, PUBLIC)
    assert (limits.reached(PUBLIC), limits.reached("127.0.0.1")) == ("max_connections",) * 2


def test_close_to_the_limit_of_handshakes_strangers_are_cut_first() -> None:
    limits = counting(max_handshakes=20, **{PER_ADDRESS: None})
    limits.opened("user", PUBLIC)
    limits.closed("user", PUBLIC)  # it was a stranger until its end
    assert [limits.begin_handshake(PUBLIC) for _ in range(19)] == [None] * 18 + ["max_handshakes"]
    limits.opened("user", PUBLIC)
    limits.logged_in("user")
    assert [limits.begin_handshake(PUBLIC) for _ in range(3)] == [None, None, "max_handshakes"]


def test_without_an_authenticator_no_client_is_a_stranger() -> None:
    limits = counting(max_connections=10, max_handshakes=10)
    limits.has_authenticator = False
    for n in range(9):
        limits.opened(n, PUBLIC)
        assert limits.begin_handshake(PUBLIC) is None
    assert (limits.reached(PUBLIC), limits.begin_handshake(PUBLIC)) == (None, None)


def test_the_last_addresses_that_logged_in_or_left_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "MAX_KNOWN", 3)
    limits = counting()
    for n in range(4):
        limits.opened(n, f"203.0.113.{n}")
        limits.logged_in(n)
    assert list(limits._known) == ["203.0.113.1", "203.0.113.2", "203.0.113.3"]
    limits.closed(1, "203.0.113.1")
    limits.closed(0, "203.0.113.0")
    assert list(limits._known) == ["203.0.113.3", "203.0.113.1", "203.0.113.0"]

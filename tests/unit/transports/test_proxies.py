"""Whose address counts behind proxies, and what clients cannot make it."""

import pytest
from multidict import CIMultiDict

from mesa_ws.transports.proxies import MAX_PROXIES, TrustedProxies

PROXY, PEER = ("10.0.0.1", 5000), ("203.0.113.9", 5000)


def client_of(header: str, *values: str, peer: tuple[str, int] = PROXY) -> tuple[str, int] | None:
    trusted = ["10.0.0.0/8", "2001:db8:aaaa::/48"]
    proxies = TrustedProxies(trusted, header)  # type: ignore[arg-type]
    return proxies.client_of(peer, CIMultiDict((header, value) for value in values))


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("203.0.113.7", ("203.0.113.7", 0)),
        ("203.0.113.7:4711", ("203.0.113.7", 4711)),
        ("2001:DB8::1", ("2001:db8::1", 0)),
        ("[2001:db8::1]", ("2001:db8::1", 0)),
        ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
        ("::ffff:203.0.113.7", ("203.0.113.7", 0)),
        ("6.6.6.6, 203.0.113.7", ("203.0.113.7", 0)),
        ("6.6.6.6,203.0.113.7 ,\t10.0.0.2, [2001:db8:aaaa::9]:1", ("203.0.113.7", 0)),
        ("6.6.6.6, ::ffff:10.0.0.2", ("6.6.6.6", 0)),
        ("10.0.0.4, 10.0.0.3", ("10.0.0.4", 0)),
        ("garbage, 203.0.113.7", ("203.0.113.7", 0)),
    ],
)
def test_the_rightmost_address_that_is_no_trusted_proxy_counts(value: str, client: object) -> None:
    assert client_of("x-forwarded-for", value) == client
    assert client_of("x-forwarded-for", *value.split(",")) == client


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            " ",
            ",",
            "203.0.113.7,",
            "203.0.113.7, unknown",
            "203.0.113.7, _hidden",
            "203.0.113.7, 10.0.0.2,",
        ),
        *("203.0.113", "203.0.113.256", "203.0.113.07", "0x7f.1", "1", "203.0.113.7:", "203.0.113.7:65536"),
        *(
            "203.0.113.7:99999999999",
            "[2001:db8::1",
            "2001:db8::1]",
            "[203.0.113.7]",
            "[2001:db8::1]x",
            "::1::",
        ),
        *(
            "fe80::1%eth0",
            "[fe80::1%eth0]:1",
            "203.0.113.7\x00",
            "\udcfc",
            "٢.1.1.1",
            "for=203.0.113.7",
            '"1.1.1.1"',
        ),
    ],
)
def test_what_is_no_address_counts_for_the_proxy(value: str) -> None:
    assert client_of("x-forwarded-for", value) is None


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=203.0.113.7", ("203.0.113.7", 0)),
        ('For="203.0.113.7:4711"; proto=https;by=203.0.113.43', ("203.0.113.7", 4711)),
        ("proto=http;FOR=203.0.113.7:4711;", ("203.0.113.7", 4711)),
        ('for="[2001:db8::1]:4711"', ("2001:db8::1", 4711)),
        ('for="[2001:db8::1]:_port"', ("2001:db8::1", 0)),
        ('for=6.6.6.6, for=203.0.113.7;by=_me, for="[2001:db8:aaaa::1]"', ("203.0.113.7", 0)),
        ('for=6.6.6.6;x=", for=203.0.113.7', ("203.0.113.7", 0)),  # a quote that swallows what follows
        ('for=6.6.6.6;x=", for="[2001:db8::1]"', ("2001:db8::1", 0)),
        ("for=garbage;;=, for=203.0.113.7", ("203.0.113.7", 0)),
    ],
)
def test_forwarded_is_read_likewise(value: str, client: object) -> None:
    assert client_of("forwarded", value) == client


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "203.0.113.7",
            "for=",
            'for=""',
            "for=unknown",
            "for=_hidden",
            'for="_hidden:1"',
            "by=203.0.113.7",
        ),
        *(
            "for=203.0.113.7;for=6.6.6.6",
            'for="203.0.113.7',
            'for=203.0.113.7"',
            "for=203.0.113.7 x",
            "for = 1.1.1.1",
        ),
        *('for="203.0.113.7\\"', "for=[2001:db8::1", "for=203.0.113.7;proto", "for=203.0.113.7,"),
        # Fields of the client that a proxy repeats, such as Host.
        *('for=203.0.113.7;host="x, for=6.6.6.6"', 'for=203.0.113.7;host="x;for=6.6.6.6"'),
        *('for=203.0.113.7;host="x, for=6.6.6.6;y="', 'for=203.0.113.7;host="x\\", for=\\"6.6.6.6"'),
    ],
)
def test_a_part_of_forwarded_that_is_malformed_counts_for_the_proxy(value: str) -> None:
    assert client_of("forwarded", value) is None


def test_who_is_no_trusted_proxy_names_no_address() -> None:
    for header, value in {"x-forwarded-for": "6.6.6.6", "forwarded": "for=6.6.6.6"}.items():
        assert client_of(header, value, peer=PEER) == PEER
        assert TrustedProxies([], header).client_of(PROXY, CIMultiDict({header: value})) == PROXY  # type: ignore[arg-type]


def test_the_header_that_proxies_do_not_write_is_not_read() -> None:
    headers = CIMultiDict({"Forwarded": "for=6.6.6.6", "X-Forwarded-For": "7.7.7.7"})
    assert TrustedProxies(["10.0.0.0/8"], "x-forwarded-for").client_of(PROXY, headers) == ("7.7.7.7", 0)
    assert TrustedProxies(["10.0.0.0/8"], "forwarded").client_of(PROXY, headers) == ("6.6.6.6", 0)


def test_so_many_proxies_are_looked_through() -> None:
    for proxies, client in ((MAX_PROXIES - 1, ("6.6.6.6", 0)), (MAX_PROXIES, ("6.6.6.6", 0)), (10**4, None)):
        assert client_of("x-forwarded-for", "6.6.6.6," + ",".join(["10.0.0.2"] * proxies)) == client

"""From which sites' pages a browser may open a connection."""

import logging
from collections.abc import Sequence

import pytest
from multidict import CIMultiDict

from mesa_ws.concurrency.limited_log import LimitedLog
from mesa_ws.errors import InvalidSettings
from mesa_ws.server.origins import Origins
from mesa_ws.settings import ServerSettings

LIST = ("https://app.example.com", "https://*.shop.example", "http://localhost:3000", "https://[::1]:8443")
COOKIE = ("Cookie", "session=1")


def refused(*fields: tuple[str, str], allowed: Sequence[str] | None = None) -> bool:
    origins = ServerSettings(allowed_origins=allowed).allowed_origins  # type: ignore[arg-type]
    return Origins(origins, LimitedLog(logging.getLogger("mesa_ws.server"))).refuse(CIMultiDict(fields))


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "https://app.example.com:443",
        "HTTPS://APP.Example.com",
        "https://eu.shop.example",
        "http://localhost:3000",
        "https://[::1]:8443",
    ],
)
def test_an_origin_of_the_list_may_connect(origin: str) -> None:
    assert not refused(("Origin", origin), COOKIE, ("Sec-Fetch-Site", "cross-site"), allowed=LIST)


@pytest.mark.parametrize(
    "origin",
    [
        "http://app.example.com",
        "http://app.example.com:443",
        "https://app.example.com:8443",
        "https://app.example.com.evil.example",
        "https://evil-app.example.com",
        "https://example.com",
        "https://shop.example",
        "https://a.b.shop.example",
        "https://evilshop.example",
        "http://localhost",
        "https://app.example.com/",
        "https://app.example.com@evil.example",
        "null",
        "",
        "*",
    ],
)
def test_another_origin_may_not(origin: str) -> None:
    assert refused(("Origin", origin), allowed=LIST)


def test_two_origins_are_none_of_the_list() -> None:
    assert refused(("Origin", LIST[0]), ("Origin", LIST[0]), allowed=LIST)


def test_programs_name_no_origin_and_may_connect() -> None:
    assert not refused(COOKIE, ("Host", "example.com"), allowed=LIST)
    assert not refused(COOKIE, ("Host", "example.com"))


def test_an_empty_list_refuses_every_page() -> None:
    assert refused(("Origin", "https://app.example.com"), allowed=())


def test_every_site_may_be_allowed() -> None:
    assert not refused(("Origin", "null"), COOKIE, ("Sec-Fetch-Site", "cross-site"), allowed=["*"])


@pytest.mark.parametrize(
    ("origin", "host", "is_refused"),
    [
        ("https://example.com", "example.com", False),
        ("https://example.com:8443", "example.com:4000", False),
        ("https://app.example.com", "example.com", False),
        ("https://example.com", "ws.example.com", False),
        ("https://EXAMPLE.com", "Example.COM", False),
        ("http://127.0.0.1:8000", "127.0.0.1:4000", False),
        ("http://[::1]:8000", "[::1]:4000", False),
        ("https://app.example.com", "ws.example.com", True),
        ("https://evil.example", "example.com", True),
        ("https://notexample.com", "example.com", True),
        ("https://example.com.evil.example", "example.com", True),
        ("null", "example.com", True),
        ("https://evil.example", "[", True),
    ],
)
def test_without_a_list_hosts_decide_about_a_handshake_with_a_cookie(
    origin: str, host: str, is_refused: bool
) -> None:
    assert refused(("Origin", origin), ("Host", host), COOKIE) is is_refused
    assert not refused(("Origin", origin), ("Host", host))


@pytest.mark.parametrize(
    ("said", "is_refused"),
    [("cross-site", True), ("same-site", False), ("same-origin", False), ("none", False)],
)
def test_what_the_browser_says_counts_more_than_hosts(said: str, is_refused: bool) -> None:
    for origin in ("https://example.com", "https://other.example"):
        fields = (("Origin", origin), ("Host", "example.com"), ("Sec-Fetch-Site", said), COOKIE)
        assert refused(*fields) is is_refused


def test_the_setting_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    origins = Origins(None, LimitedLog(logging.getLogger("mesa_ws.server")))
    for _ in range(3):
        origins.refuse(CIMultiDict([("Origin", "https://evil.example"), ("Host", "example.com"), COOKIE]))
    [message] = caplog.messages
    assert "https://evil.example" in message
    assert "allowed_origins" in message


@pytest.mark.parametrize(
    "given", [["app.example.com"], ["https://app.example.com/chat"], ["https://a.*.b"], "x"]
)
def test_what_is_no_origin_is_told(given: object) -> None:
    with pytest.raises(InvalidSettings, match="allowed_origins: expected a list of origins such as"):
        ServerSettings(allowed_origins=given)  # type: ignore[arg-type]

"""The page for users of Socket.IO names existing features of the JavaScript client."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "clients/js/src"
PAGE = (ROOT / "docs/explanation/coming-from.md").read_text()
SECTION = PAGE.split("\n### In the browser\n")[1].split("\n## ")[0]
OURS = "\n".join(row.split("|")[2] for row in SECTION.splitlines() if row.startswith("| "))


def members(source: str, opening: str) -> set[str]:
    """Return the public names of a class or an interface."""
    body = (SOURCES / source).read_text().split(opening)[1].split("\n}")[0]
    found = re.findall(r"^  (?:readonly |get |async )*([a-z]\w+)\??(?:<[^(]*>)?[(:]", body, re.MULTILINE)
    return set(found)


def test_every_method_that_is_named_is_one_of_the_client() -> None:
    named = set(re.findall(r"\bmesa\.(\w+)", OURS))
    assert {"on", "send", "request", "onRequest", "onStateChange", "state", "closed", "user"} <= named
    assert named - members("client.ts", "export class MesaClient") == set()


@pytest.mark.parametrize("name", ["token", "reconnect", "positions", "queueSize"])
def test_every_option_that_is_named_is_one_of_the_client(name: str) -> None:
    assert re.search(rf"\b{name}\b", OURS)
    assert name in members("reconnecting.ts", "export interface Options")


def test_the_numbers_are_those_of_the_client() -> None:
    reconnecting, protocol = (SOURCES / "reconnecting.ts").read_text(), (SOURCES / "protocol.ts").read_text()
    assert "MAX_REFUSALS = 3;" in reconnecting
    assert "three more tries" in OURS
    assert "interval = 25, timeout = 20" in protocol
    assert "WAKE_PATIENCE = 5;" in protocol
    assert "within 45 seconds, and when the page is shown within five" in SECTION
    assert "queueSize = 1000" in reconnecting
    assert {"interval", "maxPause"} <= members("backoff.ts", "export interface Reconnection")

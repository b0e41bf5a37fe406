"""The tables of the options and the faults of 1.x: each row names an existing test."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FEATURES = ROOT / "docs/reference/from-1x.md"
FAULTS = ROOT / "docs/reference/faults-of-1x.md"


def rows(page: Path) -> list[tuple[str, str, str]]:
    """Return the rows of every table on the page: in 1.x, here, and the test."""
    found = []
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] != "there" and not cells[0].startswith("---"):
            there, here, test = cells
            found.append((there, here, test.strip("`")))
    return found


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("there", "here", "test"), [*rows(FEATURES), *rows(FAULTS)])
def test_a_row_names_a_test(there: str, here: str, test: str) -> None:
    file, _, name = test.partition("::")
    assert name in names_in(ROOT / file)


def test_every_option_of_1x_has_a_row() -> None:
    declared = {
        "port", "path", "server", "namespace", "redis", "enforceEqualVersions", "storeMessages", "enabled",
        "redeliveryInterval", "distributeLoad", "interval", "maxAttempts", "timeout", "required",
        "sendUserObject", "disconnectOnFail", "storeConnectedUsers", "beforeExit", "gracefullyExit",
        "verbose", "reportAllEvents", "autoConnect", "shouldSync", "sync", "onConnection", "onDisconnection",
        "onPortalJoin", "onPortalLeave", "onUndeliverableMessageSent", "onRedeliverUndeliverableMessages",
        "onMessageSent", "onMessageReceived", "onAuthenticated", "onError", "mapMiddlewareNamespace",
        "updateUser", "disconnect", "send", "authenticate", "connect", "use", "close", "clients", "messages",
        "isInitialConnection", "willAttemptReconnect", "DISCONNECT_CLIENT", "CLIENT_VERSION",
    }  # fmt: skip
    words = set(re.findall(r"\w+", " ".join(there for there, _, _ in rows(FEATURES))))
    assert declared - words == set()


def test_every_fault_of_1x_has_a_row_and_a_test() -> None:
    """There is one row more than faults: a killed npm server leaves other data than one of ours."""
    assert len(rows(FAULTS)) == 75 + 1
    assert all(test for _, _, test in rows(FAULTS))

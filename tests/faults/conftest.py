"""What fault runs have found goes into the closing report."""

import pytest

REPORTS: pytest.StashKey[list[str]] = pytest.StashKey()
"""What to print at the end, whether it passed or not."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORTS] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[REPORTS]:
        terminalreporter.section("faults")
    for report in config.stash[REPORTS]:
        terminalreporter.line(report)

"""Report of results of tests, printed at the end of the run, whichever process ran them."""

from typing import Any

import pytest

NAME = "closing-report"


class ClosingReport:
    """Sections of lines that are printed before pytest's own summary.

    Args:
        config: that of this process; with pytest-xdist, a worker sends its sections to the controller.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._sections: dict[str, list[str]] = {}

    @classmethod
    def of(cls, config: pytest.Config) -> "ClosingReport":
        """Return the report of this process."""
        found = config.pluginmanager.get_plugin(NAME)
        assert isinstance(found, cls)
        return found

    def add(self, section: str, *lines: str) -> None:
        """Add lines to a section."""
        self._sections.setdefault(section, []).extend(lines)

    def pytest_sessionfinish(self) -> None:
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput[NAME] = self._sections

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        for section, lines in getattr(node, "workeroutput", {}).get(NAME, {}).items():
            self.add(section, *lines)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for section, lines in self._sections.items():
            terminalreporter.section(section)
            for line in lines:
                terminalreporter.line(line)

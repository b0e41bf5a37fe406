"""Coverage: the core counts by unit tests alone, and the programs that tests start do not count."""

import io
from collections.abc import Generator
from importlib import import_module
from pkgutil import walk_packages

import coverage
import pytest
from pytest_cov.plugin import CovPlugin

from tests.closing_report import ClosingReport

MEASURED = ("tests/unit/", "tests/system/")
"""Folders of tests that have to cover the package; coverage by other tests does not count."""

AGAIN = ("[uvloop", "redis-8", "mesa1-8")
"""Parts of names of tests that repeat another test on another event loop or another Redis."""

COUNTED = ["^imports$", "^unit$"]


def context_of(nodeid: str) -> str:
    """Return the coverage context of a test: "unit", "other", or "" for tests that run unmeasured."""
    if not nodeid.startswith(MEASURED) or any(part in nodeid for part in AGAIN):
        return ""
    return "unit" if nodeid.startswith("tests/unit/") else "other"


class CoreGate:
    """Separates the coverage by unit tests, and fails a run whose unit tests miss part of the core.

    Args:
        settings: a configuration file of coverage with the core's modules and the required percentage.
    """

    def __init__(self, config: pytest.Config, settings: str) -> None:
        self._config = config
        self._settings = settings
        self._context = ""

    def pytest_collection(self) -> None:
        """Import the whole package under measurement, then pause until tests run."""
        if self._runs_tests:
            self._plugin.cov_controller.cov.switch_context("imports")
            import mesa_ws

            for module in walk_packages(mesa_ws.__path__, "mesa_ws."):
                if not module.name.endswith("__main__"):
                    import_module(module.name)
        self._plugin.cov_controller.pause()
        if forgotten := coverage.Coverage.current():
            forgotten.stop()  # pytest-cov starts one before that of a worker, and would trace all tests

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Measure a test from the setup of its fixtures to the start of the next test."""
        controller, context = self._plugin.cov_controller, context_of(nodeid)
        if context == self._context or not self._runs_tests:
            return
        if not context:
            controller.pause()
        elif not self._context:
            controller.resume()
        if context:
            controller.cov.switch_context(context)
        self._context = context

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        result = yield
        if not hasattr(self._config, "workerinput"):
            self._judge(session)
        return result

    def _judge(self, session: pytest.Session) -> None:
        measured = self._plugin.cov_controller.cov.config.data_file
        core = coverage.Coverage(data_file=measured, config_file=self._settings)
        core.load()
        table = io.StringIO()
        total, needed = core.report(file=table, contexts=COUNTED), core.get_option("report:fail_under")
        assert isinstance(needed, float)
        lines = [*table.getvalue().splitlines(), f"Required: {needed:g} %. Covered: {total:.2f} %"]
        ClosingReport.of(self._config).add("what unit tests cover of the core", *lines)
        session.testsfailed += total < needed

    @property
    def _runs_tests(self) -> bool:
        """Return whether this process runs tests, unlike the controller of pytest-xdist."""
        return hasattr(self._config, "workerinput") or not self._config.option.numprocesses

    @property
    def _plugin(self) -> CovPlugin:
        plugin: CovPlugin = self._config.pluginmanager.getplugin("_cov")
        return plugin

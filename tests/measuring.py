"""What coverage counts: the core by unit tests alone, and nothing of the programs that tests start."""

import io
from collections.abc import Generator
from importlib import import_module
from pkgutil import walk_packages

import coverage
import pytest
from pytest_cov.plugin import CovPlugin

from tests.closing_report import ClosingReport

MEASURED = ("tests/unit/", "tests/system/")
"""Whose tests have to cover the package; what others cover besides does not count."""

AGAIN = ("[uvloop", "redis-8", "mesa1-8")
"""In the names of tests that take the ways of another test, on another event loop or another Redis."""

COUNTED = ["^imports$", "^unit$"]


def context_of(nodeid: str) -> str:
    """Say as what a test is measured: "unit", "other", or "" for what takes half as long without."""
    if not nodeid.startswith(MEASURED) or any(part in nodeid for part in AGAIN):
        return ""
    return "unit" if nodeid.startswith("tests/unit/") else "other"


class CoreGate:
    """Tells what unit tests cover from the rest, and fails a run whose unit tests miss part of the core.

    Args:
        settings: a file for coverage that says what the core is, and how much has to be covered.
    """

    def __init__(self, config: pytest.Config, settings: str) -> None:
        self._config = config
        self._settings = settings
        self._context = ""

    def pytest_collection(self) -> None:
        """Import the whole package, and measure nothing else until tests run."""
        if self._runs_tests:
            self._plugin.cov_controller.cov.switch_context("imports")
            import mesa_ws

            for module in walk_packages(mesa_ws.__path__, "mesa_ws."):
                if not module.name.endswith("__main__"):
                    import_module(module.name)
        self._plugin.cov_controller.pause()
        if forgotten := coverage.Coverage.current():
            forgotten.stop()  # pytest-cov starts one before that of a worker, and all tests would be traced

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Measure a test from before its fixtures to the beginning of the next one."""
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
        """Whether this is not the process that gives tests to others."""
        return hasattr(self._config, "workerinput") or not self._config.option.numprocesses

    @property
    def _plugin(self) -> CovPlugin:
        plugin: CovPlugin = self._config.pluginmanager.getplugin("_cov")
        return plugin

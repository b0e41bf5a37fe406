"""What coverage counts: the core by unit tests alone, and no programs that are judged by their work."""

import io
from collections.abc import Generator, Iterator
from importlib import import_module
from pkgutil import walk_packages

import coverage
import pytest
from pytest_cov.plugin import CovPlugin

from tests.closing_report import ClosingReport

UNMEASURED = ("tests/faults/", "tests/examples/", "tests/interop/", "tests/system/test_bench.py")
"""Where the programs that tests start run at their own speed: measured, they take twice as long."""

UNTRACED = "tests/faults/"
"""Where this process is not measured either."""

AGAIN = ("[uvloop", "redis-8", "mesa1-8")
"""In the names of tests that take the ways of another test, on another event loop or another Redis."""

COUNTED = ["^imports$", "^unit$"]


def is_measured(nodeid: str) -> bool:
    """Whether coverage looks on while this test runs; measured, a test takes half as long again."""
    return not nodeid.startswith(UNTRACED) and not any(part in nodeid for part in AGAIN)


def start_unmeasured() -> Iterator[None]:
    """Start programs without coverage, which they would find in their environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


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
        controller, is_worker = self._plugin.cov_controller, hasattr(self._config, "workerinput")
        if self._config.option.numprocesses and not is_worker:
            return
        controller.cov.switch_context("imports")
        import mesa_ws

        for module in walk_packages(mesa_ws.__path__, "mesa_ws."):
            if not module.name.endswith("__main__"):
                import_module(module.name)
        controller.pause()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        controller = self._plugin.cov_controller
        context = "unit" if nodeid.startswith("tests/unit/") else "other"
        if not self._context:
            controller.resume()
        if context != self._context:
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
    def _plugin(self) -> CovPlugin:
        plugin: CovPlugin = self._config.pluginmanager.getplugin("_cov")
        return plugin

"""The page about tests: its programs pass, and fail where a dispatch is lost, doubled or late."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mesa_ws import testing
from mesa_ws.testing import plugin

LIMIT = 120
"""Seconds that the tests of an example may take; on an idle machine they take two."""

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/howto/testing.md"
REFERENCE = ROOT / "docs/reference/testing.md"
PYTEST = "-m", "pytest", "-q", "-x", "-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider"

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "fastapi_app": PYTEST,
    "celery_tasks": PYTEST,
    "chat": PYTEST,
    "django_project": ("manage.py", "test", "--failfast"),
}
"""The examples that are tested, with the arguments of Python that run their tests."""

MUTANTS = [
    ("fastapi_app", "api.py", "dispatcher.dispatch(message, note.to,", "dispatcher.dispatch(message, [],"),
    (
        "fastapi_app",
        "api.py",
        "    receipt = await",
        "    await dispatcher.dispatch(message, note.to)\n        receipt = await",
    ),
    ("fastapi_app", "api.py", 'idempotency_key=f"{caller}-{number}"', "idempotency_key=None"),
    ("celery_tasks", "tasks.py", '("packed", "handed over", "shipped")', '("packed", "shipped")'),
    (
        "celery_tasks",
        "tasks.py",
        '("packed", "handed over", "shipped")',
        '("packed", "shipped", "handed over")',
    ),
    (
        "celery_tasks",
        "tasks.py",
        "step=status)",
        'step=status)\n        self.dispatch(message, [owner], step="")',
    ),
    ("chat", "worker.py", "    dispatcher.dispatch(said,", "    (said,"),
    (
        "chat",
        "worker.py",
        "    dispatcher.dispatch(said,",
        "    for _ in range(2):\n        dispatcher.dispatch(said,",
    ),
    (
        "chat",
        "worker.py",
        "    dispatcher.dispatch(said, rooms.members(room))",
        "    late.append((said, rooms.members(room)))\n"
        "    for each in reversed(late if len(late) > 1 else []):\n"
        "        dispatcher.dispatch(*each)\n\n\n"
        "late: list = []",
    ),
    ("django_project", "orders/views.py", "realtime.tell_on_commit(", "("),
    (
        "django_project",
        "orders/views.py",
        "            realtime.tell_on_commit(",
        "            realtime.tell_on_commit(order, 'again')\n            realtime.tell_on_commit(",
    ),
    ("django_project", "orders/tasks.py", '("packed", "handed over",', '("handed over", "packed",'),
]
"""Dispatches of examples that are dropped, doubled, or out of order: the file, its text, and another text."""


def start(folder: Path, arguments: tuple[str, ...]) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SECRET_KEY": "a-secret-of-thirty-two-characters",
        "DATABASE": str(folder / "test.db"),
    }
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def outcome(process: subprocess.Popen[str]) -> tuple[bool, str]:
    """Whether tests that were run have failed, and what they wrote."""
    try:
        text, _ = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert re.search(r"\d+ (passed|failed)|Ran \d+ tests?", text), text
    return process.returncode != 0, text


def copy(example: str, to: Path) -> Path:
    return Path(
        shutil.copytree(ROOT / "examples" / example, to, ignore=shutil.ignore_patterns("__pycache__"))
    )


@pytest.mark.timeout(2 * LIMIT)
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_tests_of_an_example_pass_and_catch_each_mutant(example: str, tmp_path: Path) -> None:
    has_failed, text = outcome(start(copy(example, tmp_path / "whole"), EXAMPLES[example]))
    assert not has_failed, text
    mutants = [mutant[1:] for mutant in MUTANTS if mutant[0] == example]
    assert len(mutants) == 3
    running = []
    for number, (file, before, after) in enumerate(mutants):
        folder = copy(example, tmp_path / str(number))
        source = (folder / file).read_text()
        assert source.count(before) == 1, (file, before)
        (folder / file).write_text(source.replace(before, after))
        running.append(start(folder, EXAMPLES[example]))
    outcomes = [outcome(each) for each in running]
    assert [has_failed for has_failed, _ in outcomes] == [True] * 3, "\n".join(text for _, text in outcomes)
    assert [text for _, text in outcomes if "Error" in text and "AssertionError" not in text] == []


def test_the_other_programs_of_the_page_pass(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    conftest, *tests = [block for block in blocks if not block.startswith('"""')]
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_page.py").write_text("\n".join(tests))
    asyncio = (
        "-p",
        "pytest_asyncio.plugin",
        "-o",
        "asyncio_mode=auto",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        "-W",
        "error",
    )
    has_failed, text = outcome(start(tmp_path, (*PYTEST, *asyncio)))
    assert not has_failed, text
    assert f"{len(re.findall('def test_', ' '.join(tests)))} passed" in text


def test_the_reference_has_every_name_and_fixture() -> None:
    text = REFERENCE.read_text()
    assert set(re.findall(r"^::: mesa_ws\.testing\.(\w+)$", text, re.MULTILINE)) == set(testing.__all__)
    fixtures = [
        f"| `{node.name}` | {ast.get_docstring(node)} |"
        for node in ast.parse(Path(plugin.__file__).read_text()).body
        if isinstance(node, ast.FunctionDef) and node.decorator_list
    ]
    assert len(fixtures) == 3
    assert re.findall(r"^\| `\w+` \|.*", text, re.MULTILINE) == fixtures


@pytest.mark.parametrize("name", testing.__all__)
def test_a_name_of_the_package_has_a_docstring(name: str) -> None:
    assert getattr(testing, name).__doc__.partition("\n")[0].endswith(".")

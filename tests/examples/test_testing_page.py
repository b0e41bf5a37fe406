"""The page about tests: its programs pass, and fail where a dispatch is lost, doubled or late."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent

import pytest

from mesa_ws import testing
from mesa_ws.testing import plugin

LIMIT = 120
"""Seconds that the tests of an example may take; on an idle machine they take two."""

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/howto/testing.md"
REFERENCE = ROOT / "docs/reference/testing.md"
ARGUMENTS = "-q", "-x", "-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider"
PYTEST = f"import pytest; sys.exit(pytest.main({[*ARGUMENTS]!r}))"
DJANGO = """
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
execute_from_command_line(["manage.py", "test", "--failfast"])
"""

EXAMPLES: Mapping[str, tuple[str, str]] = {
    "fastapi_app": ("pytest, fastapi.testclient, jwt, mesa_ws.contrib.fastapi, mesa_ws.testing", PYTEST),
    "flask_app": ("pytest, flask, mesa_ws.contrib.flask, mesa_ws.testing", PYTEST),
    "celery_tasks": ("pytest, mesa_ws.contrib.celery, mesa_ws.testing", PYTEST),
    "chat": ("pytest, mesa_ws.testing", PYTEST),
    "django_project": ("django.test.runner, mesa_ws.contrib.celery, mesa_ws.testing", DJANGO),
}
"""The examples that are tested: the modules that they import, and the code that runs their tests."""

RUNNER = """
import os, sys
import {modules}
for folder in sys.argv[1:]:
    if not os.fork():
        os.chdir(folder)
        sys.path.insert(0, folder)
        os.environ["DATABASE"] = os.path.join(folder, "test.db")
        written = os.open("written", os.O_WRONLY | os.O_CREAT)
        os.dup2(written, 1)
        os.dup2(written, 2)
{code}
        sys.exit(0)
    _, status = os.wait()
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
"""Runs the same tests in one folder after another, and imports what they need once."""

MUTANTS = [
    ("fastapi_app", "api.py", "dispatcher.dispatch(message, note.to,", "dispatcher.dispatch(message, [],"),
    (
        "fastapi_app",
        "api.py",
        "    receipt = await",
        "    await dispatcher.dispatch(message, note.to)\n        receipt = await",
    ),
    ("fastapi_app", "api.py", 'idempotency_key=f"{caller}-{number}"', "idempotency_key=None"),
    (
        "flask_app",
        "shop.py",
        "mesa.dispatcher.dispatch(message, [owner],",
        "mesa.dispatcher.dispatch(message, [],",
    ),
    (
        "flask_app",
        "shop.py",
        "            receipt = ",
        "            mesa.dispatcher.dispatch(message, [owner])\n            receipt = ",
    ),
    ("flask_app", "shop.py", 'idempotency_key=f"{number}-shipped"', "idempotency_key=None"),
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


def run(modules: str, code: str, *folders: Path) -> list[tuple[bool, str]]:
    """Return for each folder whether its tests have failed, and what they wrote."""
    environment = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SECRET_KEY": "a-secret-of-thirty-two-characters",
    }
    runner = RUNNER.format(modules=modules, code=indent(code, " " * 8))
    done = subprocess.run(
        [sys.executable, "-c", runner, *map(str, folders)],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    texts = [(folder / "written").read_text() for folder in folders]
    assert [text for text in texts if not re.search(r"\d+ (passed|failed)|Ran \d+ tests?", text)] == []
    return [(code != "0", text) for code, text in zip(done.stdout.split(), texts, strict=True)]


def copy(example: str, to: Path) -> Path:
    return Path(
        shutil.copytree(ROOT / "examples" / example, to, ignore=shutil.ignore_patterns("__pycache__"))
    )


@pytest.mark.timeout(2 * LIMIT)
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_tests_of_an_example_pass_and_catch_each_mutant(example: str, tmp_path: Path) -> None:
    folders = [copy(example, tmp_path / "whole")]
    mutants = [mutant[1:] for mutant in MUTANTS if mutant[0] == example]
    for number, (file, before, after) in enumerate(mutants):
        folder = copy(example, tmp_path / str(number))
        source = (folder / file).read_text()
        assert source.count(before) == 1, (file, before)
        (folder / file).write_text(source.replace(before, after))
        folders.append(folder)
    outcomes = run(*EXAMPLES[example], *folders)
    failed, texts = zip(*outcomes, strict=True)
    assert failed == (False, True, True, True), "\n".join(texts)
    assert [text for text in texts[1:] if "AssertionError" not in text] == []


def test_the_other_programs_of_the_page_pass(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    conftest, *tests = [block for block in blocks if not block.startswith('"""')]
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_page.py").write_text("\n".join(tests))
    settings = "asyncio_mode=auto", "asyncio_default_fixture_loop_scope=function", "filterwarnings=error"
    asyncio = ["-p", "pytest_asyncio.plugin", *(part for each in settings for part in ("-o", each))]
    code = f"import pytest; sys.exit(pytest.main({[*ARGUMENTS, *asyncio]!r}))"
    [(has_failed, text)] = run("pytest, mesa_ws.testing", code, tmp_path)
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

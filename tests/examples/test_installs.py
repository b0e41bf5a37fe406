"""Every `pip install` of every page, in a clean environment, and the imports after it.

A line counts for the Python below its own heading. A line before the first heading, or the plain
`pip install mesa-ws`, counts for Python without a line.
"""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from email import message_from_string
from email.message import Message
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple
from zipfile import ZipFile

import pytest

from tests.wheel import LIMIT, build_wheel, uv

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = {path.read_text(): path for path in sorted((ROOT / "examples").rglob("*.py"))}
OURS = {
    part for path in PROGRAMS.values() for part in path.relative_to(ROOT / "examples").with_suffix("").parts
}
"""Modules of the examples."""

DJANGO = ROOT / "examples" / "django_project"
"""An example that is imported as a whole, after its settings."""

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^## .*$", re.MULTILINE)
INSTALL = re.compile(r"(?:^ *\$ |^ *|`)(pip install [^`\n#]*)", re.MULTILINE)
PLAIN = "pip install mesa-ws"


class Use(NamedTuple):
    """Code that has to work in an environment: an imported program, or the imports of a fragment."""

    page: str
    line: str
    code: str
    folder: Path


def _sections(text: str) -> Iterator[str]:
    """Return the sections of a page; a `#` in a code block is no heading."""
    masked = FENCE.sub(lambda found: re.sub(r"[^\n]", "x", found[0]), text)
    cuts = [0, *(found.start() for found in HEADING.finditer(masked)), len(text)]
    return (text[start:end] for start, end in pairwise(cuts))


def _lines(section: str) -> list[str]:
    return [" ".join(found.split()) for found in INSTALL.findall(section)]


def _imports(code: str) -> list[str]:
    """Return the imports of a fragment, without those of modules of the examples."""
    tree = compile(code, "page", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [ast.unparse(node) for alias in node.names if alias.name.split(".")[0] not in OURS]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found += [ast.unparse(node)] if (node.module or "").split(".")[0] not in OURS else []
    return found


def _is_in(folder: Path, program: Path | None) -> bool:
    return program is not None and folder in program.parents


def _uses() -> Iterator[Use]:
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        first, *others = _sections(page.read_text())
        default = (_lines(first) or [PLAIN])[0]
        for section in (first, *others):
            line = (_lines(section) or [default])[0]
            for _, language, code in FENCE.findall(section):
                program = PROGRAMS.get(code)
                if program is not None and not _is_in(DJANGO, program) and "__main__" in code:
                    yield Use(name, line, f"import runpy; runpy.run_path({str(program)!r})", program.parent)
                elif language == "python" and name != PROJECT.page and not _is_in(DJANGO, program):
                    yield Use(name, line, "\n".join(_imports(dedent(code))), ROOT)


PROJECT = Use(
    "docs/howto/django.md",
    next(iter(_lines((ROOT / "docs/howto/django.md").read_text())), PLAIN),
    "import django; from shop.celery import app; django.setup(); app.loader.import_default_modules(); "
    "import orders.views, orders.management.commands.portal; "
    "import mesa_ws.contrib.django.management.commands.runmesa; "
    "app.connection_for_write().transport",
    DJANGO,
)
"""Imports of the whole project, and those that Celery makes when it first uses Redis."""

USES = [use for use in (*_uses(), PROJECT) if use.code]
LINES = sorted({line for page in PAGES for line in _lines(page.read_text())} | {use.line for use in USES})

EVERYTHING = "import mesa_ws; [getattr(mesa_ws, name) for name in mesa_ws.__all__]"

IMPORTER = """
import json, sys

for page, code, folder in json.loads(sys.argv[1]):
    before, sys.path[0] = set(sys.modules), folder
    try:
        exec(code, {"__name__": "page"})
    except Exception as error:
        print(f"{page}: {code!r}: {error!r}")
    for name in set(sys.modules) - before:  # programs of other folders have modules of the same names
        if str(getattr(sys.modules[name], "__file__", None)).startswith(folder):
            del sys.modules[name]
"""

Python = Callable[[str], Path]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Python:
    """Return the Python of a clean environment after a line, which replaces the previous one."""
    directory = tmp_path_factory.mktemp("installed") / "environment"

    def install(line: str) -> Path:
        uv("venv", "--clear", "--python", sys.executable, str(directory))
        python = directory / "bin" / "python"
        uv("pip", "install", "--python", str(python), *_wanted(line, wheel))
        return python

    return install


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder for bytecode, which the environments share."""
    return str(tmp_path_factory.mktemp("compiled"))


def _wanted(line: str, wheel: Path) -> list[str]:
    """Return the requirements of a line, with our wheel in place of the package's name."""
    _, _, *names = shlex.split(line)
    ours = re.compile(r"mesa-ws(\[[\w,]+\])?")
    assert any(ours.fullmatch(name) for name in names), f"{line}: expected mesa-ws in it"
    return [
        f"mesa-ws{found[1] or ''} @ {wheel.as_uri()}" if (found := ours.fullmatch(name)) else name
        for name in names
    ]


@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize("line", LINES)
def test_a_line_installs_what_its_page_then_imports(
    installed: Python, compiled: str, line: str, tmp_path: Path
) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"SECRET": "s", "SECRET_KEY": "s", "MESA_API_KEY": "k" * 16}
    uses = [["mesa_ws", EVERYTHING, str(ROOT)]]
    uses += [[use.page, use.code, str(use.folder)] for use in USES if use.line == line]
    done = subprocess.run(
        [installed(line), "-X", f"pycache_prefix={compiled}", "-c", IMPORTER, json.dumps(uses)],
        check=False,
        cwd=tmp_path,
        env=environment | {"DJANGO_SETTINGS_MODULE": "shop.settings"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_lines_and_what_follows_them_are_found() -> None:
    assert PLAIN in LINES
    assert {"docs/howto/django.md", "docs/howto/fastapi.md", "docs/tutorial/chat.md"} <= {
        use.page for use in USES
    }


def _metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        [name] = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        return message_from_string(archive.read(name).decode())


RELATIVE = re.compile(r"\]\((?!https://)[^)]*\)")


def test_the_readme_of_the_wheel_has_no_link_that_only_a_repository_can_follow(wheel: Path) -> None:
    description = str(_metadata(wheel).get_payload())
    assert "What exactly is promised" in description
    assert "A page with two users" not in description  # a picture without an address
    assert RELATIVE.findall(description) == []


def test_with_an_address_of_the_project_its_links_lead_there(tmp_path: Path) -> None:
    for name in ("src", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    project = re.sub(r"(?m)^\[project\.urls\]\n[^\[]*", "", (ROOT / "pyproject.toml").read_text())
    addressed = '[project.urls]\nSource = "https://code.example/mesa-ws"\n\n[project.scripts]'
    (tmp_path / "pyproject.toml").write_text(project.replace("[project.scripts]", addressed))
    uv("build", "--wheel", "--out-dir", str(tmp_path / "dist"), str(tmp_path))
    [wheel] = (tmp_path / "dist").glob("*.whl")
    metadata = _metadata(wheel)
    assert metadata.get_all("Project-URL") == ["Source, https://code.example/mesa-ws"]
    description = str(metadata.get_payload())
    assert RELATIVE.findall(description) == []
    links = re.findall(r"\]\(https://code\.example/mesa-ws/blob/main/([^)]+)\)", description)
    assert "docs/explanation/delivery.md" in links
    assert "![A page with two users" in description
    assert "](https://code.example/mesa-ws/raw/main/docs/images/demo.png)" in description
    assert [link for link in links if not (ROOT / link).exists()] == []

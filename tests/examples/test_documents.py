"""Statements of the documentation about code are true."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from mesa_ws.backend.http.problems import ERROR_FORMS, INTERNAL_ERROR, OVERLOADED, TOO_SLOW
from mesa_ws.close import CLOSE_TABLE
from mesa_ws.http_server import routes as routes_module

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
SWITCHED = re.compile(r"\b(?:(?:Portals|Heartbeat|Reconnect)\([a-z]|(?:portals|heartbeat)=\{)[^)}]*")
LINK = re.compile(r"\[[^\]]+\]\(([^)#:]+?)(?:#[^)]*)?\)")


def python_blocks() -> list[tuple[str, str]]:
    return [
        (page.relative_to(ROOT).as_posix(), re.sub(f"^{indent}", "", code, flags=re.MULTILINE))
        for page in PAGES
        for indent, code in BLOCK.findall(page.read_text())
        if "--8<--" not in code
    ]


@pytest.mark.parametrize(("page", "code"), python_blocks())
def test_python_in_the_documentation_parses_and_its_imports_exist(page: str, code: str) -> None:
    tree = compile(code, page, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mesa_ws"):
            module = importlib.import_module(node.module or "")
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


@pytest.mark.parametrize(
    ("page", "program"),
    [
        ("tutorial/first-dispatch.md", "quickstart/server.py"),
        ("tutorial/first-dispatch.md", "quickstart/client.py"),
        ("tutorial/first-dispatch.md", "quickstart/notify.py"),
        ("tutorial/chat.md", "chat/server.py"),
        ("tutorial/chat.md", "chat/rooms.py"),
        ("tutorial/chat.md", "chat/worker.py"),
        ("tutorial/chat.md", "chat/client.py"),
        ("tutorial/chat.md", "chat/api.py"),
        ("howto/server.md", "own_loop/server.py"),
        ("howto/client.md", "missed_messages/client.py"),
        ("howto/middleware.md", "error_reporting/middleware.py"),
        ("howto/message-sync.md", "missed_messages/notify.py"),
        ("howto/django.md", "django_project/orders/realtime.py"),
        ("howto/django.md", "django_project/orders/tasks.py"),
        ("howto/django.md", "django_project/orders/management/commands/portal.py"),
        ("howto/flask.md", "flask_app/shop.py"),
        ("howto/celery.md", "celery_tasks/tasks.py"),
        ("howto/fastapi.md", "fastapi_app/tokens.py"),
        ("howto/fastapi.md", "fastapi_app/callers.py"),
        ("howto/fastapi.md", "fastapi_app/api.py"),
        ("howto/fastapi.md", "fastapi_app/realtime.py"),
        ("howto/fastapi.md", "fastapi_app/together.py"),
        ("howto/testing.md", "fastapi_app/conftest.py"),
        ("howto/testing.md", "fastapi_app/test_api.py"),
        ("howto/testing.md", "django_project/orders/tests.py"),
        ("howto/testing.md", "celery_tasks/test_tasks.py"),
        ("howto/testing.md", "flask_app/test_shop.py"),
        ("howto/testing.md", "chat/conftest.py"),
        ("howto/testing.md", "chat/test_worker.py"),
        ("howto/dispatch-on-commit.md", "on_commit/with_django.py"),
        ("howto/dispatch-on-commit.md", "on_commit/with_sqlalchemy.py"),
        ("howto/dispatch-on-commit.md", "on_commit/with_celery.py"),
        ("howto/dispatch-on-commit.md", "outbox_table/tables.py"),
        ("howto/dispatch-on-commit.md", "outbox_table/worker.py"),
        ("howto/dispatch-on-commit.md", "outbox_table/async_worker.py"),
    ],
)
def test_a_page_shows_the_program_that_is_tested(page: str, program: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    assert f"```python\n{(ROOT / 'examples' / program).read_text()}```" in text


def test_there_is_python_in_the_documentation() -> None:
    assert len(python_blocks()) > 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_has_to_be_turned_on_is_turned_on_where_it_is_shown(page: Path) -> None:
    """Groups of settings that need `enabled`."""
    shown = SWITCHED.findall(page.read_text())
    assert [text for text in shown if "enabled" not in text] == []


def test_the_close_code_page_is_the_table() -> None:
    page = (ROOT / "docs/reference/close-codes.md").read_text()
    rows = [line for line in page.splitlines() if re.match(r"\| \d", line)]
    assert rows == [
        f"| {int(code)} | {code.name} | {'yes' if rule.may_reconnect else 'no'} | {rule.meaning} |"
        for code, rule in CLOSE_TABLE.items()
    ]


def test_the_errors_of_the_http_api_are_those_on_its_page() -> None:
    page = (ROOT / "docs/reference/http-api.md").read_text()
    routes = Path(routes_module.__file__).read_text()
    raised = re.findall(r'_RequestRefused\(\s*(\d+),\s*"(\w+)"', routes)
    told = {(str(form.status), form.code) for form in ERROR_FORMS} | set(raised)
    told |= {("408", TOO_SLOW), ("500", INTERNAL_ERROR), ("503", OVERLOADED)}
    assert set(re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.MULTILINE)) == told


def test_nothing_on_a_page_needs_a_build_to_be_read() -> None:
    """Users read pages also in the repository, and the wire in `spec/`."""
    built = [page.name for page in PAGES if re.search(r'^--8<--|^=== "', page.read_text(), re.MULTILINE)]
    assert built == ["wire-protocol.md"]


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert set(re.findall(r"[\w/-]+\.md", nav)) == pages

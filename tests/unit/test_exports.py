"""The public names, and the errors."""

import inspect
import re
from pathlib import Path

import pytest

import mesa_ws
from mesa_ws import errors
from mesa_ws.errors import MesaError

DOCUMENTED = Path(__file__).parents[2] / "docs" / "reference" / "api.md"
PUBLIC = sorted(set(mesa_ws.__all__) - {"__version__"})
ERRORS = sorted(name for name, value in vars(errors).items() if inspect.isclass(value))


def table() -> str:
    """The public names with the first line of their docstrings, as the reference has them at its top."""
    rows = []
    for name in PUBLIC:
        first, _, _ = (inspect.getdoc(getattr(mesa_ws, name)) or "").partition("\n")
        rows.append(f"| `{name}` | {first} |")
    return "\n".join(["| name | what it is |", "|---|---|", *rows])


def members(name: str) -> set[str]:
    """The members of a class that the reference lists."""
    found = re.search(
        rf"^::: mesa_ws\.{name}\n    options:\n      members:\n((?: {{8}}- \w+\n)+)",
        DOCUMENTED.read_text(),
        re.MULTILINE,
    )
    assert found
    return set(re.findall(r"- (\w+)", found[1]))


def drawn() -> dict[str, str | None]:
    """Each error of the tree in the docstring of `errors`, with the one above it."""
    above: list[tuple[int, str]] = []
    tree: dict[str, str | None] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^( {4}[ │├└─]*)([A-Z]\w+)(?:$| )", line)
        if match:
            depth, name = len(match[1]), match[2]
            above = [(d, parent) for d, parent in above if d < depth]
            tree[name] = above[-1][1] if above else None
            above.append((depth, name))
    return tree


def test_the_public_names_are_sorted_and_unique() -> None:
    assert mesa_ws.__all__ == sorted(set(mesa_ws.__all__))


@pytest.mark.parametrize("name", mesa_ws.__all__)
def test_a_public_name_can_be_imported(name: str) -> None:
    assert hasattr(mesa_ws, name)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_a_docstring_of_its_own(name: str) -> None:
    value = getattr(mesa_ws, name)
    assert value.__doc__
    assert not value.__doc__.startswith(f"{name}("), "dataclasses and tuples write one by themselves"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_method_has_a_docstring(name: str) -> None:
    value = getattr(mesa_ws, name)
    members = inspect.getmembers(value, inspect.isfunction) if inspect.isclass(value) else []
    ours = {n: m for n, m in members if m.__module__.startswith("mesa_ws") and not n.startswith("_")}
    assert [n for n, member in ours.items() if not inspect.getdoc(member)] == []


def test_what_is_public_is_what_the_reference_documents() -> None:
    text = DOCUMENTED.read_text()
    named = set(re.findall(r"^::: mesa_ws\.(\w+)$", text, re.MULTILINE))
    of_errors = set(ERRORS) if "errors" in named else set()
    assert (named - {"errors"}) | of_errors == set(PUBLIC)


def test_the_reference_begins_with_a_table_of_the_public_names() -> None:
    made = table()
    assert made in DOCUMENTED.read_text(), "write it by: python -m tests.unit.test_exports"


def test_a_server_lists_what_its_application_may_use() -> None:
    class Shop(mesa_ws.Server):
        orders = 0

    shop = Shop()
    shop.note = "x"  # type: ignore[attr-defined]
    listed = {name for name in dir(mesa_ws.Server) if not name.startswith("_")}
    assert listed == members("Server")
    assert {name for name in dir(Shop) if not name.startswith("_")} == listed | {"orders"}
    assert {"send", "orders", "note"} <= set(dir(shop))
    assert "came_online" not in dir(shop)


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_public(name: str) -> None:
    assert getattr(mesa_ws, name) is getattr(errors, name)


def test_the_drawn_tree_of_errors_is_the_real_one() -> None:
    bases = {name: getattr(errors, name).__bases__[0].__name__ for name in ERRORS}
    assert drawn() == bases | {"MesaError": None}


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_can_be_caught_as_one_of_ours(name: str) -> None:
    assert issubclass(getattr(errors, name), MesaError)


if __name__ == "__main__":
    page = DOCUMENTED.read_text()
    DOCUMENTED.write_text(re.sub(r"\| name \|.*?\n(?=\n)", lambda _: f"{table()}\n", page, flags=re.DOTALL))

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


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_public(name: str) -> None:
    assert getattr(mesa_ws, name) is getattr(errors, name)


def test_the_drawn_tree_of_errors_is_the_real_one() -> None:
    bases = {name: getattr(errors, name).__bases__[0].__name__ for name in ERRORS}
    assert drawn() == bases | {"MesaError": None}


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_can_be_caught_as_one_of_ours(name: str) -> None:
    assert issubclass(getattr(errors, name), MesaError)

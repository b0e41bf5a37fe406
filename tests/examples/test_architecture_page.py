"""The page about the architecture, and its pictures, show the code as it is."""

import re
from pathlib import Path

import pytest

from tests import pictures, roads
from tests.unit.test_layers import LAYERS

ATTEMPTS = 3
"""Attempts before a road counts as changed, as a heartbeat may interfere."""


async def test_the_page_lists_the_modules_of_each_road_in_order(redis_url: str, namespace: str) -> None:
    on_page = roads.roads_on_page()
    assert set(on_page) == set(roads.ROADS)
    for attempt in range(ATTEMPTS):
        taken = roads.listed(await roads.record(redis_url, f"{namespace}-{attempt}"))
        if taken == on_page:
            break
    assert taken == on_page, "refresh the page: .venv/bin/python -m tests.roads --write"


def test_each_module_of_a_road_has_a_line_of_its_own() -> None:
    rows = [
        row for _, _, table in roads.TABLE.findall(roads.PAGE.read_text()) for row in roads.ROW.findall(table)
    ]
    assert len(rows) > 50
    assert [module for module, said in rows if not said.strip()] == []


def test_functions_and_classes_that_a_line_of_a_road_names_are_in_its_module() -> None:
    tables = [table for _, _, table in roads.TABLE.findall(roads.PAGE.read_text())]
    named = [
        (module, name)
        for table in tables
        for module, said in roads.ROW.findall(table)
        for name in re.findall(r"`(\w+)`", said)
    ]
    assert len(named) > 10
    missing = [
        (module, name)
        for module, name in named
        if not re.search(rf"\b(?:def|class) {name}\b", (roads.SOURCE / module).read_text())
    ]
    assert missing == []


@pytest.mark.parametrize("page", [roads.PAGE, roads.ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_files_that_the_page_names_exist(page: Path) -> None:
    named = set(re.findall(r"[`( ]([\w*./-]+/[\w*]+\.(?:py|lua|json))\b", page.read_text()))
    assert len(named) > 3
    places = (roads.SOURCE, roads.ROOT)
    assert [name for name in sorted(named) if not any([*place.glob(name)] for place in places)] == []


def test_the_page_names_the_periodic_tasks_of_the_code() -> None:
    source = "".join(path.read_text() for path in sorted(roads.SOURCE.glob("**/*.py")))
    names = [suffix.removeprefix("-") for suffix in roads.PERIODIC]
    assert [name for name in names if f', "{name}")' not in source] == []
    assert [name for name in names if f"`{name}`" not in roads.PAGE.read_text()] == []


def test_the_pictures_are_those_that_are_drawn() -> None:
    images = Path(pictures.IMAGES)
    assert {name: (images / name).read_text() for name in pictures.PICTURES} == {
        name: draw() for name, draw in pictures.PICTURES.items()
    }, "draw them: .venv/bin/python -m tests.pictures"
    assert set(pictures.ABOUT) == set(LAYERS)

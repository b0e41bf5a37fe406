"""The page about the architecture, and its pictures, show the code as it is."""

from pathlib import Path

from tests import pictures, roads
from tests.unit.test_layers import LAYERS

ATTEMPTS = 3
"""How often a road is taken before it counts as another one: a heartbeat may fall into it."""


async def test_the_page_lists_the_modules_of_each_road_in_order(redis_url: str, namespace: str) -> None:
    on_page = roads.roads_on_page()
    assert set(on_page) == set(roads.ROADS)
    for attempt in range(ATTEMPTS):
        taken = roads.listed(await roads.record(redis_url, f"{namespace}-{attempt}"))
        if taken == on_page:
            break
    assert taken == on_page, "refresh the page: .venv/bin/python -m tests.roads --write"


def test_each_module_on_the_page_has_a_line_of_its_own() -> None:
    text = roads.PAGE.read_text()
    rows = [row for _, _, table in roads.TABLE.findall(text) for row in roads.ROW.findall(table)]
    assert len(rows) > 80
    assert [
        module for module, said in rows if not said.strip() or not (roads.SOURCE / module).is_file()
    ] == []


def test_the_pictures_are_those_that_are_drawn() -> None:
    images = Path(pictures.IMAGES)
    assert {name: (images / name).read_text() for name in pictures.PICTURES} == {
        name: draw() for name, draw in pictures.PICTURES.items()
    }, "draw them: .venv/bin/python -m tests.pictures"
    assert set(pictures.ABOUT) == set(LAYERS)

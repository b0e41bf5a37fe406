"""The figures of `scripts/shape`, on sources that pass its limits and on made-up roads."""

from pathlib import Path

import pytest

from tests import shape
from tests.roads import Step

OVER = {
    "modules": {f"m{n}.py": "" for n in range(250)},
    "modules at the root": {f"m{n}.py": "" for n in range(9)},
    "modules under 40 lines": {f"server/m{n}.py": "" for n in range(13)},
    "median lines of a module": {"a.py": "x = 1\n" * 119},
    "lines of the longest module": {"a.py": "x = 1\n" * 601},
    "lines of Python and Lua": {"a.py": "x = 1\n" * 25_000, "backend/b.lua": "x = 1\n" * 25_000},
    "functions above 50 lines, per cent": {"a.py": "def f() -> None:\n" + "    x = 1\n" * 50},
    "type names defined in more than one module": {
        f"{name}.py": "".join(f"class {prefix}T{n}: ...\n" for n in range(13))
        for name, prefix in (("a", ""), ("b", "_"))
    },
    "modules in an import circle, annotations included": {
        "server/a.py": "from .b import B",
        "server/b.py": "if TYPE_CHECKING:\n    from .a import A",
    },
    "imports between the native wire and that of 1.x": {
        "backend/mesa1/a.py": "from ..redis.b import B\nfrom ..redis_client.c import C",
        "backend/redis/b.py": "",
        "backend/redis_client/c.py": "",
    },
    "words that the texts avoid": {"backend/redis/scripts/a.lua": "-- Once\n-- more"},
}


@pytest.mark.parametrize("name", OVER)
def test_a_figure_over_its_limit_is_noticed(tmp_path: Path, name: str) -> None:
    for path, text in OVER[name].items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    figures = {figure.name: figure for figure in shape.measure(tmp_path)}
    assert figures.keys() == OVER.keys()
    assert not figures[name].is_kept
    assert "passed" in str(figures[name])
    assert figures["modules"].value == len([path for path in OVER[name] if path.endswith(".py")])


def test_a_road_counts_its_modules_and_the_returns_to_them() -> None:
    road = [Step("a.py", "f"), Step("a.py", "g"), Step("b.py", "f"), Step("s.lua", "s"), Step("a.py", "f")]
    figures = {
        figure.name: figure.value
        for figure in shape.measure_roads({**dict.fromkeys(shape.ROADS, road), "cut": road[2:3]})
    }
    assert (figures["modules of the road dispatch"], figures["returns on the road dispatch"]) == (2, 1)
    assert (figures["modules of the road resume"], figures["returns on the road resume"]) == (2, 2)

"""The shape of `src/mesa_ws` in figures, and the limits that `make check` holds: `scripts/shape`.

    scripts/shape            print each figure beside its limit; exit with 1 if one is over it
    scripts/shape --roads    take the roads of the page about the architecture, too (needs redis-server)
    scripts/shape FOLDER     measure the sources of another tree, for instance of an older commit

A limit is no aim. A change that passes one either has code to fold, or raises the limit for a reason.
"""

import ast
import asyncio
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests import roads
from tests.unit.test_language import avoided
from tests.unit.test_layers import MAX_FUNCTION, MAX_MODULE, SOURCE, Module, across_wires, circle, read

SMALL = 40
"""Lines below which a module is a small one."""

UNCOUNTED = ("__init__", "__main__", "version")
"""Modules of few lines by nature."""

ROADS: Mapping[str, tuple[int, int]] = {
    "dispatch": (18, 18),  # the second message to an id looks out for the end of the turn
    "message": (23, 105),
    "login": (36, 107),
    "resume": (39, 144),
}
"""Modules of a road at most, and returns to one that was left before; scripts are not counted.

The road of a cut is the first half of that of a resume. What bounds strangers is on each: the feed of
frames, the origin of a page, counts of connections, the allowance before the login, failed logins,
rates, how long a client waited, the turn of its login, the look whether it has gone, messages to very
many clients, deadlines of all clients, slots that ids take in turn. A login is held
against the orders to disconnect and to revoke. A reply of Redis passes connection, batch and pipeline at
once, so that each is a return.
"""


class Figure(NamedTuple):
    """A measured figure with its limit."""

    name: str
    value: float
    limit: float
    is_at_least: bool = False
    found: tuple[str, ...] = ()
    """What to look at, where the limit is passed."""

    @property
    def is_kept(self) -> bool:
        return self.value >= self.limit if self.is_at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.is_at_least else "<="
        line = f"{self.name:<54} {self.value:>8g} {sign} {self.limit:g}"
        return line if self.is_kept else "\n    ".join([f"{line}    <- passed", *self.found])


def measure(source: Path) -> Iterator[Figure]:
    """Measure the sources in a folder."""
    modules = read(source)
    texts = {name: module.text for name, module in modules.items()}
    lines = {name: len(text.splitlines()) for name, text in texts.items()}
    counted = {name: size for name, size in lines.items() if not _is_uncounted(modules[name])}
    sizes = list(counted.values()) or [0]
    scripts = [len(path.read_text().splitlines()) for path in source.rglob("*.lua")]
    small = tuple(f"{name}: {size}" for name, size in counted.items() if size < SMALL)
    functions = list(_functions(modules))
    long = tuple(name for name, size in functions if size > MAX_FUNCTION)
    twice = tuple(f"{name}: {', '.join(places)}" for name, places in _types(modules) if len(places) > 1)
    foreign = tuple(across_wires(modules))
    circular = tuple(circle(modules, with_annotations=True))
    words = tuple(_avoided(source))

    # What frameworks, one port and tests of applications use has 25 of these modules, and 4 000 of the lines.
    yield Figure("modules", len(modules), 245)
    yield Figure("modules at the root", len(list(source.glob("*.py"))), 8)
    yield Figure(f"modules under {SMALL} lines", len(small), 12, found=small)
    yield Figure("median lines of a module", statistics.median(sizes), 120, is_at_least=True)
    yield Figure("lines of the longest module", max(sizes), MAX_MODULE)
    # What bounds strangers, slow readers and overload has 5 000 of these; tokens, origins, orders 1 900;
    # ASGI, one port, frameworks, testing and metrics 3 500; speed 900.
    yield Figure("lines of Python and Lua", sum(lines.values()) + sum(scripts), 45_900)
    share = 100 * len(long) / max(1, len(functions))
    yield Figure(f"functions above {MAX_FUNCTION} lines, per cent", share, 1, found=long)
    yield Figure("type names defined in more than one module", len(twice), 12, found=twice)
    yield Figure("modules in an import circle, annotations included", len(circular), 0, found=circular)
    yield Figure("imports between the native wire and that of 1.x", len(foreign), 0, found=foreign)
    yield Figure("words that the texts avoid", len(words), 0, found=words)


def measure_roads(taken: Mapping[str, list[roads.Step]]) -> Iterator[Figure]:
    """Measure the roads."""
    whole = dict(taken) | {"resume": [*taken["cut"], *taken["resume"]]}
    for name, (modules, returns) in ROADS.items():
        road = [step for step in whole[name] if step.module.endswith(".py")]
        passed = tuple(f"{module}: {n}" for module, n in Counter(roads.entries(road)).most_common(8))
        yield Figure(f"modules of the road {name}", len(roads.modules(road)), modules)
        yield Figure(f"returns on the road {name}", roads.returns(road), returns, found=passed)


def _is_uncounted(module: Module) -> bool:
    return module.is_package or module.place in UNCOUNTED


def _functions(modules: Mapping[str, Module]) -> Iterator[tuple[str, int]]:
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{module.name}.{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def _types(modules: Mapping[str, Module]) -> list[tuple[str, list[str]]]:
    """Return the names of types at the top of modules, without leading underscores, with the modules."""
    places: dict[str, list[str]] = defaultdict(list)
    for module in modules.values():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(module.place)
    return sorted(places.items())


def _avoided(source: Path) -> Iterator[str]:
    for path in sorted(source.rglob("*")):
        if path.suffix in {".py", ".lua"}:
            yield from (f"{path}:{line} {words}" for line, words in avoided(path.read_text()))


def main(arguments: list[str]) -> int:
    folders = [Path(argument) for argument in arguments if not argument.startswith("-")]
    figures = list(measure(folders[0] if folders else SOURCE))
    if "--roads" in arguments:
        figures += measure_roads(asyncio.run(roads.record_alone()))
    print(*figures, sep="\n")
    return 0 if all(figure.is_kept for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

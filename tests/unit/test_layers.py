"""The layers, and other rules that no linter knows, as far as source code shows them.

Layers stand in a row; a file imports only its own part of the package, or parts of layers to the
left:

    root <- concurrency <- messages, redis_client <- handlers, protocol <- backend
         <- server, dispatcher, portal <- middleware, transports <- client, http_server <- public
         <- cli, contrib <- testing

`root` are the modules beside the folders. `public` is the package itself, whose names users import.
"""

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "mesa_ws"
SOURCE = Path(__file__).parents[2] / "src" / PACKAGE

LAYERS: Mapping[str, int] = {
    "root": 0,
    "concurrency": 1,
    "messages": 2,
    "redis_client": 2,
    "handlers": 3,
    "protocol": 3,
    "backend": 4,
    "server": 5,
    "dispatcher": 5,
    "portal": 5,
    "middleware": 6,
    "tokens": 6,
    "transports": 6,
    "client": 7,
    "http_server": 7,
    "public": 8,
    "cli": 9,
    "contrib": 9,
    "testing": 10,
}
"""The parts of the package, each with the place of its layer in the row."""

PLACES: Mapping[str, tuple[str, ...]] = {
    "aiofastnet": ("transports",),
    "aiohappyeyeballs": ("concurrency",),
    "celery": ("contrib.celery",),
    "click": ("cli",),
    "django": ("contrib.django",),
    "fastapi": ("contrib.fastapi",),
    "flask": ("contrib.flask",),
    "cryptography": ("tokens",),
    "h11": ("http_server.service",),
    "hiredis": ("backend.redis_client",),
    "httpcore": ("backend.http",),
    "jwt": ("tokens",),
    "msgspec": ("",),
    "prometheus_client": ("middleware.prometheus",),
    "multidict": ("testing.memory_socket",),
    "picows": ("transports", "testing.memory_socket"),
    "pytest": ("testing.plugin",),
    "redis": ("backend.redis_client", "backend.redis.queue_types"),
    "rich": ("cli",),
    "starlette": ("contrib.fastapi", "http_server", "cli.demo_page"),
    "uvicorn": ("http_server",),
    "uvloop": ("transports", "cli"),
}
"""Where each library is used, and nowhere else; the empty place is everywhere."""

FORBIDDEN: Mapping[str, frozenset[str]] = {
    "root": frozenset({"asyncio", "socket", "redis", "time"}),
    "messages": frozenset({"asyncio", "socket", "redis", "time"}),
    "protocol": frozenset({"asyncio", "socket", "redis", "time", "picows"}),
}
"""What the parts without I/O and clock stay away from."""

EXTRAS = ("mesa_ws.tokens", "mesa_ws.middleware.prometheus")
"""Parts whose libraries are extras of the distribution: a function may import them."""

WIRES: Mapping[str, tuple[str, ...]] = {
    "backend.redis": ("backend.mesa1.",),
    "backend.mesa1": ("backend.redis.",),
    "backend.redis_wire": ("backend.redis.", "backend.mesa1."),
}
"""What the packages of the two Redis wires, and of what they share, import nothing of."""

TASKS = "concurrency.tasks"
"""Where tasks are created, and nowhere else: any other could end before its creator has noted it."""

MAX_MODULE = 600
MAX_FUNCTION = 50


@dataclass(frozen=True)
class Import:
    """One name that a module imports, with what it needs it for."""

    target: str
    line: int
    is_in_function: bool
    is_for_types: bool


@dataclass
class Module:
    """A file of the package."""

    name: str
    is_package: bool
    text: str
    tree: ast.Module = field(init=False)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.text)

    @property
    def place(self) -> str:
        """The dotted name inside the package."""
        return self.name.removeprefix(PACKAGE).removeprefix(".")

    @property
    def part(self) -> str:
        return part_of(self.name)


def part_of(name: str) -> str:
    """The part of the package that a module belongs to; what has no layer of its own is of the root."""
    top, below = (*name.split("."), "", "")[1:3]
    if not top:
        return "public"
    if top == "__main__":
        return "cli"
    if (top, below) == ("backend", "redis_client"):
        return below
    return top if top in LAYERS else "root"


@cache
def read(source: Path) -> dict[str, Module]:
    """Every module of the package, by name."""
    modules = {}
    for path in sorted(source.rglob("*.py")):
        parts = (PACKAGE, *path.relative_to(source).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules[name] = Module(name, is_package, path.read_text())
    return modules


class Imports(ast.NodeVisitor):
    """Collects the imports of a module, wherever they stand."""

    def __init__(self, module: Module, known: Mapping[str, Module]) -> None:
        self.found: list[Import] = []
        self._module = module
        self._known = known
        self._functions = 0
        self._for_types = 0
        self.visit(module.tree)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self._absolute(node)
        for alias in node.names:
            submodule = f"{base}.{alias.name}"
            self._add(submodule if submodule in self._known else base, node.lineno)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._functions += 1
        self.generic_visit(node)
        self._functions -= 1

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - the name that ast looks for

    def visit_If(self, node: ast.If) -> None:
        is_for_types = "TYPE_CHECKING" in ast.unparse(node.test)
        self._for_types += is_for_types
        for child in node.body:
            self.visit(child)
        self._for_types -= is_for_types
        for child in node.orelse:
            self.visit(child)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        up = node.level - self._module.is_package
        parents = self._module.name.split(".")
        return ".".join([*parents[: len(parents) - up], *([node.module] if node.module else [])])

    def _add(self, target: str, line: int) -> None:
        self.found.append(Import(target, line, self._functions > 0, self._for_types > 0))


def imports(modules: Mapping[str, Module]) -> Iterator[tuple[Module, Import]]:
    for module in modules.values():
        for found in Imports(module, modules).found:
            yield module, found


def is_ours(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] == PACKAGE


def from_the_right(modules: Mapping[str, Module]) -> Iterator[str]:
    """Imports that point right, or across."""
    for module, found in imports(modules):
        if module.part == "public" or not is_ours(found.target):
            continue
        to = part_of(found.target)
        if to != module.part and LAYERS[to] >= LAYERS[module.part]:
            yield f"{module.name}:{found.line} is of {module.part} and imports {found.target} of {to}"


def across_wires(modules: Mapping[str, Module]) -> Iterator[str]:
    """Imports from one Redis wire by the other, or by what they share."""
    for module, found in imports(modules):
        for place, wires in WIRES.items():
            target = found.target.removeprefix(f"{PACKAGE}.")
            if module.place.startswith(f"{place}.") and f"{target}.".startswith(wires):
                yield f"{module.name}:{found.line} imports {found.target} of another wire"


def forbidden(modules: Mapping[str, Module]) -> Iterator[str]:
    """I/O and clocks where there shall be none."""
    for module, found in imports(modules):
        if found.target.split(".")[0] in FORBIDDEN.get(module.part, ()):
            yield f"{module.name}:{found.line} is of {module.part} and imports {found.target}"


def out_of_place(modules: Mapping[str, Module]) -> Iterator[str]:
    """Libraries that are used outside the one place that is theirs."""
    for module, found in imports(modules):
        library = found.target.split(".")[0]
        if is_ours(library) or library in sys.stdlib_module_names:
            continue
        if library not in PLACES:
            yield f"{module.name}:{found.line} imports {library}, which has no place in PLACES"
        elif not any(f"{module.place}.".startswith(f"{place}." * bool(place)) for place in PLACES[library]):
            yield f"{module.name}:{found.line} imports {library}, whose place is {PLACES[library]}"


def hidden(modules: Mapping[str, Module]) -> Iterator[str]:
    """Imports inside functions."""
    for module, found in imports(modules):
        if found.is_in_function and not found.target.startswith(EXTRAS):
            yield f"{module.name}:{found.line} imports {found.target} inside a function"


def circle(modules: Mapping[str, Module], *, with_annotations: bool) -> list[str]:
    """Return modules that import each other in a circle; empty if there is none."""
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for module, found in imports(modules):
        if found.target in modules and (with_annotations or not found.is_for_types):
            graph[module.name].add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def circular(modules: Mapping[str, Module]) -> Iterator[str]:
    """Modules that need each other to be imported; annotations alone do not count."""
    if found := circle(modules, with_annotations=False):
        yield " <- ".join(found)


def too_long(modules: Mapping[str, Module]) -> Iterator[str]:
    """Modules and functions over their limits."""
    for module in modules.values():
        if (lines := len(module.text.splitlines())) > MAX_MODULE:
            yield f"{module.name} has {lines} lines, more than {MAX_MODULE}"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION:
                    yield f"{module.name}.{node.name} has {lines} lines, more than {MAX_FUNCTION}"


def creates_tasks(modules: Mapping[str, Module]) -> Iterator[str]:
    """Tasks that a task factory of the application may begin at once."""
    for module in modules.values():
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Attribute) or module.place == TASKS:
                continue
            if node.attr in {"create_task", "ensure_future"}:
                yield f"{module.name}:{node.lineno} calls {node.attr} instead of {TASKS}.start"


Rule = Callable[[Mapping[str, Module]], Iterator[str]]
RULES: tuple[Rule, ...] = (
    *(from_the_right, across_wires, forbidden, out_of_place, hidden, circular, too_long),
    creates_tasks,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    assert list(rule(read(SOURCE))) == []


def test_every_part_is_where_the_layers_say() -> None:
    modules = read(SOURCE)
    assert {"root", "protocol", "redis_client", "server", "transports"} <= {m.part for m in modules.values()}
    assert len(modules) > 30


LONG = "def long():\n" + "    x = 1\n" * 50


@pytest.mark.parametrize(
    ("rule", "files", "complaint"),
    [
        (
            from_the_right,
            {"messages/message.py": "from ..protocol.server import State", "protocol/server.py": ""},
            "mesa_ws.messages.message:1 is of messages and imports mesa_ws.protocol.server of protocol",
        ),
        (
            from_the_right,
            {"protocol/server.py": "from ..backend import base", "backend/base.py": ""},
            "mesa_ws.protocol.server:1 is of protocol and imports mesa_ws.backend.base of backend",
        ),
        (
            from_the_right,
            {"dispatcher.py": "import mesa_ws.server.node", "server/node.py": ""},
            "mesa_ws.dispatcher:1 is of dispatcher and imports mesa_ws.server.node of server",
        ),
        (
            from_the_right,
            {"server/node.py": "from .. import __version__"},
            "mesa_ws.server.node:1 is of server and imports mesa_ws of public",
        ),
        (
            from_the_right,
            {"server/node.py": "if TYPE_CHECKING:\n    from ..cli import main", "cli/main.py": ""},
            "mesa_ws.server.node:2 is of server and imports mesa_ws.cli.main of cli",
        ),
        (
            from_the_right,
            {
                "backend/redis/keys.py": "",
                "backend/redis_client/pool.py": "from ..redis.keys import x",
            },
            "mesa_ws.backend.redis_client.pool:1 is of redis_client"
            " and imports mesa_ws.backend.redis.keys of backend",
        ),
        (
            across_wires,
            {"backend/mesa1/node.py": "from ..redis.keys import Keys", "backend/redis/keys.py": ""},
            "mesa_ws.backend.mesa1.node:1 imports mesa_ws.backend.redis.keys of another wire",
        ),
        (
            across_wires,
            {"backend/redis_wire/node.py": "from .. import mesa1", "backend/mesa1/__init__.py": ""},
            "mesa_ws.backend.redis_wire.node:1 imports mesa_ws.backend.mesa1 of another wire",
        ),
        (
            forbidden,
            {"messages/frames.py": "import time"},
            "mesa_ws.messages.frames:1 is of messages and imports time",
        ),
        (
            forbidden,
            {"protocol/timers.py": "from asyncio.events import AbstractEventLoop"},
            "mesa_ws.protocol.timers:1 is of protocol and imports asyncio.events",
        ),
        (
            out_of_place,
            {"server/node.py": "import redis.asyncio"},
            f"mesa_ws.server.node:1 imports redis, whose place is {PLACES['redis']}",
        ),
        (
            out_of_place,
            {"backend/redisish.py": "import redis"},
            f"mesa_ws.backend.redisish:1 imports redis, whose place is {PLACES['redis']}",
        ),
        (
            out_of_place,
            {"messages/frames.py": "import orjson"},
            "mesa_ws.messages.frames:1 imports orjson, which has no place in PLACES",
        ),
        (
            hidden,
            {"server/node.py": "class Node:\n    async def run(self):\n        from .hooks import Hooks"},
            "mesa_ws.server.node:3 imports mesa_ws.server.hooks inside a function",
        ),
        (
            circular,
            {
                "server/a.py": "from .b import B",
                "server/b.py": "from .c import C",
                "server/c.py": "from . import a",
            },
            "mesa_ws.server.a <- mesa_ws.server.c <- mesa_ws.server.b <- mesa_ws.server.a",
        ),
        (
            circular,
            {"server/__init__.py": "from .node import Node", "server/node.py": "from ..server import Node"},
            "mesa_ws.server.node <- mesa_ws.server <- mesa_ws.server.node",
        ),
        (
            too_long,
            {"messages/frames.py": "x = 1\n" * 601},
            "mesa_ws.messages.frames has 601 lines, more than 600",
        ),
        (
            creates_tasks,
            {"server/node.py": "asyncio.get_running_loop().create_task(work)"},
            "mesa_ws.server.node:1 calls create_task instead of concurrency.tasks.start",
        ),
        (too_long, {"messages/frames.py": LONG}, "mesa_ws.messages.frames.long has 51 lines, more than 50"),
    ],
)
def test_a_broken_rule_is_noticed(
    tmp_path: Path, rule: Rule, files: Mapping[str, str], complaint: str
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    complaints = list(rule(read(tmp_path)))
    assert len(complaints) == 1
    assert sorted(set(complaints[0].split(" <- "))) == sorted(set(complaint.split(" <- ")))


@pytest.mark.parametrize(
    "files",
    [
        {"__init__.py": "from .cli.main import main", "cli/main.py": "from ..server.node import Node"},
        {
            "client/reconnecting.py": "from ..transports.client_socket import connect",
            "settings.py": "import msgspec",
        },
        {"server/a.py": "from .b import B", "server/b.py": "if TYPE_CHECKING:\n    from .a import A"},
        {
            "backend/redis_client/pool.py": "import redis",
            "transports/run.py": "import uvloop",
            "cli/x.py": "import click",
        },
        {"http_server/server.py": "import starlette", "cli/serve.py": "from ..http_server.server import Api"},
        {"__init__.py": "", "cli/main.py": "from .. import __version__"},
        {"backend/urls.py": "from . import mesa1, redis", "backend/redis/x.py": "from ..redis_wire import y"},
        {"concurrency/tasks.py": "task = loop.create_task(work)"},
    ],
)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_what_the_rules_allow_is_allowed(tmp_path: Path, rule: Rule, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert list(rule(read(tmp_path))) == []

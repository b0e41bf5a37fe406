"""The roads through the code, as really taken: record them, and keep them on the page about the architecture.

    .venv/bin/python -m tests.roads              print the roads, module by module
    .venv/bin/python -m tests.roads login        print one of them, with the functions
    .venv/bin/python -m tests.roads --write      put the roads on the page

A road is a list of modules of `src/mesa_ws`, in the order in which they are first called. One process has
server, dispatcher and, for the road of a client's message, portal; the client is another library's. A Lua
script stands where a batch with its command is made. `--write` keeps the line that the page has for a
module. A module that is new on the page gets the first line of its docstring, which should be put into words
for that road.
"""

import ast
import asyncio
import logging
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from mesa_ws import AsyncDispatcher, Connection, Message, Portal, PortalEvent, Server, User, serve
from mesa_ws.backend.redis.scripts import SCRIPTS
from mesa_ws.backend.redis_client.connection import AsyncConnection
from mesa_ws.backend.redis_client.pipeline import Pipeline
from tests.redis_server import RedisServer
from tests.system.server.peer import Peer

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/mesa_ws"
PAGE = ROOT / "docs/explanation/architecture.md"

QUIET = 0.3
"""Seconds without a call into a new module after which a road has ended."""

SETTLING = 0.05
"""Seconds after its last message for which each call of a road counts, later only those into new modules."""

LIMIT = 30.0
"""Seconds within which the processes have to become idle."""

ROADS = ("dispatch", "message", "login", "cut", "resume")
"""Names of the roads, in the order of the page."""

PROGRAMS = ("dispatcher", "server", "portal")
"""Programs in the process, in the order in which a road passes them."""

PERIODIC = ("-heart", "-heartbeat", "-reaper", "-resync", "-grace watch", "-loop-lag")
"""Suffixes of the names of periodic tasks; their calls do not belong to a road."""

TABLE = re.compile(r"(<!-- road: (\w+) -->\n)(.*?)(?=<!-- end of road -->)", re.DOTALL)
ROW = re.compile(r"^\| `([\w./]+)` \| (.*) \|$", re.MULTILINE)
HEAD = "| module | what it does here |\n|---|---|"


class Step(NamedTuple):
    """One call: a module, and a function of it or a script."""

    module: str
    function: str


TIMERS = [Step("backend/redis_client/pipeline.py", name) for name in ("_call", "_on_time", "_set_timer")]
"""Calls of a timer that looks after what was called seconds ago."""

_BATCH = Step("backend/redis_client/batch.py", "__init__")
"""The call that has the commands of its caller, before another task writes them."""

_SCRIPTS = {script.sha: script.name for script in SCRIPTS}

_program: ContextVar[str | None] = ContextVar("program", default=None)
"""The active one of `PROGRAMS`; tasks and callbacks inherit it with the context of their creator."""


@contextmanager
def _as(program: str) -> Iterator[None]:
    token = _program.set(program)
    yield
    _program.reset(token)


@asynccontextmanager
async def recording(road: list[Step]) -> AsyncIterator[None]:
    """Add to `road` each call of a function of `src/mesa_ws` in the block, and those that follow from it.

    The calls of one program come after those of another, in the order of `PROGRAMS`: whether Redis replies
    to a dispatcher before it wakes the server is left to chance. A portal polls Redis all the time, so its
    calls count from when the server has made a command.
    """
    calls: dict[str, list[Step]] = {program: [] for program in PROGRAMS}

    def note(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not (steps := _steps_of(frame)) or _is_periodic() or steps[0] in TIMERS:
            return
        _follow(frame)
        program = _program.get() or PROGRAMS[0]
        if program != "portal" or any(step.module.endswith(".lua") for step in calls["server"]):
            calls[program].extend(steps)

    async def reach_no_more() -> None:
        known: set[tuple[str, str]] = set()
        async with asyncio.timeout(LIMIT):
            await asyncio.sleep(QUIET)
            while grown := {(who, step.module) for who in calls for step in calls[who]} - known:
                known |= grown
                await asyncio.sleep(QUIET)

    sys.setprofile(note)
    try:
        await reach_no_more()
        for each in calls.values():
            each.clear()
        yield
        await asyncio.sleep(SETTLING)
        settled = {program: len(each) for program, each in calls.items()}
        await reach_no_more()
    finally:
        sys.setprofile(None)
    for program, each in calls.items():
        counted, late = each[: settled[program]], each[settled[program] :]
        known = {step.module for step in counted}
        road += counted
        road += [step for step in late if step.module not in known]


_pipelines: WeakKeyDictionary[Pipeline, str | None] = WeakKeyDictionary()
"""The program that each pipeline belongs to."""


def _follow(frame: FrameType) -> None:
    """Count what has no context of a caller to the program of the callers: a pipeline's task and replies."""
    found = frame.f_locals.get("self")
    if isinstance(found, AsyncConnection):
        found = getattr(found._on_end, "__self__", None)
    if isinstance(found, Pipeline):
        if _program.get() is None:
            _program.set(_pipelines.get(found))
        else:
            _pipelines[found] = _program.get()


def _steps_of(frame: FrameType) -> list[Step]:
    code = frame.f_code
    if code.co_name.startswith("<") or not code.co_filename.startswith(f"{SOURCE}/"):
        return []
    steps = [Step(Path(code.co_filename).relative_to(SOURCE).as_posix(), code.co_name)]
    commands = frame.f_locals.get("commands") if steps == [_BATCH] else None
    names = (_SCRIPTS.get(command[1]) for command in commands or () if command[0] == "EVALSHA")
    return steps + [Step(f"backend/redis/scripts/{name}.lua", name) for name in names if name]


def _is_periodic() -> bool:
    with suppress(RuntimeError):  # this thread has no running event loop
        task = asyncio.current_task()
        return task is not None and task.get_name().endswith(PERIODIC)
    return False


@asynccontextmanager
async def _serving(url: str, namespace: str, **options: Any) -> AsyncIterator[str]:
    server = Server(url, namespace=namespace, sync=True, **options)

    @server.authenticator
    async def authenticate(data: Any, _: Connection) -> User:
        return User(data["id"])

    async with AsyncExitStack() as stack:
        with _as("server"):
            endpoint = await stack.enter_async_context(serve(server, "127.0.0.1", 0))
        yield endpoint.url


async def record(url: str, namespace: str) -> dict[str, list[Step]]:
    """Take each road, after a warm-up of everything that it needs."""
    roads: dict[str, list[Step]] = {name: [] for name in ROADS}
    _program.set(PROGRAMS[0])
    async with (
        _serving(url, namespace) as address,
        AsyncDispatcher(url, namespace=namespace, sync=True) as dispatcher,
        Peer.connect(address) as peer,
        AsyncExitStack() as stack,
    ):
        position = await peer.log_in("7", wire=2)
        await dispatcher.dispatch(Message(0, 0, "WARM"), ["7"])
        await peer.until(t="WARM")
        async with recording(roads["dispatch"]):
            await dispatcher.dispatch(Message(0, 1, "ROAD"), ["7"])
            last = await peer.until(t="ROAD")
        async with recording(roads["login"]):
            new = await stack.enter_async_context(Peer.connect(address))
            await new.log_in("8", wire=2)
        async with recording(roads["cut"]):
            peer.socket.transport.abort()
        await dispatcher.dispatch(Message(0, 2, "ROAD"), ["7"])
        async with recording(roads["resume"]):
            returning = await stack.enter_async_context(Peer.connect(address))
            await returning.log_in("7", wire=2, resume={"e": position["e"], "s": last["s"]})
            await returning.until(t="ROAD")
    async with (
        _serving(url, f"{namespace}-portals", portals=True) as address,
        Peer.connect(address) as peer,
        AsyncExitStack() as stack,
    ):
        portal = Portal(url, namespace=f"{namespace}-portals")
        handled: asyncio.Queue[Any] = asyncio.Queue()

        @portal.on_message
        async def handle(event: PortalEvent) -> None:
            handled.put_nowait(event)

        with _as("portal"):
            await stack.enter_async_context(portal)
        await peer.log_in("7", wire=2)
        await peer.send("WARM")
        await asyncio.wait_for(handled.get(), LIMIT)
        async with recording(roads["message"]):
            await peer.send("ROAD")
            await asyncio.wait_for(handled.get(), LIMIT)
    return roads


def modules(road: list[Step]) -> list[str]:
    """Return the modules of a road in the order of their first calls."""
    return list(dict.fromkeys(step.module for step in road))


def listed(roads: Mapping[str, list[Step]]) -> dict[str, list[str]]:
    """Return what the page lists of each road: of a resumed login, what other logins do not pass."""
    lists = {name: modules(road) for name, road in roads.items()}
    lists["resume"] = [module for module in lists["resume"] if module not in lists["login"]]
    return lists


def returns(road: list[Step]) -> int:
    """Count the calls that return to a module already left."""
    entered = entries(road)
    return len(entered) - len(set(entered))


def entries(road: list[Step]) -> list[str]:
    """Return a module each time that a call enters it from another one."""
    return [
        step.module
        for last, step in zip([None, *road], road, strict=False)
        if not last or last.module != step.module
    ]


def roads_on_page() -> dict[str, list[str]]:
    """Return the modules of each road as the page lists them."""
    return {
        name: [module for module, _ in ROW.findall(rows)] for _, name, rows in TABLE.findall(PAGE.read_text())
    }


def write(roads: Mapping[str, list[Step]]) -> None:
    """Write the roads to the page, and keep its lines about modules."""

    lists = listed(roads)

    def table(found: re.Match[str]) -> str:
        said = dict(ROW.findall(text)) | dict(ROW.findall(found[3]))
        rows = [f"| `{module}` | {said.get(module) or _summary(module)} |" for module in lists[found[2]]]
        return "\n".join([found[1], HEAD, *rows, "\n"])

    text = PAGE.read_text()
    PAGE.write_text(TABLE.sub(table, text))


def _summary(module: str) -> str:
    """Return the first line of what the file says about itself."""
    text = (SOURCE / module).read_text()
    if module.endswith(".py"):
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    return next(line.removeprefix("--").strip() for line in text.splitlines() if line.startswith("-- "))


async def record_alone() -> dict[str, list[Step]]:
    """Take each road with a Redis of its own, which stores nothing on disk."""
    logging.getLogger("mesa_ws").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(Path(folder))
        redis.start()
        try:
            return await record(redis.url, "roads")
        finally:
            redis.stop()


def main(arguments: list[str]) -> None:
    roads = asyncio.run(record_alone())
    if "--write" in arguments:
        write(roads)
    for name, road in roads.items():
        if name in arguments or not set(arguments) & set(roads):
            print(
                f"{name}: {len(modules(road))} modules, {len(set(road))} functions, {returns(road)} returns"
            )
            for module in modules(road):
                functions = dict.fromkeys(step.function for step in road if step.module == module)
                print(f"    {module}", f": {', '.join(functions)}" if name in arguments else "", sep="")


if __name__ == "__main__":
    main(sys.argv[1:])

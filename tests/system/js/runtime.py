"""Objects that drive JavaScript clients, which run in one process of Node, Deno or Bun."""

import asyncio
import itertools
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.system.waiting import until

DRIVER = Path(__file__).with_name("driver.mjs")

LIMIT = 30.0
"""Seconds within which the process has to end."""

LONGEST_LINE = 16 * 1024 * 1024

SOON = {"maxPause": 0.01}
"""Comes back as soon as it can."""

NOTE_MESSAGES = """mesa.on("*", (data, message) => note("message", message));"""


class JsError(Exception):
    """An error that JavaScript threw.

    Attributes:
        name: name of its class.
        code: code of a `MesaError`.
    """

    def __init__(self, name: str | None = None, code: str | None = None, text: str = "") -> None:
        super().__init__(f"{name} {code}: {text}")
        self.name = name
        self.code = code


class Event(NamedTuple):
    """A note of a client.

    Attributes:
        kind: `message`, `state`, `lost`, `forked`, `reset`, `error`, `closed`, `token`, `saved`, `sent`,
            `received`, or what a test names it.
        value: its data.
    """

    kind: str
    value: Any


class Runtime:
    """The process, and the calls that wait for its results."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._clients: dict[str, JsClient] = {}

    @classmethod
    @asynccontextmanager
    async def running(cls, *command: str) -> AsyncIterator["Runtime"]:
        """Run the driver until the end of the context.

        Args:
            command: the command, including the driver and its arguments.
        """
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, limit=LONGEST_LINE, cwd=DRIVER.parent
        )
        runtime = cls(process)
        reading = asyncio.create_task(runtime._read())
        try:
            yield runtime
        finally:
            assert process.stdin is not None
            process.stdin.close()
            async with asyncio.timeout(LIMIT):
                await asyncio.gather(process.wait(), reading)

    async def open(self, url: str, setup: str, options: Mapping[str, Any]) -> "JsClient":
        """Make a client, which connects at once, after `setup`."""
        client = JsClient(self, f"c{len(self._clients)}")
        self._clients[client.name] = client
        await self.call(client.name, None, [url, options, setup])
        return client

    def call(self, *order: Any) -> asyncio.Future[Any]:
        """Send a command to the driver now, and return its result."""
        number = next(self._numbers)
        done = self._calls[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([number, *order]).encode() + b"\n")
        return done

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            news = json.loads(line)
            if "client" in news:
                self._clients[news["client"]].events.append(Event(news["kind"], news["value"]))
            elif "error" in news:
                self._calls.pop(news["id"]).set_exception(JsError(**news["error"]))
            else:
                self._calls.pop(news["id"]).set_result(news["result"])
        for call in self._calls.values():
            call.set_exception(JsError(text="the process has ended"))


class JsClient:
    """One `MesaClient`. The calls begin at once, whether their results are awaited or not.

    Attributes:
        name: its name in the process.
        events: its notes so far.
    """

    def __init__(self, runtime: Runtime, name: str) -> None:
        self._runtime = runtime
        self.name = name
        self.events: list[Event] = []

    @property
    def messages(self) -> list[Any]:
        """Data of the client's messages so far."""
        return [message["data"] for message in self.all("message")]

    @property
    def states(self) -> list[str]:
        """States of the client so far."""
        return [state["state"] for state in self.all("state")]

    def all(self, *kinds: str) -> list[Any]:
        """Return the notes of these kinds so far."""
        return [event.value for event in self.events if event.kind in kinds]

    async def heard(self, count: int) -> list[Any]:
        """Wait until `count` messages have arrived; return the data of all."""
        await self.noted("message", count)
        return self.messages

    async def noted(self, kind: str, count: int = 1) -> list[Any]:
        """Wait until a kind was noted `count` times; return all notes of this kind."""
        try:
            await until(lambda: len(self.all(kind)) >= count)
        except TimeoutError:
            raise AssertionError(f"expected {count} of {kind}, got only {self._shown}") from None
        return self.all(kind)

    async def opened(self, count: int = 1) -> None:
        """Wait until the client is open for the `count`-th time."""
        try:
            await until(lambda: self.states.count("open") >= count)
        except TimeoutError:
            raise AssertionError(f"expected it to open {count} times, got {self._shown}") from None

    @property
    def _shown(self) -> list[Event]:
        return [event for event in self.events if event.kind not in {"sent", "received"}]

    def evaluate(self, code: str, *values: Any) -> asyncio.Future[Any]:
        """Run JavaScript with the client; see `driver.mjs`."""
        return self._runtime.call(self.name, code, values)

    def send(self, type: str | None, data: Any = None, **options: Any) -> asyncio.Future[None]:
        """Send a message."""
        return self.evaluate("return mesa.send(...values)", type, data, options)

    def request(self, type: str | None, data: Any = None, **options: Any) -> asyncio.Future[Any]:
        """Send a request to the server."""
        return self.evaluate("return mesa.request(...values)", type, data, options)

    def close(self, code: int = 1000) -> asyncio.Future[None]:
        """Close the client."""
        return self.evaluate("return mesa.close(...values)", code)


class Clients:
    """Makes the clients of one test."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._opened: list[JsClient] = []

    async def client(self, url: str, setup: str = NOTE_MESSAGES, **options: Any) -> JsClient:
        """Make a client, which connects at once.

        Args:
            url: URL of the server.
            setup: JavaScript to run before the client connects; by default it notes messages.
            options: those of `MesaClient`. A list as `token` is a function that returns one after the other,
                `positions` is the path of a file; `socket="global"` has the class of WebSockets that the
                runtime brings, and `watch=True` notes frames.
        """
        client = await self._runtime.open(url, setup, {"reconnect": SOON, "socket": "ws"} | options)
        self._opened.append(client)
        return client

    async def aclose(self) -> None:
        """Close all clients."""
        await asyncio.gather(*(client.close() for client in self._opened))

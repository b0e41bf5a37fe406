"""`mesa demo`: see it work, in a few seconds."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import click
from rich.table import Table
from rich.text import Text

from ..backend.redis import Address
from ..client import Client
from ..messages.message import Message
from ..transports.run import Interrupted
from .demo_page import control, kept
from .demo_servers import LISTEN, REPLICAS, DemoFailed, DispatchRun, ServerRun, dispatch, server
from .output import compact, console, from_command_line, note_address, plain, print_json
from .process import run

CLIENTS = ("0", "1", "2")
"""The ids that are connected."""

END = "DEMO_END"
"""Type of the last message, to everybody: after it nothing is on its way any more."""


class Scene(NamedTuple):
    """One dispatch.

    Attributes:
        type: of the message.
        data: of the message.
        to: how to tell people whom it is for.
        options: how to tell `mesa dispatch` the same.
        receivers: the ids that have to receive it, and nobody else.
    """

    type: str
    data: dict[str, Any]
    to: str
    options: tuple[str, ...]
    receivers: frozenset[str]


SCENES = (
    Scene("STATUS_UPDATE", {"status": "online"}, '["0", "1"]', ("--to", "0,1"), frozenset({"0", "1"})),
    Scene(
        "NEW_MESSAGE",
        {"content": "hi"},
        "everybody but 1",
        ("--all", "--excluding", "1"),
        frozenset({"0", "2"}),
    ),
    Scene("GLOBAL_ALERT", {"alert": True}, '["*"]', ("--to", "*"), frozenset(CLIENTS)),
)

CURTAIN = Scene(END, {}, "everybody", ("--all",), frozenset(CLIENTS))


LIMIT = 15.0
"""Seconds in which everything that was dispatched has to arrive."""


class Arrival(NamedTuple):
    """A message at a client; `at` is in seconds since 1970."""

    type: str | None
    data: Any
    at: float


class Audience:
    """Clients that note what comes, as it comes.

    Args:
        seats: which server each id connects to.

    Attributes:
        notes: what each id has received so far.
    """

    def __init__(self, seats: Mapping[str, str]) -> None:
        self.seats = seats
        self.notes: dict[str, list[Arrival]] = {id: [] for id in seats}
        self._ends = {id: asyncio.Event() for id in seats}

    async def take_seats(self, open_clients: AsyncExitStack) -> None:
        """Connect and authenticate everybody; `open_clients` closes them."""
        for id, url in self.seats.items():
            client = Client(url)
            client.on_message(partial(self._note, id))
            await open_clients.enter_async_context(client)
            await client.authenticate({"id": id})

    async def received(self) -> Mapping[str, Sequence[Arrival]]:
        """What each id received, in order, once the last message has come to everybody.

        Raises:
            DemoFailed: it did not come.
        """
        try:
            async with asyncio.timeout(LIMIT):
                await asyncio.gather(*(end.wait() for end in self._ends.values()))
        except TimeoutError:
            seen = {id: [arrival.type for arrival in notes] for id, notes in self.notes.items()}
            raise DemoFailed(f"clients: expected every message within {LIMIT:g} s, got {seen}") from None
        return self.notes

    def _note(self, id: str, message: Message) -> None:
        if message.type == END:
            self._ends[id].set()
        else:
            self.notes[id].append(Arrival(message.type, message.data, time.time()))


@asynccontextmanager
async def audience(urls: Sequence[str]) -> AsyncIterator[Audience]:
    """Connect the clients, spread over the servers, for as long as the block lasts."""
    everybody = Audience({id: urls[index % len(urls)] for index, id in enumerate(CLIENTS)})
    async with AsyncExitStack() as open_clients:
        await everybody.take_seats(open_clients)
        yield everybody


_NOT_FOR_IT = "-"


class Report(NamedTuple):
    """The outcome of the demo.

    Attributes:
        runs: the dispatches, in the order of `SCENES`.
        received: what each id received, in order.
        seats: the server each id was connected to.
    """

    runs: Sequence[DispatchRun]
    received: Mapping[str, Sequence[Arrival]]
    seats: Mapping[str, str]

    @property
    def problems(self) -> list[str]:
        """Everything that differs from what had to happen; empty when all is well."""
        return [problem for id, arrivals in self.received.items() for problem in _problems(id, arrivals)]

    @property
    def document(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        return {
            "ok": not self.problems,
            "problems": self.problems,
            "servers": dict(self.seats),
            "dispatches": [
                {
                    "type": scene.type,
                    "data": scene.data,
                    "to": scene.to,
                    "process": sent.pid,
                    "received_after_ms": self._delays_ms(scene, sent),
                }
                for scene, sent in zip(SCENES, self.runs, strict=True)
            ],
        }

    def print(self) -> None:
        """Print it as a table: a row a dispatch, a column a client."""
        table = Table("dispatched", "to", "by process", *(f"client {id}" for id in self.received))
        for scene, sent in zip(SCENES, self.runs, strict=True):
            delays = self._delays_ms(scene, sent)
            cells = [Text(_shown(delays.get(id)), justify="right") for id in self.received]
            table.add_row(
                plain(f"{scene.type} {compact(scene.data)}"), plain(scene.to), str(sent.pid), *cells
            )
        output = console()
        output.print(table)
        output.print(f"Milliseconds from dispatch to receipt; {_NOT_FOR_IT} received nothing.")

    def _delays_ms(self, scene: Scene, sent: DispatchRun) -> dict[str, float]:
        return {
            id: round((arrival.at - sent.outcome.dispatched_at) * 1000, 1)
            for id, arrivals in self.received.items()
            for arrival in arrivals
            if arrival.type == scene.type
        }


def _shown(delay_ms: float | None) -> str:
    return _NOT_FOR_IT if delay_ms is None else f"{delay_ms:.1f}"


def _problems(id: str, arrivals: Sequence[Arrival]) -> Iterator[str]:
    expected = [(scene.type, compact(scene.data)) for scene in SCENES if id in scene.receivers]
    got = [(arrival.type or "-", compact(arrival.data)) for arrival in arrivals]
    for name, data in expected:
        if (name, data) not in got:
            yield f"client {id}: expected {name} {data}, got none"
    for name, data in sorted(set(got)):
        if (name, data) not in expected:
            yield f"client {id}: expected no {name} {data}, got one"
        elif got.count((name, data)) > 1:
            yield f"client {id}: expected {name} {data} once, got it {got.count((name, data))} times"
    if sorted(got) == sorted(expected) and got != expected:
        yield f"client {id}: expected the order of dispatch, got {', '.join(name for name, _ in got)}"


class Stage(NamedTuple):
    """Servers that run.

    Attributes:
        urls: where clients connect to.
        dispatching: the environment in which `mesa dispatch` finds the way to them.
    """

    urls: Sequence[str]
    dispatching: Mapping[str, str]


async def play(redis: str | None) -> Report:
    """Play every scene and report what was received.

    Args:
        redis: URI of the Redis that two replicas share; None for one server without Redis.

    Raises:
        DemoFailed: a process did not do its work.
        MesaError: a client could not connect.
    """
    stage_of_kind = _embedded() if redis is None else _replicated(redis)
    async with stage_of_kind as stage, audience(stage.urls) as clients:
        runs = [await _dispatched(scene, stage) for scene in (*SCENES, CURTAIN)]
        return Report(runs[: len(SCENES)], await clients.received(), clients.seats)


@asynccontextmanager
async def _embedded() -> AsyncIterator[Stage]:
    key = secrets.token_urlsafe(24)
    async with server((*LISTEN, "--api-port", "0"), {"MESA_API_KEY": key}) as started:
        yield Stage([started.url], {"MESA_URL": started.api_url or "", "MESA_API_KEY": key})


@asynccontextmanager
async def _replicated(redis: str) -> AsyncIterator[Stage]:
    namespace = f"demo-{secrets.token_hex(8)}"
    settings = {"MESA_REDIS": redis, "MESA_NAMESPACE": namespace}
    async with AsyncExitStack() as running:
        started: list[ServerRun] = [
            await running.enter_async_context(server((*LISTEN, "--no-api"), settings))
            for _ in range(REPLICAS)
        ]
        yield Stage([one.url for one in started], {"MESA_URL": redis, "MESA_NAMESPACE": namespace})


async def _dispatched(scene: Scene, stage: Stage) -> DispatchRun:
    return await dispatch((scene.type, compact(scene.data), *scene.options), stage.dispatching)


_SETTING = {
    "memory": "One server, with outboxes in its memory; with redis-server 7 installed they outlive it.",
    "own redis": f"{REPLICAS} servers on a redis-server of the demo's own.",
    "redis": f"{REPLICAS} servers on your Redis.",
}


@click.command(short_help="Show all of it at work in a few seconds.")
@click.option(
    "--redis",
    metavar="URL",
    envvar="MESA_REDIS",
    callback=note_address,
    help=f"Play it with {REPLICAS} replicas on this Redis instead of one server on the embedded backend.  "
    "[MESA_REDIS]",
)
@click.option(
    "--keep",
    is_flag=True,
    help="Print the address of a page to play with, and stay until Ctrl-C: two users in a browser, "
    "dispatches, and servers to kill.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_context
def demo(context: click.Context, redis: str | None, keep: bool, as_json: bool) -> None:
    """Start a server, connect clients, dispatch from another process, show who received what.

    Clients 0, 1 and 2 are connected. Messages go to ["0", "1"], to everybody but 1, and to
    everybody, each from a process of its own. Succeeds only if everybody received exactly what
    was for them. Everything that was started is stopped at the end.
    """
    if redis is not None:
        with from_command_line():
            Address.of(redis)
    if keep:
        with suppress(Interrupted):
            run(_stay(redis, as_json))
        return
    try:
        report = run(play(redis))
    except Interrupted as interrupted:
        context.exit(interrupted.exit_code)
    show(report, redis, as_json)


def show(report: Report, redis: str | None, as_json: bool) -> None:
    """Print the outcome.

    Raises:
        DemoFailed: somebody received something else than what was for them.
    """
    if as_json:
        print_json(report.document)
    else:
        _print(report, redis)
    if report.problems:
        raise DemoFailed(f"the demo went otherwise than it had to: {'; '.join(report.problems)}")
    if not as_json:
        click.echo("ok: everybody received exactly what was for them.")
        click.echo("In a browser: make demo KEEP=1, or mesa demo --keep")


async def _stay(redis: str | None, as_json: bool) -> None:
    """Serve the page until the task is cancelled."""
    async with kept(redis) as stage, control(stage) as url:
        if as_json:
            servers = [each.url for each in stage.servers]
            print_json({"page": url, "servers": servers, "storage": stage.storage})
        else:
            click.echo(f"See it at {url} (Ctrl-C stops everything)")
            click.echo(_SETTING[stage.storage])
        await asyncio.Event().wait()


def _print(report: Report, redis: str | None) -> None:
    if redis is None:
        click.echo(f"One server on the embedded backend, at {report.seats['0']}.")
    else:
        seats = ", ".join(f"client {id} at {url}" for id, url in report.seats.items())
        click.echo(f"{REPLICAS} replicas on {Address.of(redis).label}: {seats}.")
    report.print()

"""`mesa demo`: show Mesa at work in a few seconds."""

import asyncio
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
from .demo_page import demo_page
from .demo_servers import REPLICAS, DemoFailed, DispatchRun, dispatch, running_servers
from .output import compact, console, from_command_line, note_address, plain, print_json
from .process import run

CLIENTS = ("0", "1", "2")
"""The ids of the clients."""

END = "DEMO_END"
"""Type of the last message, to everybody: when it has arrived, all others have."""


class DemoDispatch(NamedTuple):
    """One dispatch of the demo.

    Attributes:
        type: the type of the message.
        data: its data.
        to: its recipients, as the table shows them.
        options: its recipients, as options of `mesa dispatch`.
        receivers: exactly the ids that have to receive it.
    """

    type: str
    data: dict[str, Any]
    to: str
    options: tuple[str, ...]
    receivers: frozenset[str]


DISPATCHES = (
    DemoDispatch("STATUS_UPDATE", {"status": "online"}, '["0", "1"]', ("--to", "0,1"), frozenset({"0", "1"})),
    DemoDispatch(
        "NEW_MESSAGE",
        {"content": "hi"},
        "everybody but 1",
        ("--all", "--excluding", "1"),
        frozenset({"0", "2"}),
    ),
    DemoDispatch("GLOBAL_ALERT", {"alert": True}, '["*"]', ("--to", "*"), frozenset(CLIENTS)),
)

LAST_DISPATCH = DemoDispatch(END, {}, "everybody", ("--all",), frozenset(CLIENTS))


LIMIT = 15.0
"""Seconds in which all messages have to arrive."""


class Arrival(NamedTuple):
    """A message at a client; `at` is in seconds since 1970."""

    type: str | None
    data: Any
    at: float


class DemoClients:
    """Clients that record the messages that they receive.

    Attributes:
        urls: the server that each id connects to.
        notes: the messages that each id has received so far.
    """

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.urls = urls
        self.notes: dict[str, list[Arrival]] = {id: [] for id in urls}
        self._ends = {id: asyncio.Event() for id in urls}

    async def received(self) -> Mapping[str, Sequence[Arrival]]:
        """Return the messages that each id received, in order, once all have received the last one."""
        try:
            async with asyncio.timeout(LIMIT):
                await asyncio.gather(*(end.wait() for end in self._ends.values()))
        except TimeoutError:
            seen = {id: [arrival.type for arrival in notes] for id, notes in self.notes.items()}
            raise DemoFailed(f"clients: expected every message within {LIMIT:g} s, got {seen}") from None
        return self.notes

    def note(self, id: str, message: Message) -> None:
        """Record a message that a client has received."""
        if message.type == END:
            self._ends[id].set()
        else:
            self.notes[id].append(Arrival(message.type, message.data, time.time()))


@asynccontextmanager
async def connected_clients(urls: Sequence[str]) -> AsyncIterator[DemoClients]:
    """Connect the clients, spread over the servers, for as long as the block lasts."""
    clients = DemoClients({id: urls[index % len(urls)] for index, id in enumerate(CLIENTS)})
    async with AsyncExitStack() as open_clients:
        for id, url in clients.urls.items():
            client = Client(url)
            client.on_message(partial(clients.note, id))
            await open_clients.enter_async_context(client)
            await client.authenticate({"id": id})
        yield clients


_NOT_FOR_IT = "-"


class DemoReport(NamedTuple):
    """The outcome of the demo.

    Attributes:
        runs: the dispatches, in the order of `DISPATCHES`.
        received: the messages that each id received, in order.
        urls: the server that each id was connected to.
    """

    runs: Sequence[DispatchRun]
    received: Mapping[str, Sequence[Arrival]]
    urls: Mapping[str, str]

    @property
    def problems(self) -> list[str]:
        """The differences from the expected outcome; empty if there are none."""
        return [problem for id, arrivals in self.received.items() for problem in _problems(id, arrivals)]

    @property
    def document(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return {
            "ok": not self.problems,
            "problems": self.problems,
            "servers": dict(self.urls),
            "dispatches": [
                {
                    "type": planned.type,
                    "data": planned.data,
                    "to": planned.to,
                    "process": sent.pid,
                    "received_after_ms": self._delays_ms(planned, sent),
                }
                for planned, sent in zip(DISPATCHES, self.runs, strict=True)
            ],
        }

    def print(self) -> None:
        """Print a table: one row for each dispatch, one column for each client."""
        table = Table("dispatched", "to", "by process", *(f"client {id}" for id in self.received))
        for planned, sent in zip(DISPATCHES, self.runs, strict=True):
            delays = self._delays_ms(planned, sent)
            cells = [Text(_shown(delays.get(id)), justify="right") for id in self.received]
            table.add_row(
                plain(f"{planned.type} {compact(planned.data)}"), plain(planned.to), str(sent.pid), *cells
            )
        output = console()
        output.print(table)
        output.print(f"Milliseconds from dispatch to receipt; {_NOT_FOR_IT} received nothing.")

    def _delays_ms(self, planned: DemoDispatch, sent: DispatchRun) -> dict[str, float]:
        return {
            id: round((arrival.at - sent.dispatched_at) * 1000, 1)
            for id, arrivals in self.received.items()
            for arrival in arrivals
            if arrival.type == planned.type
        }


def _shown(delay_ms: float | None) -> str:
    return _NOT_FOR_IT if delay_ms is None else f"{delay_ms:.1f}"


def _problems(id: str, arrivals: Sequence[Arrival]) -> Iterator[str]:
    expected = [(planned.type, compact(planned.data)) for planned in DISPATCHES if id in planned.receivers]
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


async def run_demo(redis: str | None) -> DemoReport:
    """Run every dispatch, on two replicas if a Redis is given, and report which client received what."""
    async with (
        running_servers(redis, starts_redis=False) as demo,
        connected_clients([each.url for each in demo.servers]) as clients,
    ):
        runs = [
            await dispatch((planned.type, compact(planned.data), *planned.options), demo.variables)
            for planned in (*DISPATCHES, LAST_DISPATCH)
        ]
        return DemoReport(runs[: len(DISPATCHES)], await clients.received(), clients.urls)


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
    everybody, each from a process of its own. Succeeds only if each client received exactly the
    messages for it. Stops everything that it started.
    """
    if redis is not None:
        with from_command_line():
            Address.of(redis)
    if keep:
        with suppress(Interrupted):
            run(_stay(redis, as_json))
        return
    try:
        report = run(run_demo(redis))
    except Interrupted as interrupted:
        context.exit(interrupted.exit_code)
    show(report, redis, as_json)


def show(report: DemoReport, redis: str | None, as_json: bool) -> None:
    """Print the outcome; raise `DemoFailed` if it differs from the expected one."""
    if as_json:
        print_json(report.document)
    else:
        _print(report, redis)
    if report.problems:
        raise DemoFailed(f"the outcome differs from the expected one: {'; '.join(report.problems)}")
    if not as_json:
        click.echo("ok: each client received exactly the messages for it.")
        click.echo("In a browser: make demo KEEP=1, or mesa demo --keep")


async def _stay(redis: str | None, as_json: bool) -> None:
    """Serve the page until the task is cancelled."""
    async with running_servers(redis, starts_redis=True) as demo, demo_page(demo) as url:
        if as_json:
            servers = [each.url for each in demo.servers]
            print_json({"page": url, "servers": servers, "storage": demo.storage})
        else:
            click.echo(f"See it at {url} (Ctrl-C stops everything)")
            click.echo(_SETTING[demo.storage])
        await asyncio.Event().wait()


def _print(report: DemoReport, redis: str | None) -> None:
    if redis is None:
        click.echo(f"One server on the embedded backend, at {report.urls['0']}.")
    else:
        urls = ", ".join(f"client {id} at {url}" for id, url in report.urls.items())
        click.echo(f"{REPLICAS} replicas on {Address.of(redis).label}: {urls}.")
    report.print()
